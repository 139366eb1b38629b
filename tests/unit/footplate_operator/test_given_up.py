"""Telemetry that is given up is counted once, whichever coordinator tells it, and never less again."""

from __future__ import annotations

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.reports import DroppedTelemetry
from footplate_contracts.v1alpha1.status import InternalStatus, TelemetryStatus, TrainingRunStatus
from footplate_operator.trainingrun.status.dropped_telemetry import count_dropped
from tests.support.operator_world import running


def told(epoch: int, refused: int, overflowed: int) -> CoordinatorState:
    given_up = DroppedTelemetry(refused=refused, overflowed=overflowed)
    return CoordinatorState(version=1, epoch=epoch, state=RunState.TRAINING, given_up=given_up)


SILENT = CoordinatorState.empty()


@pytest.mark.parametrize(
    ("states", "totals"),
    [
        pytest.param([told(1, 0, 0)], None, id="nothing-is-given-up"),
        pytest.param([told(1, 2, 3)], (2, 3), id="the-first"),
        pytest.param([told(1, 2, 3), told(1, 2, 3), told(1, 4, 3)], (4, 3), id="a-total-is-no-sum"),
        pytest.param([told(1, 2, 3), SILENT, told(1, 2, 3)], (2, 3), id="not-heard-for-a-while"),
        pytest.param([told(1, 2, 3), told(2, 0, 0)], (2, 3), id="the-next-one-begins"),
        pytest.param([told(1, 2, 3), told(2, 0, 0), told(2, 1, 0)], (3, 3), id="and-adds-to-it"),
        pytest.param([told(1, 2, 3), told(2, 5, 0)], (7, 3), id="which-knows-more-when-it-is-heard"),
        pytest.param([told(1, 2, 0), told(2, 1, 0), told(1, 9, 0)], (3, 0), id="an-earlier-one-is-late"),
        pytest.param([told(1, 4, 4), told(1, 1, 1)], (4, 4), id="never-less"),
    ],
)
def test_counts_of_all_coordinators_are_added(
    states: list[CoordinatorState], totals: tuple[int, int] | None
) -> None:
    status = TrainingRunStatus()
    for state in states:
        status = count_dropped(status, state)
    counts = status.telemetry
    assert (counts and (counts.refused, counts.overflowed)) == totals


def test_what_cannot_be_read_counts_from_zero() -> None:
    before = TrainingRunStatus(
        telemetry=TelemetryStatus(refused=1), internal=InternalStatus(telemetry_seen="?")
    )
    status = count_dropped(before, told(1, 2, 0))
    assert status.telemetry is not None and status.telemetry.refused == 3
    assert status.internal.telemetry_seen == "1.2.0"


async def test_a_status_goes_on_counting_when_operator_and_coordinator_are_others() -> None:
    world = await running()
    world.coordinator().given_up = DroppedTelemetry(refused=2, overflowed=1)
    await world.live(2)
    world.start_operator()
    await world.live(2)
    assert world.status["telemetry"] == {"refused": 2, "overflowed": 1}
    world.end_pod("tiny-c1", 1)
    await world.live(20, until=lambda: world.coordinator().epoch == 2)
    world.coordinator().given_up = DroppedTelemetry(refused=1)
    await world.live(20, until=lambda: world.status["telemetry"]["refused"] == 3)
    assert world.status["telemetry"]["overflowed"] == 1
