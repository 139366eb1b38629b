"""Whatever keeps the operator from an object is a condition of it, and passes with its reason."""

from __future__ import annotations

import pytest

from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.runtime.kinds import REVISION, SERVICE
from tests.support.operator_fakes import KEY
from tests.support.operator_world import World, running


async def _look(world: World, seconds: float, error: type[Exception]) -> None:
    """Reconcile as the queue does: again a second after each failure."""
    for _ in range(int(seconds)):
        with pytest.raises(error):
            await world.reconciler(KEY)
        world.clock.advance(1)
        await world.watches.deliver(world.handlers)


async def _heals(world: World) -> None:
    world.cluster.refuse.clear()
    world.queue.add(KEY)
    await world.live(5, until=lambda: world.condition("Reconciled")["status"] == "True")


async def test_a_list_that_is_refused_is_told_at_once() -> None:
    world = await running()
    world.trains = False
    world.clock.advance(400)  # the children are listed again
    world.cluster.refuse["find", SERVICE] = RequestForbidden("services is forbidden", 403, "Forbidden")
    await _look(world, 1, RequestForbidden)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"], said["message"]) == ("False", "ApiError", "services is forbidden")
    assert world.phase == "Running", "and nothing else is touched"
    await _heals(world)


async def test_an_api_server_that_is_busy_is_told_after_half_a_minute() -> None:
    world = await running()
    world.trains = False
    world.clock.advance(400)
    world.cluster.refuse["find", SERVICE] = ClusterError("too many requests", 429)
    await _look(world, 29, ClusterError)
    assert world.condition("Reconciled")["status"] == "True"
    await _look(world, 3, ClusterError)
    assert world.condition("Reconciled")["message"] == "too many requests"
    await _heals(world)


async def test_a_mistake_of_the_operator_is_told_and_names_itself() -> None:
    world = await running()
    world.trains = False
    world.clock.advance(400)
    world.cluster.refuse["find", SERVICE] = ZeroDivisionError("division by zero")
    await _look(world, 3, ZeroDivisionError)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"]) == ("False", "OperatorError")
    assert said["message"].endswith("its log has the traceback: ZeroDivisionError: division by zero")
    await _heals(world)


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(ClusterError("connection reset"), id="unanswered"),
        pytest.param(ClusterError("too many requests", 429), id="busy"),
        pytest.param(RequestForbidden("controllerrevisions is forbidden", 403, "Forbidden"), id="forbidden"),
    ],
)
@pytest.mark.parametrize("resumed", [False, True], ids=["first", "resumed"])
async def test_a_revision_that_was_refused_is_written_by_the_next_operator(
    refusal: ClusterError, resumed: bool
) -> None:
    world = await running() if resumed else World()
    if resumed:
        world.change(suspend=True)
        await world.live(60, until=lambda: world.phase == "Suspended")
    phase, revision = ("Suspended", "tiny-1") if resumed else ("", "")
    world.cluster.refuse["create", REVISION] = refusal
    if resumed:
        world.change(suspend=False, training={**world.run["spec"]["training"], "steps": 77})
    else:
        world.submit()
    await world.live(3)
    assert world.status.get("revision", "") == revision, "nothing names what is not there"
    assert world.phase == (phase or "Queued" if isinstance(refusal, RequestForbidden) else phase)
    world.start_operator()
    del world.cluster.refuse["create", REVISION]
    await world.live(30, until=lambda: world.phase == "Running")
    assert world.status["revision"] == ("tiny-2" if resumed else "tiny-1")


async def test_what_refuses_a_revision_is_told() -> None:
    world = World()
    world.cluster.refuse["create", REVISION] = RequestForbidden("no revisions here", 403, "Forbidden")
    world.submit()
    await world.live(2)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"], said["message"]) == ("False", "ApiError", "no revisions here")
    assert world.phase == "Queued"
    await _heals(world)
    await world.live(30, until=lambda: world.phase == "Running")
