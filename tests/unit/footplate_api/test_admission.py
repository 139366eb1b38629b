"""How much telemetry is held at once, and who waits."""

from __future__ import annotations

import asyncio

import pytest

from footplate_api.errors import TooBusy
from footplate_api.telemetry.telemetry_admission import LARGE_BYTES, BodyMemoryLimits, ByteLimit
from tests.support.simulation.virtual_loop import in_virtual_time


async def settled() -> None:
    """Everything that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


class Sender:
    """One that asks for room, and keeps it until it is told to leave."""

    def __init__(self, lane: ByteLimit, size: int) -> None:
        self.inside = self.wanted = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._send(lane, size))

    async def _send(self, lane: ByteLimit, size: int) -> None:
        async with lane.reserve(size) as place:
            self.inside = True
            place.on_contention(self._want)
            await self._leave.wait()

    def _want(self) -> None:
        self.wanted = True

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def test_what_fits_comes_in_and_the_rest_waits_in_order() -> None:
    lane = ByteLimit(capacity=10)
    senders = [Sender(lane, size) for size in (6, 4, 5, 1)]
    await settled()
    assert [sender.inside for sender in senders] == [
        True,
        True,
        False,
        False,
    ]  # the last one does not overtake
    await senders[1].leave()
    await settled()
    assert [sender.inside for sender in senders] == [True, True, False, False]
    await senders[0].leave()
    await settled()
    assert [sender.inside for sender in senders] == [True, True, True, True]
    for sender in senders[2:]:
        await sender.leave()
    assert lane.used == 0


async def test_one_that_is_larger_than_all_there_is_has_it_for_itself() -> None:
    lane = ByteLimit(capacity=10)
    senders = [Sender(lane, 100), Sender(lane, 1)]
    await settled()
    assert [sender.inside for sender in senders] == [True, False]
    for sender in senders:
        await sender.leave()


@in_virtual_time
async def test_whoever_waited_too_long_is_told_to_come_back_and_leaves_the_place() -> None:
    lane, clock = ByteLimit(capacity=2, seconds=10.0), asyncio.get_running_loop().time
    first, second = Sender(lane, 1), Sender(lane, 1)
    await settled()
    with pytest.raises(TooBusy, match="too slowly") as refused:
        async with lane.reserve(2):
            pass
    assert clock() == pytest.approx(10.0)
    assert refused.value.retry_after
    await first.leave()
    last = Sender(lane, 1)
    await settled()
    assert last.inside
    for sender in (second, last):
        await sender.leave()
    assert lane.used == 0


async def test_who_has_room_is_told_once_others_wait_for_it() -> None:
    lane, told = ByteLimit(capacity=2), list[str]()
    async with lane.reserve(1) as first:
        first.on_contention(lambda: told.append("first"))
        async with lane.reserve(1) as second:
            waiting = [Sender(lane, 2), Sender(lane, 1), Sender(lane, 1)]
            await settled()
            assert told and set(told) == {"first"}
            second.on_contention(lambda: told.append("second"))  # they wait already
            assert told[-1] == "second"
    await settled()
    assert [sender.inside for sender in waiting] == [True, False, False]
    assert [sender.wanted for sender in waiting] == [True, False, False]
    for sender in waiting:
        await sender.leave()


@pytest.mark.parametrize("let_in", [False, True], ids=["while-it-waits", "as-it-is-let-in"])
async def test_one_that_goes_away_leaves_its_place(let_in: bool) -> None:
    lane = ByteLimit(capacity=1)
    first, gone, last = (Sender(lane, 1) for _ in range(3))
    await settled()
    if let_in:
        await first.leave()  # and the next one has its turn, but has not run since
    gone.task.cancel()
    if not let_in:
        await settled()
        await first.leave()
    await settled()
    assert last.inside
    await last.leave()
    assert lane.used == 0


def test_long_bodies_have_a_lane_of_their_own() -> None:
    admission = BodyMemoryLimits()
    assert admission.limit_for(LARGE_BYTES) is admission.small
    assert admission.limit_for(LARGE_BYTES + 1) is admission.large
