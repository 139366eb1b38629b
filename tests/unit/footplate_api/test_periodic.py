"""Loop of the API's background tasks: what follows a success, an expected error and any other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest

from footplate_api.errors import DatabaseUnavailable
from footplate_api.tasks.periodic import Periodic, attempt


async def _looks(
    results: list[float | Exception | None], seconds: float, level: int = logging.WARNING
) -> int:
    """Run a loop over `results` until none is left; return the number of calls."""
    left: Iterator[float | Exception | None] = iter(results)
    calls, ended = 0, asyncio.Event()

    async def look() -> float | None:
        nonlocal calls
        try:
            result = next(left)
        except StopIteration:
            ended.set()
            await asyncio.Event().wait()
        calls += 1
        if isinstance(result, Exception):
            raise result
        return result

    task = asyncio.create_task(Periodic(look, seconds, "sweeping", level).run())
    try:
        await asyncio.wait_for(ended.wait(), 5)
    finally:
        task.cancel()
    return calls


async def test_it_goes_on_after_every_error(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        assert await _looks([None, DatabaseUnavailable("gone"), KeyError("x"), None], 0.0, logging.INFO) == 4
    expected, other = caplog.records
    assert (expected.levelname, expected.getMessage()) == ("INFO", "sweeping is delayed: gone")
    assert (other.levelname, other.getMessage()) == ("ERROR", "sweeping failed")
    assert other.exc_info is not None


async def test_a_look_may_name_the_pause_after_it() -> None:
    assert await _looks([0.0, 0.0, 0.0], 60.0) == 3


async def test_the_first_look_waits_for_its_delay() -> None:
    looked = asyncio.Event()

    async def look() -> None:
        looked.set()

    task = asyncio.create_task(Periodic(look, 0.0, "sweeping", first_seconds=60.0).run())
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(looked.wait(), 0.05)
    task.cancel()


async def test_an_attempt_returns_its_error_and_ends_when_cancelled() -> None:
    async def fail() -> None:
        raise asyncio.CancelledError

    async def pass_by() -> None:
        return

    assert await attempt(pass_by, "sweeping") is None
    with pytest.raises(asyncio.CancelledError):
        await attempt(fail, "sweeping")
