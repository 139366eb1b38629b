"""Runs that bring an hour's rows have half of the writer's time."""

from __future__ import annotations

from footplate_api.telemetry.ingest import LargeBatchSchedule


def test_larger_deliveries_have_half_of_the_time() -> None:
    turn, now, stored = LargeBatchSchedule(), 0.0, 0.0
    while now < 100.0:
        if turn.is_due(now):
            turn.record_run(now, now + 0.25)
            now, stored = now + 0.25, stored + 0.25
        else:
            now += 0.01
    assert 45.0 <= stored <= 50.5


def test_whoever_has_not_been_stored_yet_need_not_wait() -> None:
    assert LargeBatchSchedule().is_due(0.0)
