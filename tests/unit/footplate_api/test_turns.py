"""Order of turns among callers."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from footplate_api.errors import ApiError, CostsBusy, TooManyRequests
from footplate_api.http.concurrency_limit import ConcurrencyLimit


def _refusal(waiting: int | None) -> ApiError:
    return CostsBusy("after waiting" if waiting is None else f"{waiting} wait")


class Work:
    """Requests that end when they are told to."""

    def __init__(self, at_once: int = 2, most: int = 16, of_one: int = 2, seconds: float = 60.0) -> None:
        self.turns = ConcurrencyLimit(at_once, most, seconds, _refusal, of_one)
        self.begun: list[str] = []
        self._ends: list[tuple[str, asyncio.Event]] = []

    async def ask(self, *callers: str) -> Sequence[asyncio.Task[None]]:
        """One request after the other, as far as each gets."""
        tasks = []
        for caller in callers:
            tasks.append(asyncio.create_task(self._request(caller)))
            await _settle()
        return tasks

    def end_soon(self, caller: str) -> None:
        """Have the request of a caller whose turn it is end."""
        self._ends.pop(next(at for at, (name, _) in enumerate(self._ends) if name == caller))[1].set()

    async def end(self, caller: str) -> None:
        """End the request of a caller whose turn it is."""
        self.end_soon(caller)
        await _settle()

    async def _request(self, caller: str) -> None:
        async with self.turns.acquire(caller):
            self.begun.append(caller)
            end = asyncio.Event()
            self._ends.append((caller, end))
            await end.wait()


async def _settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def errors(tasks: Sequence[asyncio.Task[None]]) -> Counter[type[BaseException] | None]:
    return Counter(type(task.exception()) for task in tasks if task.done() and not task.cancelled())


async def test_of_a_caller_with_25_requests_one_is_served_and_two_wait() -> None:
    work = Work()
    of_ann = await work.ask(*["ann"] * 25)
    assert errors(of_ann) == {TooManyRequests: 22}
    of_ben = await work.ask("ben")
    assert work.begun == ["ann", "ben"] and not errors(of_ben), "ben waits for nobody"


async def test_callers_come_round_robin() -> None:
    work = Work(at_once=1)
    await work.ask("ann", "ann", "ann", "ben", "ben", "carl")
    while len(work.begun) < 6:
        await work.end(work.begun[-1])
    assert work.begun == ["ann", "ben", "carl", "ann", "ben", "ann"]


async def test_where_all_places_are_taken_the_caller_with_most_gives_one_up() -> None:
    work = Work(at_once=1, most=3, of_one=3)
    of_ann = await work.ask(*["ann"] * 4)
    [of_ben] = await work.ask("ben")
    assert [task.done() for task in of_ann] == [False, False, False, True]
    with pytest.raises(CostsBusy, match="3 wait"):
        await of_ann[-1]
    assert not of_ben.done() and work.turns.waiting == 3
    await work.ask("carl")
    [refused] = await work.ask("dora")
    assert errors([refused]) == {CostsBusy: 1}, "nobody has two"


@pytest.mark.parametrize("served", [False, True], ids=["waiting", "served-just-now"])
async def test_whoever_goes_away_keeps_no_turn(served: bool) -> None:
    work = Work(at_once=1)
    await work.ask("ann")
    [gone] = await work.ask("ben")
    await work.ask("carl")
    if served:
        work.end_soon("ann")
        await asyncio.sleep(0)  # ben is served, and has not heard of it
    gone.cancel()
    if not served:
        work.end_soon("ann")  # before ben's task hears that it is cancelled
    await _settle()
    assert work.begun == ["ann", "carl"] and work.turns.waiting == 0


async def test_whoever_waits_for_too_long_is_told_so() -> None:
    work = Work(at_once=1, seconds=0.0)
    await work.ask("ann")
    [late] = await work.ask("ben")
    with pytest.raises(CostsBusy, match="after waiting"):
        await late
    assert work.turns.waiting == 0
