"""What is made of Node objects, and whom their changes wake."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.v1alpha1.computeprofile import DISRUPTION_TAINTS, DisruptionTaint, Scheduling
from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.kinds import NODE, Json
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.node import Taint, trim_node, view_node
from footplate_operator.trainingrun.node_cache import ASK_AGAIN, NodeCache
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.policies import node_disruption
from tests.support.fake_cluster import FakeCluster
from tests.support.operator_fakes import KEY
from tests.support.operator_world import running

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
POD_THERE = PodView(
    name="tiny-w0-0", uid="pod", namespace="default", owner_uid="run", role="worker", created=NOW, node="a"
)


def node(ready: str = "True", uid: str = "first", version: int = 1, **spec: object) -> Json:
    """A Node object with more in it than is read."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": "a",
            "uid": uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "annotations": {"long": "text"},
        },
        "spec": {"podCIDR": "10.0.0.0/24", **spec},
        "status": {
            "conditions": [{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": ready}],
            "images": [{"names": ["large"]}],
        },
    }


def nodes(*bodies: Json, cluster: FakeCluster | None = None) -> NodeCache:
    """Nodes with a run that has a pod on `a`."""
    known = NodeCache(cluster or FakeCluster())
    for body in bodies:
        known.put(body)
    known.track_pods(KEY, "run", [POD_THERE])
    return known


def test_a_lean_node_is_read_as_the_whole_one_is() -> None:
    body = node("Unknown", unschedulable=True, taints=[{"key": "k", "effect": "NoSchedule"}])
    lean = trim_node(body)
    assert view_node(lean) == view_node(body)
    assert len(str(lean)) < len(str(body)) and "images" not in str(lean)
    assert trim_node(lean) == lean


def lost(known: NodeCache, pod: PodView = POD_THERE) -> str:
    """Why Kubernetes holds the node of `pod` to be gone."""
    return known.complete(pod, known.list_disruptions(Scheduling())).node_lost


@pytest.mark.parametrize(
    ("after", "wakes"),
    [
        pytest.param(node(version=2), [], id="a-heartbeat"),
        pytest.param(node("Unknown", version=2), [KEY], id="not-heard"),
        pytest.param(node("False", version=0), [], id="old-news"),
        pytest.param(node(uid="second", version=2), [KEY], id="made-again"),
        pytest.param(node(version=2, unschedulable=True), [KEY], id="cordoned"),
    ],
)
def test_whom_a_change_wakes(after: Json, wakes: list[Key]) -> None:
    known = nodes(node())
    assert known.put(after) == wakes
    known.track_pods(KEY, "run", [replace(POD_THERE, uid="moved", node="b")])
    assert known.put(node("False", version=9)) == [], "nobody is there any more"


def test_what_a_node_says_of_a_pod() -> None:
    known = nodes(node())
    assert lost(known) == ""
    known.put(node("Unknown", version=2))
    assert lost(known) == "its condition Ready is Unknown"
    assert known.drop(node(version=3)) == [KEY]
    assert lost(known) == "its Node is deleted"
    assert known.put(node(version=2)) == [], "late word of the one that is gone"
    assert lost(known) == "its Node is deleted"
    known.put(node(uid="second", version=4))
    assert lost(known) == "its Node was recreated"
    later = replace(POD_THERE, uid="later")
    known.track_pods(KEY, "run", [POD_THERE, later])
    assert lost(known, later) == "", "it was put on the new one"
    assert known.drop(node(version=5)) == [], "the first one is long gone"
    known.forget("run")
    assert known.put(node("False", uid="second", version=6)) == []


def test_of_a_node_that_was_never_seen_nothing_is_said() -> None:
    assert lost(nodes()) == ""


async def test_what_no_watch_told_is_asked_about() -> None:
    cluster = FakeCluster()
    known = nodes(cluster=cluster)
    await known.refresh(["a", ""], NOW)
    assert lost(known) == "its Node is deleted"
    cluster.put(node("Unknown"))
    await known.refresh(["a"], NOW + ASK_AGAIN / 2)
    assert lost(known) == "its Node is deleted", "it was asked about just now"
    await known.refresh(["a"], NOW + ASK_AGAIN)
    assert lost(known) == "its condition Ready is Unknown"


class Refusing(FakeCluster):
    """It answers with an error."""

    error: ClusterError = ClusterError("", 500)
    asked = 0

    async def get(self, kind: object, namespace: str, name: str) -> Json:
        self.asked += 1
        raise self.error


async def test_what_may_not_be_seen_is_not_known() -> None:
    cluster = Refusing()
    known = nodes(node("Unknown"), cluster=cluster)
    await known.refresh(["a"], NOW)
    assert lost(known) != "", "an API server in trouble says nothing of a node"
    cluster.error = RequestForbidden("no right", 403)
    await known.refresh(["a"], NOW + ASK_AGAIN)
    assert lost(known) == ""
    await known.refresh(["a"], NOW + timedelta(seconds=60))
    assert cluster.asked == 2, "a right that is missing is not asked for again and again"


async def test_a_node_wakes_the_runs_that_are_there() -> None:
    world = await running()
    world.queue.due.clear()
    place = next(pod["spec"]["nodeName"] for pod in world.cluster.all(POD_THERE.kind))
    told = Handlers(world.reconciler.controller, world.cache, world.queue).watches()[NODE]
    for name, woken in (("elsewhere", []), (place, [KEY])):
        body = node("Unknown", uid=name)
        body["metadata"]["name"] = name
        await told({"type": "MODIFIED", "object": body})
        assert list(world.queue.due) == woken


SPOT = "aws-node-termination-handler/spot-itn"
NOTICE = (SPOT, "a", "NoSchedule")
CORDON = "node.kubernetes.io/unschedulable"


@pytest.mark.parametrize(
    ("taint", "scheduling", "said"),
    [
        pytest.param((SPOT, "", "NoSchedule"), {}, f"its node has the taint {SPOT}", id="a-spot-notice"),
        pytest.param(
            (SPOT, "1234", "PreferNoSchedule"), {}, f"its node has the taint {SPOT}", id="any-value"
        ),
        pytest.param((CORDON, "", "NoSchedule"), {}, "its node is cordoned", id="a-cordon"),
        pytest.param(
            ("kubernetes.azure.com/scalesetpriority", "spot", "NoSchedule"), {}, "", id="a-capacity"
        ),
        pytest.param(
            ("aws-node-termination-handler/rebalance-recommendation", "", "NoSchedule"), {}, "", id="no-end"
        ),
        pytest.param((SPOT, "", "NoSchedule"), {"disruptionTaints": []}, "", id="none-is-named"),
        pytest.param(NOTICE, {"disruptionTaints": [{"key": SPOT, "value": "b"}]}, "", id="value"),
        pytest.param(NOTICE, {"disruptionTaints": [{"key": SPOT, "effect": "NoExecute"}]}, "", id="effect"),
        pytest.param(NOTICE, {"tolerations": [{"key": SPOT, "operator": "Exists"}]}, "", id="tolerated"),
        pytest.param(NOTICE, {"tolerations": [{"key": SPOT, "value": "a"}]}, "", id="equal"),
        pytest.param(
            NOTICE,
            {"tolerations": [{"key": SPOT, "value": "b"}]},
            f"its node has the taint {SPOT}",
            id="another-is-tolerated",
        ),
        pytest.param(
            NOTICE,
            {"tolerations": [{"operator": "Exists"}]},
            f"its node has the taint {SPOT}",
            id="everything-is-tolerated",
        ),
    ],
)
def test_which_taints_announce_an_end(taint: tuple[str, str, str], scheduling: Json, said: str) -> None:
    assert node_disruption.get_disruption_reason([Taint(*taint)], Scheduling.from_json(scheduling)) == said


@pytest.mark.parametrize(
    ("effect", "tolerations", "admitted"),
    [
        pytest.param("NoSchedule", [], False, id="repelled"),
        pytest.param("PreferNoSchedule", [], True, id="only-preferred-not"),
        pytest.param("NoSchedule", [{"operator": "Exists"}], True, id="everything-is-tolerated"),
        pytest.param("NoSchedule", [{"operator": "Exists", "effect": "NoExecute"}], False, id="other-effect"),
    ],
)
def test_where_the_scheduler_would_put_pods(effect: str, tolerations: list[Json], admitted: bool) -> None:
    scheduling = Scheduling(tolerations=tolerations)
    assert node_disruption.is_schedulable([Taint(SPOT, "", effect)], scheduling) is admitted
    known = nodes(node(taints=[{"key": SPOT, "effect": effect}]))
    assert known.filter_schedulable(known.list_disruptions(scheduling), scheduling) == (
        {"a"} if admitted else frozenset()
    )


def test_a_cordon_is_a_taint_before_the_node_controller_has_set_it() -> None:
    cordoned = node(unschedulable=True)
    both = node(unschedulable=True, taints=[{"key": CORDON, "effect": "NoSchedule"}])
    assert view_node(cordoned).taints == view_node(both).taints
    assert nodes(cordoned).list_disruptions(Scheduling()) == {"a": "its node is cordoned"}
    stays = Scheduling(disruption_taints=[DisruptionTaint(key=key) for key in DISRUPTION_TAINTS[1:]])
    assert nodes(cordoned).list_disruptions(stays) == {}


def test_pods_leave_a_node_that_is_deleted() -> None:
    known = nodes(node())
    known.drop(node())
    assert known.complete(POD_THERE, {}).notice == "the Node a is deleted"


def test_a_notice_that_is_withdrawn_is_forgotten() -> None:
    known = nodes(node(unschedulable=True))
    assert known.complete(POD_THERE, known.list_disruptions(Scheduling())).notice == "its node is cordoned"
    known.put(node(version=2))
    assert known.list_disruptions(Scheduling()) == {}
