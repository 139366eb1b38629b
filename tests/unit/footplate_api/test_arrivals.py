"""Who sends no bodies: for how long they are waited for, and that nobody else is refused for it."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from footplate_api.errors import ApiError, HttpError
from footplate_api.http.body_timeouts import HURRIED_SECONDS, BodyDeadline, BodyTimeout, PendingBodies
from footplate_api.http.concurrency_limit import PerCallerLimit
from footplate_api.identity.authentication_middleware import CALLER
from footplate_api.identity.caller import POD_UID, Caller
from footplate_api.telemetry.penalty_box import PenaltyBox
from footplate_api.telemetry.telemetry_admission import (
    AT_ONCE,
    BEGINNING,
    COMING,
    LATE_SECONDS,
    LONG_AT_ONCE,
    OF_ONE_SENDER,
    UNKNOWN_AT_ONCE,
    WAIT_SECONDS,
    WAITING,
    BodyMemoryLimits,
    TelemetryAdmissionMiddleware,
)
from tests.support.clock import Clock
from tests.support.simulation.virtual_loop import in_virtual_time

LONG = 200_000
PATIENCE = BodyTimeout(seconds=30.0)


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("nothing ever comes")


def silence() -> Receive:
    return never


async def unused(message: Message) -> None:
    raise AssertionError("nobody answers here")


def sends(*parts: bytes, rest: Receive = never) -> Receive:
    """The whole body in these parts; with an empty one at the end of them only `rest` comes after."""
    left = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    if parts[-1]:
        left[-1]["more_body"] = False
    else:
        del left[-1]

    async def receive() -> Message:
        return left.pop(0) if left else await rest()

    return receive


class Edge:
    """The gate, and behind it what a route of telemetry does with its body."""

    def __init__(self, at_once: int = AT_ONCE) -> None:
        self.admission = BodyMemoryLimits(late=PenaltyBox(LATE_SECONDS, seconds))
        self.gate = TelemetryAdmissionMiddleware(self._route, PATIENCE, at_once)
        self.stored: Counter[bytes] = Counter()
        self.inside = 0
        self.storing = asyncio.Event()
        self.storing.set()

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.inside += 1
        try:
            async with self.admission.body(Request(scope, receive), PATIENCE) as body:
                await self.storing.wait()
                self.stored[body] += 1
        finally:
            self.inside -= 1

    async def post(self, pod: str, length: int | None, receive: Receive) -> int:
        """The status that the pod has for a body that it announced to be so long."""
        headers = [(b"content-type", b"application/json")]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        path = f"/v1/namespaces/research/runs/{pod}/telemetry"
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
        scope[CALLER] = Caller("system:serviceaccount:research:default", extra=((POD_UID, (pod,)),))
        try:
            await self.gate(scope, receive, unused)
        except ApiError as error:
            assert error.status != 429 or error.retry_after
            return error.status
        return 200

    def posts(self, pods: int, length: int | None, body: Callable[[], Receive]) -> list[asyncio.Task[int]]:
        """One batch of each of so many pods."""
        return [asyncio.create_task(self.post(f"silent-{number}", length, body())) for number in range(pods)]


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def seconds() -> float:
    return asyncio.get_running_loop().time()


# -- one sender -------------------------------------------------------------------------


@pytest.mark.parametrize("length", [100, LONG, None], ids=["short", "long", "of-unknown-length"])
def test_one_sender_has_a_few_batches_under_way_and_takes_nothing_from_others(length: int | None) -> None:
    @in_virtual_time
    async def story() -> None:
        edge, body = Edge(), b"1" * (length or LONG)
        silent = [asyncio.create_task(edge.post("evil", length, never)) for _ in range(100)]
        await settled()
        assert Counter(task.result() for task in silent if task.done()) == {429: 100 - OF_ONE_SENDER}
        assert await edge.post("honest", length, sends(body)) == 200
        assert seconds() == 0.0
        assert await edge.post("evil", 2, sends(b"{}")) == 429
        assert set(await asyncio.gather(*silent)) == {408, 429}
        assert await edge.post("evil", 2, sends(b"{}")) == 200

    story()


def test_a_share_is_given_back_whatever_happens() -> None:
    shares = PerCallerLimit(1, lambda: ApiError("busy"))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), shares.acquire("a"), shares.acquire("b"):
            with pytest.raises(ApiError, match="busy"), shares.acquire("a"):
                pass
            raise ZeroDivisionError


# -- many of them -----------------------------------------------------------------------


@in_virtual_time
async def test_silent_senders_of_short_batches_take_no_turn() -> None:
    edge = Edge()
    silent = edge.posts(600, 100, silence) + edge.posts(600, 100, lambda: sends(b"{", b""))
    await settled()
    honest = [edge.post(f"honest-{number}", 2, sends(b"{", b"}")) for number in range(1000)]
    assert set(await asyncio.gather(*honest)) == {200}
    assert (seconds(), edge.inside) == (0.0, 0)
    assert set(await asyncio.gather(*silent)) == {408}
    assert seconds() == pytest.approx(PATIENCE.seconds)
    assert edge.stored == {b"{}": 1000}


@in_virtual_time
async def test_of_more_silent_ones_than_are_waited_for_the_oldest_make_room() -> None:
    edge = Edge()
    silent = edge.posts(COMING + 500, 100, silence)
    await settled()
    assert Counter(task.result() for task in silent if task.done()) == {408: 500}
    assert {task.result() for task in silent[:500]} == {408}
    assert await edge.post("honest", 2, sends(b"{}")) == 200
    await asyncio.gather(*silent[COMING // 2 + 500 :])
    assert seconds() == pytest.approx(HURRIED_SECONDS)
    await asyncio.gather(*silent)


@in_virtual_time
async def test_silent_senders_of_long_batches_take_no_room() -> None:
    edge, body = Edge(), b"1" * LONG
    silent = edge.posts(2 * LONG_AT_ONCE, LONG, silence)
    await settled()
    assert len(edge.admission.beginning) == BEGINNING
    assert edge.admission.large.used == 0
    honest = [edge.post(f"honest-{number}", LONG, sends(body)) for number in range(50)]
    assert set(await asyncio.gather(*honest)) == {200}
    assert seconds() == 0.0
    assert set(await asyncio.gather(*silent)) <= {408, 429}


@in_virtual_time
async def test_who_stops_within_a_long_body_is_put_out_once_others_wait() -> None:
    edge, body = Edge(), b"1" * LONG
    stopped = edge.posts(30, LONG, lambda: sends(body[:1000], b""))
    await settled()
    assert edge.admission.large.used == 30 * LONG
    await asyncio.sleep(10.0)
    assert edge.admission.large.used == 30 * LONG  # nobody waits
    assert await edge.post("honest-1", 2 * LONG, sends(body * 2)) == 200
    assert seconds() == pytest.approx(10.0)
    assert await asyncio.gather(*stopped) == [408] * 30

    stopping = edge.posts(30, LONG, lambda: sends(body[:1000], b""))
    assert await asyncio.gather(*stopping) == [429] * 30  # they are not believed for a while
    await asyncio.sleep(LATE_SECONDS)
    stopping = edge.posts(30, LONG, lambda: sends(body[:1000], b""))
    await settled()
    began = seconds()
    assert await edge.post("honest-2", 2 * LONG, sends(body * 2)) == 200
    assert seconds() - began == pytest.approx(HURRIED_SECONDS)
    assert await asyncio.gather(*stopping) == [408] * 30
    assert edge.admission.large.used == 0


@in_virtual_time
async def test_a_long_body_that_waited_for_room_has_its_time_from_then_on() -> None:
    edge, body = Edge(), b"1" * LONG
    edge.storing.clear()
    stored = edge.posts(31, LONG, lambda: sends(body))

    async def rest() -> Message:
        await asyncio.sleep(1.0)
        return {"type": "http.request", "body": body[1000:], "more_body": False}

    slow = asyncio.create_task(edge.post("slow", LONG, sends(body[:1000], b"", rest=rest)))
    await settled()
    behind = asyncio.create_task(edge.post("behind", 32 * LONG, sends(body * 32)))
    await asyncio.sleep(HURRIED_SECONDS + 1.0)
    edge.storing.set()
    assert set(await asyncio.gather(*stored, slow, behind)) == {200}
    assert seconds() == pytest.approx(HURRIED_SECONDS + 2.0)


@in_virtual_time
async def test_of_a_short_batch_that_has_no_turn_to_wait_for_nothing_is_read() -> None:
    edge = Edge(at_once=1)
    edge.storing.clear()
    posted = edge.posts(1 + WAITING, 2, lambda: sends(b"{}"))
    await settled()

    async def unread() -> Message:
        raise AssertionError("this is read")

    assert await edge.post("honest", 2, unread) == 429
    edge.storing.set()
    assert Counter(await asyncio.gather(*posted)) == {200: 1 + WAITING}


@in_virtual_time
async def test_bodies_of_unknown_length_hold_up_each_other_alone() -> None:
    edge, body = Edge(), b"1" * LONG
    silent = edge.posts(2 * UNKNOWN_AT_ONCE, None, silence)
    await settled()
    assert await edge.post("honest-1", None, sends(body)) == 200
    stopped = [
        asyncio.create_task(edge.post(f"stopped-{number}", None, sends(b"1", b""))) for number in range(2)
    ]
    await settled()
    assert (edge.admission.unknown.used, edge.admission.large.used) == (1, 0)
    assert await edge.post("honest-2", LONG, sends(body)) == 200
    assert seconds() == 0.0
    assert await edge.post("honest-3", None, sends(body, body)) == 200
    assert HURRIED_SECONDS <= seconds() < WAIT_SECONDS
    assert await asyncio.gather(*stopped) == [408, 408]
    await asyncio.gather(*silent)
    assert edge.stored == {body: 2, body * 2: 1}


@pytest.mark.parametrize("length", [100, LONG, None], ids=["short", "long", "of-unknown-length"])
def test_whoever_waits_for_those_that_are_stored_is_answered_in_time(length: int | None) -> None:
    @in_virtual_time
    async def story() -> None:
        edge = Edge(at_once=1)
        edge.storing.clear()
        body = b"1" * (length or 7 * 1024 * 1024)
        posted = edge.posts(100, length, lambda: sends(body))
        await asyncio.sleep(WAIT_SECONDS + 1.0)
        answered = [task.result() for task in posted if task.done()]
        assert set(answered) == {429}
        edge.storing.set()
        assert Counter(await asyncio.gather(*posted)) == {429: len(answered), 200: 100 - len(answered)}
        assert (edge.admission.small.used, edge.admission.large.used, edge.inside) == (0, 0, 0)

    story()


# -- bodies -----------------------------------------------------------------------------


async def test_who_leaves_before_the_body_has_come_takes_no_turn() -> None:
    async def leaves() -> Message:
        return {"type": "http.disconnect"}

    edge = Edge()
    with pytest.raises(ClientDisconnect):
        await edge.post("gone", 100, sends(b"{", b"", rest=leaves))
    assert not edge.stored


async def test_other_requests_wait_for_nothing() -> None:
    passed = list[str]()

    async def router(scope: Scope, receive: Receive, send: Send) -> None:
        passed.append(scope["path"])

    gate = TelemetryAdmissionMiddleware(router, PATIENCE)
    path = "/v1/namespaces/research/runs/gpt/suspend"
    await gate({"type": "http", "method": "POST", "path": path, "headers": []}, never, unused)
    assert passed == [path]


@in_virtual_time
async def test_a_body_that_is_hurried_after_a_long_silence_is_given_up_at_once() -> None:
    arrival = BodyDeadline(PATIENCE)
    waiting = asyncio.create_task(arrival.wait_for(never()))
    await asyncio.sleep(HURRIED_SECONDS + 1.0)
    arrival.shorten()
    arrival.shorten()
    with pytest.raises(ApiError, match="too few while others waited"):
        await waiting
    assert seconds() == pytest.approx(HURRIED_SECONDS + 1.0)


@in_virtual_time
async def test_a_body_that_was_hurried_is_waited_for_as_long_as_others_once_its_turn_has_come() -> None:
    arrival = BodyDeadline(PATIENCE)
    arrival.shorten()
    arrival.restart()
    with pytest.raises(ApiError, match=f"too few for {PATIENCE.seconds:g} seconds"):
        await arrival.wait_for(never())
    assert seconds() == pytest.approx(PATIENCE.seconds)


async def test_who_is_no_longer_waited_for_is_not_counted() -> None:
    arrivals = PendingBodies(2)

    async def comes() -> str:
        return "body"

    for coming in (comes, never):
        waiting: Awaitable[object] = asyncio.ensure_future(arrivals.wait(BodyDeadline(PATIENCE), coming()))
        await settled()
        assert len(arrivals) == (coming is never)
    assert isinstance(waiting, asyncio.Task)
    waiting.cancel()
    await asyncio.wait({waiting})
    assert len(arrivals) == 0


def test_who_was_late_is_believed_again_after_a_while() -> None:
    clock = Clock()
    late = PenaltyBox(30.0, clock, most=2)

    def comes(name: str, error: ApiError | None = None) -> int | None:
        """For how many seconds it is refused."""
        try:
            with late.guard(name):
                if error is not None:
                    raise error
        except ApiError as refused:
            return refused.retry_after
        return None

    for name in ("a", "b"):
        assert comes(name) is None
        comes(name, HttpError("slow", status=408))
        clock.seconds += 10.0
    comes("other", HttpError("something else", status=413))
    assert [comes(name) for name in ("a", "b", "other")] == [10, 20, None]
    clock.seconds += 10.0
    assert [comes(name) for name in "ab"] == [None, 10]
    comes("a", HttpError("slow", status=408))
    comes("c", HttpError("slow", status=408))  # one too many: the earliest of them is forgotten
    assert [comes(name) for name in "abc"] == [30, None, 30]
