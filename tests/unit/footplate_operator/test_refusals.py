"""A call that is refused costs what it is about, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from footplate_operator.errors import ClusterError, ObjectInvalid, RequestForbidden
from footplate_operator.runtime import refusals
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import CONFIG_MAP, DISRUPTION_BUDGET, POD, SECRET, SERVICE, Kind
from footplate_operator.runtime.refusals import RefusalCategory
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.fake_cluster import Clock
from tests.support.operator_fakes import NAME
from tests.support.operator_world import World, running

NOW = Clock()()
TRAINING = {
    "steps": 10_000,
    "globalBatchSize": 8,
    "microBatchSize": 2,
    "optimizer": {"learningRate": 1e-3},
}


async def test_a_refused_deletion_holds_back_no_substitute() -> None:
    world = await running(training=TRAINING, podRetentionSeconds=60)
    world.end_pod("tiny-w1-0", 137)
    await world.live(20, until=lambda: "tiny-w1-1" in world.workers("Running") and world.phase == "Running")
    world.cluster.refuse["delete", POD] = RequestForbidden("pods tiny-w1-0 is forbidden", 403)
    await world.live(70)
    world.cluster.bury(POD, "tiny-w0-0")
    await world.live(5, until=lambda: "tiny-w0-2" in world.workers())
    assert "tiny-w1-0" in world.workers(), "its retention is over"
    assert world.condition("Reconciled")["message"] == "pods tiny-w1-0 is forbidden"
    world.cluster.refuse.clear()
    await world.live(90, until=lambda: "tiny-w1-0" not in world.workers())
    await world.live(5)
    assert world.condition("Reconciled")["status"] == "True"


@pytest.mark.parametrize(
    ("refused", "made"),
    [
        pytest.param(SECRET, [], id="secret"),
        pytest.param(CONFIG_MAP, [], id="run-config"),
        pytest.param(SERVICE, [], id="service"),
        pytest.param(DISRUPTION_BUDGET, ["tiny-c1"], id="disruption-budget"),
    ],
)
async def test_pods_wait_for_what_they_need_alone(refused: Kind, made: list[str]) -> None:
    world = World()
    world.cluster.refuse["create", refused] = RequestForbidden("exceeded quota", 403)
    world.submit()
    await world.reconcile()
    assert world.cluster.names(POD) == made
    assert world.condition("Reconciled")["message"] == "exceeded quota"
    world.cluster.refuse.clear()
    await world.live(30, until=lambda: world.phase == "Running")


async def test_what_cannot_be_taken_from_a_deleted_run_holds_back_no_namesake() -> None:
    world = await running()
    world.cluster.refuse["delete_all", POD] = RequestForbidden("pods is forbidden", 403)
    world.cluster.bury(TRAINING_RUN, NAME)
    world.submit()
    await world.reconcile()
    assert world.phase == "Starting"


@pytest.mark.parametrize("status", [pytest.param(429, id="busy"), pytest.param(503, id="away")])
async def test_a_busy_api_server_is_told_after_half_a_minute_and_once(status: int) -> None:
    world = await running()
    world.trains = False
    await world.live(5)
    world.cluster.bury(POD, "tiny-w1-0")
    world.cluster.refuse["create", POD] = ClusterError("try again", status)
    await world.live(25)
    assert world.phase == "Restarting", "what is seen is told"
    assert world.condition("Reconciled")["status"] == "True"
    before = world.cluster.calls.count("apply TrainingRun")
    await world.live(35)
    said = world.condition("Reconciled")
    assert (said["status"], said["reason"], said["message"]) == ("False", "ApiError", "try again")
    assert world.cluster.calls.count("apply TrainingRun") == before + 1
    world.cluster.refuse.clear()
    world.trains = True
    await world.live(10, until=lambda: world.phase == "Running")
    assert world.status["restarts"] == 1


async def test_a_pod_that_was_not_made_is_not_counted_as_made() -> None:
    """The call for the pod has no answer, the one for the status has."""
    world = await running()
    world.trains = False
    world.cluster.bury(POD, "tiny-w1-0")
    world.cluster.refuse["create", POD] = ClusterError("no answer within 30 s")
    await world.live(20)
    world.cluster.refuse.clear()
    world.trains = True
    await world.live(20, until=lambda: world.phase == "Running")
    assert world.workers("Running") == ["tiny-w0-0", "tiny-w1-1"]
    assert (world.status["failures"], world.status["restarts"]) == ({"NodeLost": 1}, 1)


async def test_a_webhook_that_denies_for_a_moment_fails_no_run() -> None:
    world = World()
    world.cluster.refuse["create", POD] = ObjectInvalid("admission webhook denied the request: oops", 400)
    world.submit()
    await world.live(30)
    assert world.phase == "Starting"
    assert "denied the request" in world.condition("Reconciled")["message"]
    world.cluster.refuse.clear()
    await world.live(30, until=lambda: world.phase == "Running")


async def test_what_is_not_accepted_for_a_minute_fails_a_run() -> None:
    world = World()
    world.cluster.refuse["create", POD] = ObjectInvalid("volumeMounts[0].name: not found", 422, "Invalid")
    world.submit()
    await world.live(55)
    assert world.phase == "Starting"
    assert "volumeMounts" in world.condition("Reconciled")["message"]
    await world.live(10, until=lambda: world.phase == "Failed")
    assert "volumeMounts" in world.condition("Failed")["message"]


BUSY, AWAY, GONE = ClusterError("busy", 429), ClusterError("away", 503), ClusterError("refused")
WRONG, DENIED = ObjectInvalid("wrong", 422), RequestForbidden("denied", 403)


@pytest.mark.parametrize(
    ("refused", "seconds", "said"),
    [
        pytest.param([], 0, None, id="nothing"),
        pytest.param([GONE], 999, ("refused", "passing"), id="nobody-there"),
        pytest.param([BUSY], 29, ("busy", "passing"), id="busy"),
        pytest.param([AWAY, BUSY], 30, ("away", ""), id="busy-for-long"),
        pytest.param([WRONG], 59, ("wrong", ""), id="not-accepted"),
        pytest.param([WRONG], 60, ("wrong", "final"), id="never-accepted"),
        pytest.param([DENIED], 999, ("denied", ""), id="denied"),
        pytest.param([GONE, BUSY, DENIED], 1, ("denied", ""), id="what-is-to-be-told-first"),
    ],
)
def test_what_a_refusal_means(
    refused: list[ClusterError], seconds: float, said: tuple[str, str] | None
) -> None:
    since = {sort: NOW - timedelta(seconds=seconds) for sort in RefusalCategory}
    problem = refusals.find_problem(refused, since, NOW)
    assert (problem and (problem.message, _how(problem))) == said


def _how(problem: ReconcileProblem) -> str:
    return " ".join(name for name in ("final", "passing") if getattr(problem, name))


@pytest.mark.parametrize(
    ("rounds", "age"),
    [
        pytest.param([[BUSY], [BUSY], [AWAY]], 20, id="stands"),
        pytest.param([[BUSY], [], [BUSY]], 0, id="was-over"),
        pytest.param([[WRONG], [WRONG, BUSY], [BUSY]], 10, id="each-sort-by-itself"),
    ],
)
def test_since_when_a_refusal_stands(rounds: Iterable[list[ClusterError]], age: float) -> None:
    since: refusals.Standing = {}
    for number, refused in enumerate(rounds):
        now = NOW + timedelta(seconds=10 * number)
        since = refusals.refused_since(since, refused, now)
    assert now - since[RefusalCategory.BUSY] == timedelta(seconds=age)
