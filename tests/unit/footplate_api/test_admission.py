"""How much telemetry is held at once, and who waits."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from starlette.types import Message, Receive, Scope, Send

from footplate_api.admission import LARGE_BYTES, Admission, AdmissionGate, Lane
from footplate_api.errors import TooBusy
from footplate_api.turns import Turns

RUN = "/v1/namespaces/research/runs/gpt"


async def settled() -> None:
    """Everything that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


class Sender:
    """One that asks for room, and keeps it until it is told to leave."""

    def __init__(self, lane: Lane, size: int) -> None:
        self.inside = False
        self._leave = asyncio.Event()
        self.task = asyncio.create_task(self._send(lane, size))

    async def _send(self, lane: Lane, size: int) -> None:
        async with lane.room(size):
            self.inside = True
            await self._leave.wait()

    async def leave(self) -> None:
        self._leave.set()
        await self.task


async def test_what_fits_comes_in_and_the_rest_waits_in_order() -> None:
    lane = Lane(capacity=10, waiting=10)
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
    lane = Lane(capacity=10, waiting=10)
    senders = [Sender(lane, 100), Sender(lane, 1)]
    await settled()
    assert [sender.inside for sender in senders] == [True, False]
    for sender in senders:
        await sender.leave()


async def test_beyond_the_line_they_are_told_to_come_back() -> None:
    lane = Lane(capacity=1, waiting=2)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(lane.room(1))
        waiting = [Sender(lane, 1) for _ in range(2)]
        await settled()
        with pytest.raises(TooBusy):
            async with lane.room(1):
                pass
    for sender in waiting:
        await sender.leave()


@pytest.mark.parametrize("let_in", [False, True], ids=["while-it-waits", "as-it-is-let-in"])
async def test_one_that_goes_away_leaves_its_place(let_in: bool) -> None:
    lane = Lane(capacity=1, waiting=10)
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


def test_long_bodies_and_those_of_unknown_length_have_a_lane_of_their_own() -> None:
    admission = Admission()
    assert admission.lane(LARGE_BYTES) is admission.small
    assert admission.lane(LARGE_BYTES + 1) is admission.large
    assert admission.lane(None) is admission.large


async def unused(message: Message | None = None) -> Message:
    raise AssertionError("nobody reads or answers here")


async def test_short_batches_wait_before_the_router_and_nothing_else_does() -> None:
    inside: list[str] = []
    over = asyncio.Event()

    async def router(scope: Scope, receive: Receive, send: Send) -> None:
        inside.append(scope["path"])
        await over.wait()

    gate = AdmissionGate(router, Turns(1, 1, 60.0, lambda waiting: TooBusy(f"{waiting} wait")))

    def asks(length: bytes | None, path: str = "telemetry") -> asyncio.Task[None]:
        headers = [] if length is None else [(b"content-length", length)]
        scope = {"type": "http", "method": "POST", "path": f"{RUN}/{path}", "headers": headers}
        return asyncio.create_task(gate(scope, unused, unused))

    short = [asks(b"10") for _ in range(3)]
    others = [asks(b"%d" % (LARGE_BYTES + 1)), asks(None), asks(b"10", "suspend")]
    await settled()
    assert [path.rpartition("/")[2] for path in inside] == ["telemetry"] * 3 + ["suspend"]
    with pytest.raises(TooBusy, match="1 wait"):
        await short[2]
    over.set()
    await asyncio.gather(*short[:2], *others)
    assert len(inside) == 5
