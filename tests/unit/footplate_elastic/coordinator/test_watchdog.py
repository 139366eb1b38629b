"""When a standstill is a hang, and what is told of it."""

from __future__ import annotations

import pytest

from footplate_contracts.diagnosis import DiagnosisKind
from footplate_contracts.directives import Directives, HangTimeouts
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import Heartbeat
from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.coordinator.core import Coordinator
from footplate_elastic.coordinator.state import Rendezvous
from footplate_elastic.coordinator.telemetry import TelemetryBuffer
from footplate_elastic.coordinator.timing import EXAMINED
from footplate_elastic.coordinator.watchdog import Watchdog, WatchdogAction
from tests.unit.footplate_elastic.coordinator.story import Story, agent, any_size

BOUNDS = HangTimeouts(
    factor=3.0,
    floor_seconds=60.0,
    loading_seconds=200.0,
    first_step_seconds=300.0,
    checkpoint_seconds=400.0,
    validation_seconds=500.0,
    rollout_seconds=700.0,
    scoring_seconds=800.0,
)
SAMPLING = pytest.mark.parametrize(
    ("phase", "allowed"), [(RankPhase.ROLLOUT, 700.0), (RankPhase.SCORING, 800.0)]
)


def report(
    rank: int,
    step: int,
    phase: RankPhase = RankPhase.COMPUTE,
    seconds: float | None = None,
    progress: int | None = None,
) -> RankReport:
    return RankReport(
        rank=rank, local_rank=rank, step=step, phase=phase, step_seconds=seconds, progress=progress
    )


def stepping(step_seconds: float = 1.0, size: int = 2) -> Watchdog:
    """Two ranks that have finished ten steps by second 100."""
    watchdog = Watchdog(BOUNDS)
    watchdog.begin(size, now=90.0)
    for step in range(1, 11):
        for rank in (0, 1):
            watchdog.report(report(rank, step, seconds=step_seconds), now=90.0 + step)
    return watchdog


@pytest.mark.parametrize(
    ("step_seconds", "after", "action"),
    [
        pytest.param(1.0, 59.0, WatchdogAction.NOTHING, id="within-the-floor"),
        pytest.param(1.0, 61.0, WatchdogAction.DUMP, id="beyond-the-floor"),
        pytest.param(40.0, 119.0, WatchdogAction.NOTHING, id="slow-steps-take-their-time"),
        pytest.param(40.0, 121.0, WatchdogAction.DUMP, id="three-times-nearly-all-steps"),
    ],
)
def test_a_standstill(step_seconds: float, after: float, action: WatchdogAction) -> None:
    assert stepping(step_seconds).check(100.0 + after) is action


@pytest.mark.parametrize(
    ("phase", "allowed", "field"),
    [
        pytest.param(RankPhase.STARTING, 200.0, "loadingSeconds", id="starting"),
        pytest.param(RankPhase.LOADING, 200.0, "loadingSeconds", id="loading"),
        pytest.param(RankPhase.CHECKPOINT, 400.0, "checkpointSeconds", id="saving"),
        pytest.param(RankPhase.DIAGNOSIS, 400.0, "checkpointSeconds", id="writing-a-record"),
        pytest.param(RankPhase.FINISHED, 400.0, "checkpointSeconds", id="ending"),
        pytest.param(RankPhase.VALIDATION, 500.0, "validationSeconds", id="validating"),
        pytest.param(RankPhase.ROLLOUT, 700.0, "rolloutSeconds", id="sampling"),
        pytest.param(RankPhase.SCORING, 800.0, "scoringSeconds", id="scoring"),
    ],
)
def test_while_any_rank_is_in_some_phases_all_may_stand_still_so_long(
    phase: RankPhase, allowed: float, field: str
) -> None:
    watchdog = stepping()
    watchdog.report(report(1, 10, RankPhase.DATA), now=100.0)
    watchdog.report(report(1, 10, phase), now=101.0)
    assert watchdog.check(101.0 + allowed) is WatchdogAction.NOTHING
    assert watchdog.check(101.5 + allowed) is WatchdogAction.DUMP
    assert watchdog.get_limit().field == f"resilience.hang.{field}"


