"""Peers that send half of a request, or nothing, and what they keep the API from."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from bench.api.half_sent import MEGABYTES, observe
from bench.api.serving import Usage

from footplate_api.http.connection_limits import ConnectionLimit, ConnectionLimits, ConnectionState
from footplate_api.http.connections import LimitedHttpProtocol, ServerEventLoop
from footplate_api.instruments import ApiMetrics
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.fleet import api
from tests.component.footplate_api.test_connections import greeting, listening, served
from tests.support.certificates import Issuer
from tests.support.half_sent import attacking, half_of_head, untrusting

WHOLE = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
MANY = ConnectionLimit(100, 100)


class Peers:
    """Clients of one server, of any address of the loopback."""

    def __init__(self, port: int, limits: ConnectionLimits, stack: AsyncExitStack) -> None:
        self.port, self.limits, self._stack = port, limits, stack

    async def connect(self, sent: bytes = b"", address: str = "127.0.0.1") -> asyncio.StreamReader:
        """What comes back over a new connection on which `sent` is sent."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=untrusting(), local_addr=(address, 0)
        )
        self._stack.enter_context(closing(writer))
        writer.write(sent)
        return reader

    async def counted(self, state: ConnectionState, number: int) -> None:
        """Wait until so many are in that state."""
        await eventually(lambda: _now(len(self.limits.connections[state])), lambda count: count == number)


async def _now(value: int) -> int:
    return value


Scenario = Callable[[Peers], Awaitable[None]]


def play(
    folder: Path, limits: Mapping[ConnectionState, ConnectionLimit], scenario: Scenario, app: Any = greeting
) -> ApiMetrics:
    """The metrics of a server with these limits, once `scenario` is over."""
    config = served(folder, Issuer(), LimitedHttpProtocol)
    config.app, metrics = app, ApiMetrics()

    async def together() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ServerEventLoop)
        loop.connection_limits = ConnectionLimits(
            loop, metrics, dict.fromkeys(ConnectionState, MANY) | limits
        )
        async with listening(config) as address, AsyncExitStack() as stack:
            await scenario(Peers(address[1], loop.connection_limits, stack))

    with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
        runner.run(together())
    return metrics


def closed(metrics: ApiMetrics, reason: str) -> float | None:
    return metrics.registry.get_sample_value("footplate_api_closed_connections_total", {"reason": reason})


HEADS = {ConnectionState.HALF_SENT: ConnectionLimit(4, 2, size=100_000)}


@pytest.mark.parametrize(
    ("limit", "size", "addresses"),
    [
        pytest.param(ConnectionLimit(100, 2, size=1_000_000), 1000, [1, 1], id="of-one-address"),
        pytest.param(ConnectionLimit(3, 3, size=1_000_000), 1000, [1, 1, 2], id="of-all"),
        pytest.param(ConnectionLimit(100, 100, size=150_000), 60_000, [1, 1], id="bytes"),
    ],
)
def test_of_too_many_half_sent_heads_the_oldest_goes_and_a_whole_one_is_answered(
    tmp_path: Path, limit: ConnectionLimit, size: int, addresses: list[int]
) -> None:
    async def scenario(peers: Peers) -> None:
        readers = []
        for number, address in enumerate(addresses):
            readers.append(await peers.connect(half_of_head(size), f"127.0.0.{address}"))
            await peers.counted(ConnectionState.HALF_SENT, number + 1)
        await peers.connect(half_of_head(size), "127.0.0.1")
        assert await readers[0].read() == b"", "the oldest of the address with most is closed"
        answered = await peers.connect(WHOLE, "127.0.0.1")
        assert (await answered.readline()).startswith(b"HTTP/1.1 200")
        assert not any(reader.at_eof() for reader in readers[1:])

    assert closed(play(tmp_path, {ConnectionState.HALF_SENT: limit}, scenario), "crowded") == 1


def test_a_head_that_does_not_come_in_time_is_told_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario(peers: Peers) -> None:
        for sent in (half_of_head(1000), WHOLE + half_of_head(1000), b"\r\n"):
            reader = await peers.connect(sent)
            answer = await reader.read()
            assert b"HTTP/1.1 408 Request Timeout\r\n" in answer or sent == b"\r\n"
        await peers.counted(ConnectionState.HALF_SENT, 0)

    limit = ConnectionLimit(100, 100, seconds=0.3, size=1_000_000)
    assert closed(play(tmp_path, {ConnectionState.HALF_SENT: limit}, scenario), "slow") == 3
    assert [record.message for record in caplog.records if "closed" in record.message] == [
        "closed a connection (slow); footplate_api_closed_connections_total counts all"
    ], "a line a minute"


