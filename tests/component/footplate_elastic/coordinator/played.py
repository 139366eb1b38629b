"""Many agents played by one process: what each says, over connections of its own, with an agent's timeoutss.

`python -m …played PORT AGENTS TOKEN [CERTIFICATE]` joins, beats and tells of steps until its stdin ends, and
prints what it met. It speaks as little HTTP as a coordinator needs, so that all of them cost less than the
coordinator. With a CERTIFICATE, which is to name localhost, it speaks TLS, and waits longer for a connection:
one process shakes hands for all agents.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import ssl
import sys
from typing import Final
from urllib.parse import quote

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.base import WireMessage
from footplate_contracts.rendezvous import (
    AgentIdentity,
    Heartbeat,
    HeartbeatResponse,
    JoinRequest,
    SealedGeneration,
)
from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.tls_buffers import limit_tls_buffers
from footplate_elastic.agent import timing
from footplate_elastic.agent.coordinator_view import CoordinatorView
from footplate_elastic.protocol import wire

STEP: Final = 1.0  # seconds
_BROKEN: Final = (OSError, asyncio.IncompleteReadError)  # a TimeoutError is an OSError


class Connection:
    """One persistent connection; raises OSError or IncompleteReadError, after which it connects anew."""

    def __init__(self, port: int, token: str, trust: ssl.SSLContext | None = None) -> None:
        self._port = port
        self._token = token
        self._trust = trust
        self._timeout = timing.CONNECT if trust is None else 60.0
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def post(self, path: str, message: WireMessage, seconds: float) -> tuple[int, bytes]:
        """Status and body of the answer, which has to come within `seconds`."""
        body = message.model_dump_json(by_alias=True, exclude_none=True).encode()
        try:
            async with asyncio.timeout(seconds if self._trust is None else seconds + self._timeout):
                reader, status, length = await self._ask("POST", path, body)
                return status, await reader.readexactly(length)
        except BaseException:
            self.close()
            raise

    async def stay(self, path: str) -> None:
        """GET `path`, and read until the other side ends."""
        try:
            async with asyncio.timeout(self._timeout):
                reader, _, _ = await self._ask("GET", path, b"")
            await reader.read()
        finally:
            self.close()

    def close(self) -> None:
        """End the connection."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def _ask(self, method: str, path: str, body: bytes) -> tuple[asyncio.StreamReader, int, int]:
        if self._streams is None:
            name = "localhost" if self._trust is not None else None
            async with asyncio.timeout(self._timeout):
                self._streams = await asyncio.open_connection(
                    "127.0.0.1", self._port, ssl=self._trust, server_hostname=name
                )
        reader, writer = self._streams
        head = f"{method} {path} HTTP/1.1\r\nHost: coordinator\r\nAuthorization: Bearer {self._token}\r\n"
        writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode().lower().split("\r\n")
        length = next((line.split()[1] for line in lines if line.startswith("content-length:")), "0")
        return reader, int(first.split()[1]), int(length)


class Agent:
    """One of them: its three threads are tasks."""

    def __init__(self, index: int, port: int, token: str, trust: ssl.SSLContext | None = None) -> None:
        self.identity = AgentIdentity(
            index=index,
            incarnation=0,
            pod_name=f"gang-w{index}-0",
            address=f"10.0.{index // 250}.{index % 250 + 1}",
            local_world_size=1,
        )
        self.view = CoordinatorView()
        self.running: SealedGeneration | None = None
        self.step = 0
        self.starts = 0
        self.slowest = 0.0  # seconds that an answer took beyond what it was asked to wait
        self.unanswered = 0
        self._port = port
        self._token = token
        self._trust = trust

    async def live(self) -> None:
        """Until it is cancelled."""
        await asyncio.gather(self._train(), self._beat(), self._stay_connected())

    async def _train(self) -> None:
        connection = self._connection()
        while True:
            if self.running is None or self.view.must_rejoin(self.running.generation):
                self.running = await self._join()
                self.starts += 1
            await asyncio.sleep(STEP)
            self.step += 1
            await self._exchange(connection, 0.0)

    async def _join(self) -> SealedGeneration:
        before = self.running.generation if self.running else None
        request = JoinRequest(agent=self.identity, store_port=self.starts + 1, last_generation=before)
        connection, status, body, failures = self._connection(), 0, b"", 0
        while status != 200:
            try:
                status, body = await connection.post(wire.JOIN, request, wire.JOIN_SECONDS + timing.ANSWER)
            except _BROKEN:
                failures += 1
                await self._pause(failures)
        connection.close()
        return _sealed(body)

    async def _beat(self) -> None:
        connection, failures = self._connection(), 0
        while True:
            failures = 0 if await self._exchange(connection, wire.HEARTBEAT_SECONDS) else failures + 1
            if failures:
                await self._pause(failures)

    async def _stay_connected(self) -> None:
        agent, failures = quote(json.dumps(self.identity.to_json())), 0
        while True:
            try:
                await self._connection().stay(f"{wire.CONNECTION}?agent={agent}")
                failures = 0
            except _BROKEN:
                failures += 1
                await self._pause(failures)

    async def _exchange(self, connection: Connection, wait: float) -> bool:
        """A heartbeat that may `wait` for news, or tells some; whether it was answered."""
        path = f"{wire.HEARTBEAT}?wait={wait}&known={quote(self.view.answer_token) if wait else ''}"
        began = asyncio.get_running_loop().time()
        try:
            _, body = await connection.post(path, self._word(news=not wait), wait + timing.ANSWER)
        except _BROKEN:
            self.unanswered += 1
            return False
        self.slowest = max(self.slowest, asyncio.get_running_loop().time() - began - wait)
        self.view.merge_answer(HeartbeatResponse.model_validate_json(body))
        return True

    def _word(self, news: bool) -> Heartbeat:
        running = self.running
        report = RankReport(
            rank=self.identity.index,
            local_rank=0,
            step=self.step,
            phase=RankPhase.COMPUTE,
            step_seconds=STEP,
        )
        return Heartbeat(
            agent=self.identity,
            generation=running.generation if running else None,
            ranks=[report] if news else [],
        )

    async def _pause(self, failures: int) -> None:
        self.unanswered += 1
        await asyncio.sleep(backoff_seconds(failures, first=timing.FIRST_PAUSE, longest=timing.LONGEST_PAUSE))

    def _connection(self) -> Connection:
        return Connection(self._port, self._token, self._trust)


@functools.cache
def _sealed(body: bytes) -> SealedGeneration:
    """All are answered the same, and on one processor need not read it three hundred times."""
    return SealedGeneration.model_validate_json(body)


async def main(port: int, count: int, token: str, certificate: str | None = None) -> None:
    """Play `count` agents until stdin ends."""
    trust = ssl.create_default_context(cafile=certificate) if certificate else None
    limit_tls_buffers()
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)  # they have machines of their own
    agents = [Agent(index, port, token, trust) for index in range(count)]
    playing = asyncio.gather(*(agent.live() for agent in agents))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait({playing, ended}, return_when=asyncio.FIRST_COMPLETED)
    if playing.done():
        playing.result()
    playing.cancel()
    met = {
        "slowest": max(agent.slowest for agent in agents),
        "unanswered": sum(agent.unanswered for agent in agents),
        "starts": max(agent.starts for agent in agents),
        "step": min(agent.step for agent in agents),
    }
    print(json.dumps(met), flush=True)
    await asyncio.wait({playing})


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
