"""Who runs where, who reaches whom, and calls that take time, are refused, break, or are never answered.

A process that ends on a live node refuses connections at once and breaks those that are open. A node without
power, or behind a cut, says nothing at all: its callers wait until they give up. A process that is stopped
(SIGSTOP) accepts, and answers once it goes on.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

Answer = TypeVar("Answer")

CONTROL_PLANE: Final = "control-plane"  # where the API server is; never cut off as a whole
_LATENCY: Final = (0.0003, 0.002)  # seconds, one way


class Unreached(Exception):
    """No answer: refused, broken, or not in time."""

    def __init__(self, said: str, refused: bool = False) -> None:
        super().__init__(said)
        self.refused = refused


async def connected() -> None:
    """A connection, and no question yet."""


class Process:
    """Something that runs at a place, may stand still, and may end."""

    def __init__(self, network: Network, place: str, name: str) -> None:
        self.network = network
        self.place = place
        self.name = name
        self.alive = True
        self._going = asyncio.Event()
        self._going.set()
        self._tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"<{self.name} on {self.place}>"

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return not self._going.is_set()

    def spawn(self, work: Coroutine[Any, Any, Answer]) -> asyncio.Task[Answer]:
        """Do `work` as long as this process lives."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def sleep(self, seconds: float) -> None:
        """Wait, and longer while this process stands still."""
        await asyncio.sleep(seconds)
        await self._going.wait()

    async def going(self) -> None:
        """Wait while this process stands still."""
        await self._going.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self._going.clear()
        self.network.changed()

    def thaw(self) -> None:
        """SIGCONT."""
        self._going.set()
        self.network.changed()

    def kill(self) -> None:
        """SIGKILL, or the end of its node."""
        if not self.alive:
            return
        self.alive = False
        self._going.set()  # whoever waits for it to go on learns that it ended
        for task in list(self._tasks):
            task.cancel()
        self.network.changed()


class Network:
    """Places and the ways between them."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._dark: set[str] = set()  # places without power
        self._cuts: set[tuple[str, str]] = set()  # from one place to another
        self._alone: set[str] = set()  # places that reach nobody
        self._change = asyncio.Event()
        self.listeners: list[Callable[[], None]] = []

    # -- faults ------------------------------------------------------------------------

    def darken(self, place: str) -> None:
        """The power is off."""
        self._dark.add(place)
        self.changed()

    def light(self, place: str) -> None:
        """The power is on again."""
        self._dark.discard(place)
        self.changed()

    def cut_off(self, place: str) -> None:
        """`place` reaches nobody, and nobody reaches it."""
        self._alone.add(place)
        self.changed()

    def cut(self, one: str, other: str, both: bool = True) -> None:
        """What `one` sends to `other` is lost, and where not `both` ways are cut what comes back is not."""
        self._cuts |= {(one, other), (other, one)} if both else {(one, other)}
        self.changed()

    def mend(self) -> None:
        """All cuts are mended."""
        self._cuts.clear()
        self._alone.clear()
        self.changed()

    # -- ways --------------------------------------------------------------------------

    def reaches(self, one: str, other: str) -> bool:
        """Whether packets pass from one place to another."""
        if self._dark & {one, other}:
            return False
        if one == other:
            return True
        return not self._alone & {one, other} and (one, other) not in self._cuts

    def lit(self, place: str) -> bool:
        """Whether `place` has power."""
        return place not in self._dark

    def changed(self) -> None:
        """Wake whoever waits for a way, or for a process."""
        self._change.set()
        self._change = asyncio.Event()
        for listener in list(self.listeners):
            listener()

    async def call(
        self, caller: Process, callee: Process | None, work: Callable[[], Awaitable[Answer]], seconds: float
    ) -> Answer:
        """What `work`, done by `callee`, answers within `seconds`; raises Unreached.

        None as `callee`: nobody listens at that address.
        """
        try:
            async with asyncio.timeout(seconds):
                answer = await self._asked(caller, callee, work)
        except TimeoutError:
            await caller.going()
            raise Unreached("no answer in time") from None
        await caller.going()
        return answer

    async def _asked(
        self, caller: Process, callee: Process | None, work: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        if callee is None:
            await self._latency()
            raise Unreached("nobody listens")
        await self._travel(caller, callee, caller.place, callee.place)

        async def answered() -> Answer:
            return await work()

        task = callee.spawn(answered())
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            if self.reaches(caller.place, callee.place):
                task.cancel()  # the other end is told that the connection is closed
            raise
        if task.cancelled():
            await self._travel(caller, callee, callee.place, caller.place)  # raises, or is never told
            raise Unreached("the connection broke")
        answer = task.result()
        await self._travel(caller, callee, callee.place, caller.place)
        return answer

    async def _travel(self, caller: Process, callee: Process, start: str, end: str) -> None:
        """The way of one packet: raises where it is refused, and waits while it is lost."""
        await self._latency()
        while True:
            change = self._change
            if self.reaches(start, end):
                if not callee.alive:
                    raise Unreached("connection refused", refused=True)
                if not callee.frozen:
                    return
            await change.wait()

    async def _latency(self) -> None:
        await asyncio.sleep(self._chance.uniform(*_LATENCY))