def test_a_bound_below_that_of_a_step_does_not_make_a_phase_the_shorter_for_the_others() -> None:
    watchdog = stepping(step_seconds=100.0)
    watchdog.report(report(1, 10, RankPhase.LOADING), now=101.0)
    assert watchdog.check(100.0 + 300.0) is WatchdogAction.NOTHING
    assert watchdog.get_limit().field == "resilience.hang.factor"


def test_every_phase_has_a_bound() -> None:
    for phase in RankPhase:
        watchdog = stepping()
        watchdog.report(report(1, 10, phase), now=100.0)
        assert watchdog.check(100_000.0) is WatchdogAction.DUMP, phase


def test_the_next_phase_has_all_of_its_own_time() -> None:
    watchdog = stepping()
    watchdog.report(report(1, 10, RankPhase.VALIDATION), now=100.0)
    watchdog.report(report(1, 10, RankPhase.CHECKPOINT), now=550.0)
    assert watchdog.check(949.0) is WatchdogAction.NOTHING
    assert watchdog.check(951.0) is WatchdogAction.DUMP


def test_the_same_said_again_is_no_sign_of_life() -> None:
    watchdog = stepping()
    for second in range(101, 502):
        watchdog.report(report(1, 10, RankPhase.CHECKPOINT), now=float(second))
    assert watchdog.check(502.0) is WatchdogAction.DUMP


@SAMPLING
def test_a_rollout_that_gets_on_may_last_for_hours_and_one_that_stands_still_may_not(
    phase: RankPhase, allowed: float
) -> None:
    watchdog, now = stepping(), 100.0
    for finished in range(60):
        now += 0.9 * allowed
        watchdog.report(report(1, 10, phase, progress=finished), now)
        assert watchdog.check(now + 0.9 * allowed) is WatchdogAction.NOTHING
    assert now > 10 * 3600.0
    for _ in range(10):
        watchdog.report(report(1, 10, phase, progress=59), now + 1.0)
    assert watchdog.check(now + allowed) is WatchdogAction.NOTHING
    assert watchdog.check(now + allowed + 1.0) is WatchdogAction.DUMP
    assert watchdog.check(now + allowed + 4.0) is WatchdogAction.RESTART


@SAMPLING
def test_a_token_after_the_stacks_calls_the_restart_off(phase: RankPhase, allowed: float) -> None:
    watchdog = stepping()
    watchdog.report(report(1, 10, phase, progress=7), 101.0)
    assert watchdog.check(102.0 + allowed) is WatchdogAction.DUMP
    watchdog.report(report(1, 10, phase, progress=8), 103.0 + allowed)
    assert watchdog.check(106.0 + allowed) is WatchdogAction.NOTHING


def test_a_rank_that_is_done_with_its_rollout_waits_as_long_as_another_one_may_sample() -> None:
    watchdog = stepping()
    watchdog.report(report(0, 10, RankPhase.ROLLOUT, progress=40), 101.0)
    watchdog.report(report(1, 10, RankPhase.ROLLOUT, progress=3), 101.0)
    watchdog.report(report(0, 10, RankPhase.COLLECTIVE), 102.0)
    assert watchdog.check(801.0) is WatchdogAction.NOTHING
    assert watchdog.check(803.0) is WatchdogAction.DUMP
    behind = watchdog.find_straggler()
    assert behind is not None and behind.rank == 1


def test_whoever_waits_for_a_first_rollout_does_not_give_it_the_time_of_a_first_step() -> None:
    watchdog = Watchdog(BOUNDS.model_copy(update={"rollout_seconds": 100.0}))
    watchdog.begin(2, now=0.0)
    watchdog.report(report(0, 0, RankPhase.COLLECTIVE), 1.0)
    watchdog.report(report(1, 0, RankPhase.ROLLOUT, progress=3), 1.0)
    assert watchdog.check(100.0) is WatchdogAction.NOTHING
    assert watchdog.check(102.0) is WatchdogAction.DUMP
    assert watchdog.get_limit().field == "resilience.hang.rolloutSeconds"


def test_rollouts_do_not_hide_a_step_that_hangs() -> None:
    watchdog = stepping()
    watchdog.report(report(1, 10, RankPhase.ROLLOUT, progress=1), 101.0)
    watchdog.report(report(1, 10, RankPhase.ROLLOUT, progress=500), 600.0)
    for rank in (0, 1):
        watchdog.report(report(rank, 11, seconds=1.0), 601.0)  # a rank tells it without the rollout
    assert watchdog.check(660.0) is WatchdogAction.NOTHING
    assert watchdog.check(662.0) is WatchdogAction.DUMP


