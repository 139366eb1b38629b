"""Who reaches the pods of a run: a NetworkPolicy of those that are admitted with one."""

from __future__ import annotations

from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import NETWORK_POLICY, POD
from footplate_operator.scope import Scope
from tests.support.fake_cluster import copied
from tests.support.operator_fakes import DEFAULTS, run_manifest
from tests.support.operator_world import World
from tests.support.released.found import found

GUARDING = DEFAULTS.model_copy(update={"network_policy": True})
LONG = {**run_manifest()["spec"]["training"], "steps": 10_000}


def guarded(home: str = "footplate-system") -> World:
    """A world whose operator admits runs with a policy."""
    world = World()
    world.defaults, world.scope = GUARDING, Scope(home=home)
    world.start_operator()
    return world


async def test_it_is_there_before_any_pod_and_goes_with_the_end() -> None:
    world = guarded()
    world.submit()
    made: list[str] = []
    world.cluster.watches.append(lambda event, body: made.append(body["kind"]) if event == "ADDED" else None)
    await world.live(30, until=lambda: world.phase == "Running")
    assert made.index("NetworkPolicy") < made.index("Pod")
    await world.live(60, until=lambda: world.phase == "Succeeded")
    await world.live(10)
    assert not world.cluster.names(NETWORK_POLICY)


async def test_a_run_that_was_admitted_without_gets_none_before_it_is_resumed() -> None:
    world = found("training").world()
    world.defaults, world.scope = GUARDING, Scope(home="footplate-system")
    world.start_operator()
    world.kubelet_works = world.trains = True
    await world.live(10)
    assert not world.cluster.names(NETWORK_POLICY)
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    world.change(suspend=False)
    await world.live(60, until=lambda: world.phase == "Running")
    assert world.cluster.names(NETWORK_POLICY) == ["tiny"]


async def test_an_installation_that_comes_from_elsewhere_is_let_in() -> None:
    world = guarded()
    world.submit(training=LONG)
    await world.live(30, until=lambda: world.phase == "Running")
    pods = world.cluster.names(POD)
    world.scope = Scope(home="another")
    world.start_operator()
    await world.live(5)
    [policy] = world.cluster.all(NETWORK_POLICY)
    [_, operator] = policy["spec"]["ingress"]
    assert operator["from"][0]["namespaceSelector"]["matchLabels"] == {
        "kubernetes.io/metadata.name": "another"
    }
    assert world.cluster.names(POD) == pods and world.condition("Reconciled")["status"] == "True"


async def test_one_that_may_not_be_made_keeps_no_pod_from_training() -> None:
    world = guarded()
    world.cluster.refuse["create", NETWORK_POLICY] = RequestForbidden("networkpolicies is forbidden", 403)
    world.submit(training=LONG)
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.condition("Reconciled")["message"] == "networkpolicies is forbidden"


async def test_an_edited_one_is_set_right() -> None:
    world = guarded()
    world.submit(training=LONG)
    await world.live(30, until=lambda: world.phase == "Running")
    body = copied(world.cluster.objects[NETWORK_POLICY, "tiny"])
    body["spec"]["ingress"] = [{}]
    world.cluster.put(body)
    await world.live(3)
    assert len(world.cluster.objects[NETWORK_POLICY, "tiny"]["spec"]["ingress"]) == 2
