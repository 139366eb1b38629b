"""Workers of one run in one topology domain: where pods are put, and which are made first."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_contracts.names import WorkerId
from footplate_contracts.v1alpha1.computeprofile import Scheduling
from footplate_contracts.v1alpha1.placement import PackPlacement
from footplate_operator.runtime.kinds import NODE, Json
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.gang.plan import Slots, plan_workers
from footplate_operator.trainingrun.node_cache import NodeCache
from footplate_operator.trainingrun.observation import PodView, live_nodes
from footplate_operator.trainingrun.packing import GangPacking, TargetDomain
from footplate_operator.trainingrun.run_cache import INCOMPLETE, RunCache
from tests.support.clock import Clock
from tests.support.fake_cluster import FakeCluster
from tests.support.operator_runs import frozen, run, spare_pod, worker_pod

RACK = "example.com/rack"
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
RATHER, MUST = PackPlacement(topology_key=RACK), PackPlacement(topology_key=RACK, required=True)


def pod(index: int, node: str = "", **more: Any) -> PodView:
    return PodView(
        name=f"w{index}", uid=f"w{index}", role="worker", created=NOW, index=index, node=node, **more
    )


def packing(pack: PackPlacement, **domains: str) -> GangPacking:
    return GangPacking(pack, domains, lambda: frozenset({"full"}))


# -- manifests ----------------------------------------------------------------------------


def spec(place: TargetDomain | None, spare: bool = False, **scheduling: Any) -> Json:
    subject = run()
    revision = frozen(subject, scheduling={"nodeSelector": {"pool": "a"}, **scheduling})
    make = spare_pod if spare else worker_pod
    body: Json = make(subject, revision, WorkerId(1, 0), "", frozenset({"bad"}), place)["spec"]
    return body


def affinity(body: Json) -> Json:
    found: Json = body["affinity"]["nodeAffinity"]
    return found


@pytest.mark.parametrize("spare", [False, True])
def test_others_need_the_domain_of_the_first_worker_by_node_selector(spare: bool) -> None:
    body = spec(TargetDomain(MUST, "a"), spare)
    assert body["nodeSelector"] == {"pool": "a", RACK: "a"}
    assert "preferredDuringSchedulingIgnoredDuringExecution" not in affinity(body)
    assert "podAffinity" not in body["affinity"] and "topologySpreadConstraints" not in body


def test_the_first_worker_needs_some_domain_and_prefers_one_with_room() -> None:
    body = spec(TargetDomain(MUST, "", frozenset({"c", "b"})))
    assert body["nodeSelector"] == {"pool": "a"}
    assert affinity(body) == {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {
                    "matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["bad"]}],
                    "matchExpressions": [{"key": RACK, "operator": "Exists"}],
                }
            ]
        },
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": 100,
                "preference": {
                    "matchExpressions": [{"key": RACK, "operator": "NotIn", "values": ["b", "c"]}]
                },
            }
        ],
    }


def test_where_it_is_not_required_others_prefer_the_domain() -> None:
    body = spec(TargetDomain(RATHER, "a"))
    assert body["nodeSelector"] == {"pool": "a"}
    preferred = affinity(body)["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred[0]["preference"]["matchExpressions"] == [
        {"key": RACK, "operator": "In", "values": ["a"]}
    ]


def test_a_run_states_its_own_placement() -> None:
    own = {"placement": {"spread": {"topologyKey": "zone"}}}
    subject = run(compute={"profile": "local-cpu", "nodes": 2, **own})
    revision = frozen(subject, scheduling={"topologyKey": RACK})
    (spread,) = worker_pod(subject, revision, WorkerId(0, 0), "")["spec"]["topologySpreadConstraints"]
    assert spread["topologyKey"] == "zone"


def test_spread_is_what_topology_key_was() -> None:
    assert spec(None, placement={"spread": {"topologyKey": RACK}}) == spec(None, topologyKey=RACK)


# -- which domain, and who is first -----------------------------------------------------------


@pytest.mark.parametrize(
    ("pods", "domain"),
    [
        pytest.param([], "", id="none"),
        pytest.param([pod(0)], "", id="pending"),
        pytest.param([pod(1, "x"), pod(0, "y")], "b", id="of-two-the-lowest-slot"),
        pytest.param([pod(0, "y"), pod(1, "x"), pod(2, "z")], "a", id="the-most"),
        pytest.param([pod(0, "y", phase="Failed"), pod(1, "x")], "a", id="the-live"),
    ],
)
def test_the_domain_is_where_most_live_workers_are(pods: list[PodView], domain: str) -> None:
    assert packing(MUST, x="a", z="a", y="b").find_domain(live_nodes(pods)) == domain


def test_only_the_first_may_avoid_domains() -> None:
    assert packing(MUST, x="a").find_target([]).avoided == {"full"}
    assert packing(MUST, x="a").find_target(["x"]) == TargetDomain(MUST, "a")


def test_a_node_without_the_label_holds_nobody_up_who_merely_prefers_a_domain() -> None:
    assert packing(MUST).awaits_first(["x"])
    assert not packing(RATHER).awaits_first(["x"])
    assert packing(RATHER).awaits_first([""])


def plan(*pods: PodView, **slots: Any) -> tuple[list[int], int]:
    """Slots of the workers to be made, and how many wait."""
    made = plan_workers(Slots(nodes=3, counter=-1, launched=False, fresh=True, **slots), pods, NOW)
    assert made.held == 0 or not made.complete
    return [slot.index for slot in made.missing], made.held


@pytest.mark.parametrize(
    ("pods", "expected"),
    [
        pytest.param([], ([0], 2), id="a-first-one"),
        pytest.param([pod(0)], ([], 2), id="it-is-pending"),
        pytest.param([pod(2)], ([], 2), id="another-slot-is-pending"),
        pytest.param([pod(0, phase="Failed", ended_since=NOW)], ([0], 2), id="it-failed"),
    ],
)
def test_one_worker_is_made_before_the_others(pods: list[PodView], expected: tuple[list[int], int]) -> None:
    assert plan(*pods, first_only=True) == expected


def test_all_others_are_made_at_once() -> None:
    assert plan(pod(0, "x"), first_only=False) == ([1, 2], 0)


def test_a_first_worker_that_is_lost_has_a_substitute_before_the_others() -> None:
    assert plan(pod(0, "x"), first_only=True, lost=frozenset({WorkerId(0, 0)})) == ([0], 2)


# -- what is known of nodes --------------------------------------------------------------------


def node(name: str, rack: str = "", version: int = 1, **more: Any) -> Json:
    labels = {"pool": "a", **({RACK: rack} if rack else {})}
    metadata = {"name": name, "uid": name, "resourceVersion": str(version), "labels": labels}
    return {"metadata": metadata, "spec": {}, **more}


def known(*bodies: Json) -> NodeCache:
    nodes = NodeCache(FakeCluster(Clock(), kinds=(NODE,)))
    for body in bodies:
        nodes.put(body)
    return nodes


POOL = Scheduling(node_selector={"pool": "a"})


def test_a_label_is_unknown_only_where_there_are_nodes_that_lack_it() -> None:
    assert known().has_label(RACK, POOL)
    assert known(node("x")).has_label(RACK, Scheduling(node_selector={"pool": "b"}))
    assert not known(node("x")).has_label(RACK, POOL)
    assert known(node("x"), node("y", "a")).has_label(RACK, POOL)


def test_a_label_that_comes_or_goes_is_seen() -> None:
    nodes = known(node("x"))
    nodes.track_pods(Key("team", "tiny"), "uid", [pod(0, "x")])
    assert not nodes.list_labelled(RACK)
    assert nodes.put(node("x", "a", version=2)) == [Key("team", "tiny")]
    assert nodes.list_labelled(RACK) == {"x": "a"}
    nodes.drop(node("x"))
    assert not nodes.list_labelled(RACK)


def test_domains_with_too_few_free_nodes_are_narrow() -> None:
    nodes = known(
        *(node(name, name[0]) for name in ("a1", "a2", "b1", "b2", "c1", "c2")),
        node("d1", "d"),
        node("e1", "e") | {"metadata": {**node("e1", "e")["metadata"], "labels": {RACK: "e"}}},
    )
    nodes.put(node("b2", "b", 2, status={"conditions": [{"type": "Ready", "status": "Unknown"}]}))
    nodes.track_pods(Key("team", "other"), "uid", [pod(0, "c1")])
    assert nodes.list_narrow_domains(RACK, POOL, 2) == {"b", "c", "d", "e"}


# -- domains that had no room ---------------------------------------------------------------------


def test_a_domain_that_a_gang_left_incomplete_is_avoided_for_a_while() -> None:
    cache = RunCache()
    cache.note_domain("a", complete=False, now=NOW)
    assert not cache.failed_domains(NOW)
    cache.note_domain("", complete=False, now=NOW)
    assert cache.failed_domains(NOW) == {"a"}
    assert not cache.failed_domains(NOW + INCOMPLETE)


def test_a_domain_that_held_all_of_a_gang_is_not_avoided() -> None:
    cache = RunCache()
    cache.note_domain("a", complete=True, now=NOW)
    cache.note_domain("", complete=False, now=NOW)
    assert not cache.failed_domains(NOW)
