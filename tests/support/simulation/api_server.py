"""The way to the API server: calls that take time or fail, and watches that are late or torn."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import PAGE, REQUEST_SECONDS, Cluster
from footplate_operator.runtime.kinds import POD, Json, Kind
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.simulation.network import Network, Process, Unreached

Answer = TypeVar("Answer")
_EVENT: Final = (0.005, 0.12)  # seconds that an event is on its way; kopf gathers those of 0.1 s


@dataclass(eq=False)
class ApiServer:
    """Where it runs, what it keeps, and how it fails."""

    network: Network
    process: Process
    objects: FakeCluster
    chance: random.Random
    called: Callable[[], None]  # after each call that changes something
    crash_after: int | None = None  # so many of them
    errors: float = 0.0  # share of calls that it answers with 429 or 500
    losses: float = 0.0  # share of changing calls whose answer is lost


class Client(Cluster):
    """What one operator's process asks of it."""

    def __init__(self, server: ApiServer, caller: Process) -> None:
        self._server = server
        self._caller = caller
        self._objects = server.objects

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        return await self._ask(lambda: self._objects.get(kind, namespace, name))

    async def find(self, kind: Kind, namespace: str, labels: str = "", fields: str = "") -> list[Json]:
        return await self._ask(lambda: self._objects.find(kind, namespace, labels, fields))

    async def pages(
        self, kind: Kind, namespace: str, labels: str = "", fields: str = "", size: int = PAGE
    ) -> AsyncIterator[list[Json]]:
        pages = self._objects.pages(kind, namespace, labels, fields, size)
        while page := await self._ask(lambda: anext(pages, [])):
            yield page

    async def create(self, kind: Kind, body: Json) -> Json:
        return await self._change(lambda: self._objects.create(kind, body))

    async def would_create(self, kind: Kind, body: Json, *, strict: bool = True) -> None:
        await self._change(lambda: self._objects.would_create(kind, body, strict=strict))

    async def apply(self, kind: Kind, body: Json, subresource: str = "") -> Json:
        return await self._change(lambda: self._objects.apply(kind, body, subresource))

    async def replace(self, kind: Kind, body: Json) -> Json:
        return await self._change(lambda: self._objects.replace(kind, body))

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Json) -> Json:
        return await self._change(lambda: self._objects.merge(kind, namespace, name, patch))

    async def delete(
        self, kind: Kind, namespace: str, name: str, uid: str = "", grace: int | None = None
    ) -> None:
        await self._change(lambda: self._objects.delete(kind, namespace, name, uid, grace))

    async def delete_all(self, kind: Kind, namespace: str, labels: str, grace: int | None = None) -> None:
        await self._change(lambda: self._objects.delete_all(kind, namespace, labels, grace))

    async def _change(self, work: Callable[[], Coroutine[Any, Any, Answer]]) -> Answer:
        answer = await self._ask(work)
        self._server.called()
        if self._server.chance.random() < self._server.losses:
            raise ClusterError("the connection broke while the answer was on its way")
        return answer

    async def _ask(self, work: Callable[[], Awaitable[Answer]]) -> Answer:
        server = self._server
        if server.errors and server.chance.random() < server.errors:
            status = server.chance.choice((429, 500, 503))
            await asyncio.sleep(0.002)
            raise ClusterError(f"HTTP {status}", status, "TooManyRequests" if status == 429 else "")
        try:
            return await server.network.call(self._caller, server.process, work, REQUEST_SECONDS)
        except Unreached as error:
            raise ClusterError(str(error)) from error


class Watches:
    """What one operator's process is told of changes: late, in order for each object, or not at all."""

    def __init__(
        self,
        server: ApiServer,
        caller: Process,
        handlers: Mapping[Kind, Callable[..., Coroutine[Any, Any, None]]],
    ) -> None:
        self._server = server
        self._caller = caller
        self._handlers = handlers
        self._due: dict[str, float] = {}  # by uid, when the newest event of it comes
        self._torn = False
        self._closed = False
        self.bound: set[str] = set()  # uids of pods that it was told of as being on a node
        server.objects.watches.append(self._changed)
        server.network.listeners.append(self._look)
        self._list()

    def close(self) -> None:
        """Its process has ended."""
        self._closed = True
        self._server.objects.watches.remove(self._changed)
        self._server.network.listeners.remove(self._look)

    @property
    def torn(self) -> bool:
        """Whether it hears nothing now."""
        return self._torn

    def tear(self) -> None:
        """Hear nothing until `mend`, and then what there is, but not what went."""
        self._torn = True

    def mend(self) -> None:
        """List, and hear again."""
        self._torn = False
        self._list()

    def _connected(self) -> bool:
        server, caller = self._server, self._caller
        return (
            server.process.alive
            and not server.process.frozen
            and server.network.reaches(caller.place, server.process.place)
        )

    def _look(self) -> None:
        connected = self._connected()
        if self._torn and connected:
            asyncio.get_running_loop().call_later(1.0, self.mend)  # kopf's pause after a broken watch
        elif not self._torn and not connected:
            self.tear()

    def _list(self) -> None:
        for kind in self._handlers:
            for body in self._server.objects.all(kind):
                self._send(kind, None, copied(body))

    def _changed(self, event: str, body: Json) -> None:
        if self._torn:
            return
        for kind in self._handlers:
            if (kind.api_version, kind.name) == (body["apiVersion"], body["kind"]):
                self._send(kind, event, body)

    def _send(self, kind: Kind, event: str | None, body: Json) -> None:
        loop, uid = asyncio.get_running_loop(), body["metadata"]["uid"]
        if kind == POD and body["spec"].get("nodeName"):
            self.bound.add(uid)
        due = max(self._due.get(uid, 0.0) + 1e-5, loop.time() + self._server.chance.uniform(*_EVENT))
        self._due[uid] = due
        loop.call_at(due, self._arrive, kind, event, body)

    def _arrive(self, kind: Kind, event: str | None, body: Json) -> None:
        if not self._closed:
            self._caller.spawn(self._hand_over(kind, event, body))

    async def _hand_over(self, kind: Kind, event: str | None, body: Json) -> None:
        await self._caller.going()
        await self._handlers[kind](event={"type": event, "object": body})