def test_a_wait_for_data_has_ten_times_the_timeout() -> None:
    watchdog = stepping()
    watchdog.report(report(1, 10, RankPhase.DATA), now=100.0)
    assert watchdog.check(699.0) is WatchdogAction.NOTHING
    assert watchdog.check(701.0) is WatchdogAction.DUMP


@pytest.mark.parametrize("phase", [RankPhase.CHECKPOINT, RankPhase.DATA])
def test_what_follows_a_long_phase_has_its_own_time(phase: RankPhase) -> None:
    watchdog = stepping()
    watchdog.report(report(1, 10, phase), now=101.0)
    watchdog.report(report(1, 10, RankPhase.COMPUTE), now=600.0)
    assert watchdog.check(659.0) is WatchdogAction.NOTHING
    assert watchdog.check(661.0) is WatchdogAction.DUMP


def test_before_its_first_step_a_rank_may_compile_so_long() -> None:
    watchdog = Watchdog(BOUNDS)
    watchdog.begin(2, now=0.0)
    watchdog.report(report(0, 1, seconds=1.0), now=0.0)
    watchdog.report(report(1, 0), now=0.0)
    assert watchdog.check(299.0) is WatchdogAction.NOTHING
    assert watchdog.check(301.0) is WatchdogAction.DUMP


@pytest.mark.parametrize("heard", [0, 1, 3])
def test_ranks_that_nobody_has_heard_of_may_take_as_long_as_loading_takes(heard: int) -> None:
    watchdog = Watchdog(BOUNDS)
    watchdog.begin(4, now=0.0)
    for rank in range(heard):
        watchdog.report(report(rank, 7, RankPhase.LOADING), now=10.0)
    begun = 10.0 if heard else 0.0
    assert watchdog.check(begun + 199.0) is WatchdogAction.NOTHING
    assert watchdog.check(begun + 201.0) is WatchdogAction.DUMP
    behind = watchdog.find_straggler()
    assert (behind.rank if behind else None) == (3 if heard == 3 else None)


def test_stacks_come_before_the_restart_and_a_step_calls_it_off() -> None:
    watchdog = stepping()
    assert [watchdog.check(161.0 + seconds) for seconds in (0.0, 1.0, 2.1)] == [
        WatchdogAction.DUMP,
        WatchdogAction.NOTHING,
        WatchdogAction.RESTART,
    ]
    watchdog = stepping()
    assert watchdog.check(161.0) is WatchdogAction.DUMP
    watchdog.report(report(0, 11, seconds=61.0), now=162.0)
    assert watchdog.check(164.0) is WatchdogAction.NOTHING


@pytest.mark.parametrize(
    ("last", "rank"),
    [
        pytest.param(report(1, 10, RankPhase.DATA), 1, id="it-waits-for-data"),
        pytest.param(report(0, 11), 1, id="the-other-is-a-step-further"),
        pytest.param(report(1, 10, RankPhase.CHECKPOINT), 1, id="it-saves-what-others-have-saved"),
        pytest.param(report(1, 10, RankPhase.VALIDATION), 1, id="it-validates"),
        pytest.param(report(1, 10, RankPhase.ROLLOUT, progress=5), 1, id="it-samples"),
        pytest.param(report(1, 10, RankPhase.SCORING, progress=5), 1, id="it-scores"),
        pytest.param(report(0, 10, RankPhase.FINISHED), 1, id="the-other-is-done"),
        pytest.param(report(0, 10), None, id="all-in-the-same-place"),
    ],
)
def test_who_is_behind(last: RankReport, rank: int | None) -> None:
    watchdog = stepping()
    watchdog.report(last, now=101.0)
    behind = watchdog.find_straggler()
    assert (behind.rank if behind else None) == rank


def trains() -> tuple[Coordinator, Story]:
    """Two agents with two ranks each, all at step 7."""
    story = Story(nodes=2)
    size = Directives(nodes=story.nodes)
    run = Coordinator(story.state, TelemetryBuffer(keep=False), lambda: 1000.0, any_size, size)
    story.sealed()
    run._apply(story.said, 0.0)
    for index in (0, 1):
        ranks = [report(2 * index + local, 7, seconds=0.1) for local in (0, 1)]
        beat(run, index, ranks, 0.0)
    return run, story