def test_a_head_has_no_more_time_than_its_new_connection(tmp_path: Path) -> None:
    async def scenario(peers: Peers) -> None:
        reader = await peers.connect(half_of_head(1000))
        assert b" 408 " in await reader.readline()

    limits = {
        ConnectionState.NEW: ConnectionLimit(9, 9, seconds=0.5),
        ConnectionState.HALF_SENT: ConnectionLimit(9, 9, seconds=600.0, size=1_000_000),
    }
    play(tmp_path, limits, scenario)


def test_a_silent_connection_is_closed_before_and_after_its_handshake(tmp_path: Path) -> None:
    async def scenario(peers: Peers) -> None:
        bare, writer = await asyncio.open_connection("127.0.0.1", peers.port)
        encrypted = await peers.connect()
        for reader in (bare, encrypted):
            assert await reader.read() == b""
        writer.close()
        await peers.counted(ConnectionState.NEW, 0)

    assert (
        closed(play(tmp_path, {ConnectionState.NEW: ConnectionLimit(9, 9, seconds=1.0)}, scenario), "slow")
        == 2
    )


def test_good_connections_of_one_address_are_not_limited_as_half_sent_ones(tmp_path: Path) -> None:
    async def scenario(peers: Peers) -> None:
        readers = [await peers.connect(WHOLE) for _ in range(8)]
        await peers.counted(ConnectionState.IDLE, 8)
        for _ in range(3):
            await peers.connect(half_of_head(1000))
        await peers.counted(ConnectionState.HALF_SENT, 2)
        assert not any(reader.at_eof() for reader in readers)

    assert closed(play(tmp_path, HEADS, scenario), "crowded") == 1


def test_of_too_many_idle_connections_the_longest_idle_goes(tmp_path: Path) -> None:
    async def scenario(peers: Peers) -> None:
        first = await peers.connect(WHOLE)
        await peers.counted(ConnectionState.IDLE, 1)
        for _ in range(2):
            await peers.connect(WHOLE)
        assert (await first.read()).startswith(b"HTTP/1.1 200")

    assert closed(play(tmp_path, {ConnectionState.IDLE: ConnectionLimit(2, 2)}, scenario), "crowded") == 1


def test_a_request_in_progress_is_counted_nowhere(tmp_path: Path) -> None:
    begun, over = asyncio.Event(), asyncio.Event()

    async def waiting(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        await over.wait()
        await greeting(scope, receive, send)

    async def scenario(peers: Peers) -> None:
        reader = await peers.connect(WHOLE)
        await begun.wait()
        assert not any(peers.limits.connections.values())
        over.set()
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        await peers.counted(ConnectionState.IDLE, 1)

    play(tmp_path, {}, scenario, waiting)


def test_closed_connections_hold_no_memory_until_garbage_is_collected(tmp_path: Path) -> None:
    async def scenario(peers: Peers) -> None:
        gc.collect()
        gc.disable()
        try:
            for sent in (half_of_head(1000), WHOLE, b""):
                await peers.connect(sent)
            _, writer = await asyncio.open_connection("127.0.0.1", peers.port)
            writer.write(b"no TLS at all")
            await eventually(lambda: _now(_encryptions()), lambda left: left == 0)
        finally:
            gc.enable()

    short = {state: ConnectionLimit(9, 9, seconds=0.5, size=1_000_000) for state in ConnectionState}
    play(tmp_path, short, scenario)


def _encryptions() -> int:
    return sum(type(known).__name__ == "_Encryption" for known in gc.get_objects())


@pytest.mark.long
async def test_four_thousand_half_sent_heads_leave_memory_and_another_caller_alone(tmp_path: Path) -> None:
    async with api(tmp_path, f"sqlite:///{tmp_path}/footplate.db") as process:
        url, usage = f"https://127.0.0.1:{process.port}", Usage(process.pid)
        with attacking(process.port, 4000, 100, 60_000):
            seen = await observe(url, usage, 60.0, process.issuer.trusting())
    assert max(seen.megabytes) < MEGABYTES
    assert seen.failures == 0
