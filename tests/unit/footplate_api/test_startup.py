"""What a process that does not serve yet says of itself, and for how long that has been so."""

from __future__ import annotations

import pytest

from footplate_api.errors import Starting
from footplate_api.http.startup import Startup, StartupStage


class Clock:
    """Seconds that pass when a test says so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def said(startup: Startup) -> str:
    with pytest.raises(Starting) as caught:
        startup.check()
    return caught.value.detail


def test_the_stage_is_said_and_since_when() -> None:
    clock = Clock()
    startup = Startup(clock)
    clock.now += 12
    assert said(startup) == (
        "The database does not answer yet (12 s so far); only /healthz and /version are served."
    )
    startup.enter(StartupStage.MIGRATING)
    clock.now += 600
    startup.enter(StartupStage.MIGRATING)  # it still does
    assert "migration of the database, in this" in said(startup) and "(600 s so far)" in said(startup)
    startup.enter(StartupStage.CONNECTING)
    assert "(0 s so far)" in said(startup)


def test_everything_is_served_in_the_end() -> None:
    startup = Startup(Clock())
    startup.mark_ready()
    startup.check()
    assert startup.failure is None


def test_a_failure_is_kept() -> None:
    startup, wrong = Startup(Clock()), ValueError("row 7 is odd")
    startup.mark_failed(wrong)
    assert "failed" in said(startup) and startup.failure is wrong