def beat(run: Coordinator, index: int, ranks: list[RankReport], now: float) -> None:
    generation = GenerationId(epoch=1, number=1)
    run.heartbeat(Heartbeat(agent=agent(index), generation=generation, ranks=ranks), now)


def test_a_hang_is_dumped_restarted_and_blamed_on_the_node_of_the_rank_that_is_behind() -> None:
    run, story = trains()
    now = 0.0
    beat(run, 1, [report(3, 7, RankPhase.DATA)], now)
    while story.rendezvous() is Rendezvous.SEALED:
        now += 0.5
        assert now < 610.0
        for index in (0, 1):
            beat(run, index, [], now)
        run.tick(now)
    assert 601.0 < now < 604.0
    assert run.diagnosis is not None and run.diagnosis.kind is DiagnosisKind.STACKS
    run.tick(now + EXAMINED)
    [failure] = run.state.failures.list_failures()
    assert (failure.failure.cause, failure.failure.reason) == (Cause.HANG, Reason.PROGRESS_DEADLINE_EXCEEDED)
    assert (failure.failure.rank, failure.agent.index) == (3, 1)
    assert "rank 3 (run-w1-0) is still at data after step 7" in failure.failure.message
    assert "resilience.hang.floorSeconds allows 600 s" in failure.failure.message
    assert failure.generation == GenerationId(epoch=1, number=1)


def test_a_rollout_that_stands_still_is_dumped_restarted_and_told_with_how_far_it_came() -> None:
    run, story = trains()
    hang = HangTimeouts(factor=3.0, floor_seconds=60.0, rollout_seconds=300.0)
    run.set_directives(Directives(nodes=2, hang=hang), 0.0)
    now = 0.0
    while story.rendezvous() is Rendezvous.SEALED:
        now += 0.5
        assert now < 4000.0
        tokens = min(int(now), 3000)  # for nearly an hour; then none
        sampling = [report(2, 7, RankPhase.ROLLOUT, progress=tokens), report(3, 7, RankPhase.COLLECTIVE)]
        beat(run, 0, [report(rank, 7, RankPhase.COLLECTIVE) for rank in (0, 1)], now)
        beat(run, 1, sampling, now)
        run.tick(now)
    assert 3301.0 < now < 3304.0
    assert run.diagnosis is not None and run.diagnosis.kind is DiagnosisKind.STACKS
    run.tick(now + EXAMINED)
    [failure] = run.state.failures.list_failures()
    assert (failure.failure.cause, failure.failure.rank, failure.agent.index) == (Cause.HANG, 2, 1)
    message = failure.failure.message
    assert "rank 2 (run-w1-0) is still at rollout after step 7, with 3000 tokens finished" in message
    assert "resilience.hang.rolloutSeconds allows 300 s" in message


def test_where_no_rank_is_behind_no_node_is_blamed() -> None:
    run, story = trains()
    now = 0.0
    while story.rendezvous() is Rendezvous.SEALED and now < 100.0:
        now += 0.5
        for index in (0, 1):
            beat(run, index, [], now)
        run.tick(now)
    assert not run.state.failures.list_failures(), "two nodes that do not reach each other would explain it"
    run.tick(now + EXAMINED)
    [failure] = run.state.failures.list_failures()
    assert (failure.failure.rank, failure.agent.node_name) == (None, "")
    assert "all ranks wait in the same place" in failure.failure.message


@pytest.mark.parametrize(
    ("floor", "hangs"), [pytest.param(600.0, False, id="longer"), pytest.param(10.0, True, id="shorter")]
)
def test_what_is_held_to_be_a_hang_changes_while_ranks_train(floor: float, hangs: bool) -> None:
    run, story = trains()
    run.set_directives(Directives(nodes=2, hang=HangTimeouts(factor=3.0, floor_seconds=floor)), 0.0)
    for index in (0, 1):
        beat(run, index, [report(2 * index + local, 8, seconds=0.1) for local in (0, 1)], 1.0)
    for now in (20.0, 25.0):
        for index in (0, 1):
            beat(run, index, [], now)
        run.tick(now)
    assert (story.rendezvous() is not Rendezvous.SEALED) is hangs
