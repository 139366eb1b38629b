"""When a standstill is a hang."""

from __future__ import annotations

import pytest

from footplate_contracts.reports import RankPhase, RankReport
from footplate_trainer.agent.watch import HangWatch


def report(
    rank: int, step: int, phase: RankPhase = RankPhase.COMPUTE, seconds: float | None = None
) -> RankReport:
    return RankReport(rank=rank, local_rank=rank, step=step, phase=phase, step_seconds=seconds)


def stepping(step_seconds: float = 1.0, floor: float = 60.0) -> HangWatch:
    """Two ranks that have finished ten steps by second 100."""
    watch = HangWatch(slots=2, floor=floor)
    for step in range(1, 11):
        for rank in (0, 1):
            watch.report(report(rank, step, seconds=step_seconds), now=90.0 + step)
    return watch


@pytest.mark.parametrize(
    ("step_seconds", "after", "hangs"),
    [
        pytest.param(1.0, 59.0, False, id="within-the-floor"),
        pytest.param(1.0, 61.0, True, id="beyond-the-floor"),
        pytest.param(40.0, 119.0, False, id="slow-steps-take-their-time"),
        pytest.param(40.0, 121.0, True, id="three-times-nearly-all-steps"),
    ],
)
def test_a_standstill(step_seconds: float, after: float, hangs: bool) -> None:
    still = stepping(step_seconds).overdue(100.0 + after)
    assert still == (after if hangs else None)


@pytest.mark.parametrize("phase", [RankPhase.CHECKPOINT, RankPhase.VALIDATION, RankPhase.FINISHED])
def test_some_phases_may_last(phase: RankPhase) -> None:
    watch = stepping()
    watch.report(report(1, 10, phase), now=101.0)
    assert watch.overdue(1000.0) is None


def test_what_follows_a_long_checkpoint_has_its_own_time() -> None:
    watch = stepping()
    watch.report(report(1, 10, RankPhase.CHECKPOINT), now=101.0)
    watch.report(report(1, 10, RankPhase.DATA), now=900.0)
    assert watch.overdue(950.0) is None
    assert watch.overdue(961.0) == 61.0


def test_before_its_first_step_a_rank_may_compile() -> None:
    watch = HangWatch(slots=2, floor=60.0)
    watch.report(report(0, 1, seconds=1.0), now=0.0)
    watch.report(report(1, 0), now=0.0)
    assert watch.overdue(1000.0) is None


def test_a_standstill_is_told_once() -> None:
    watch = stepping()
    assert watch.overdue(200.0) == 100.0
    assert watch.overdue(201.0) is None
    watch.report(report(0, 11, seconds=1.0), now=210.0)
    assert watch.overdue(300.0) == 90.0
