"""Limits on connections that hold memory without a request, by their state and by their peers' addresses.

A connection over TLS takes 50 kB before its peer has sent anything, and the head of a request, its request
line and headers, up to twice its length until it is whole. Only then does the API know who sends it, so that
neither tokens nor rates can bound these. A good client's head is whole within milliseconds: of those that
are not, the oldest make room.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final

from footplate_api.observation import Metrics

REPORT_SECONDS: Final = 60.0  # between two lines of the log

log = logging.getLogger(__name__)


class State(StrEnum):
    """State of a connection that has no request in progress."""

    NEW = "new"  # accepted: not a byte of a request has come, and TLS may not be agreed on
    HALF_SENT = "half_sent"  # the head of a request has begun
    IDLE = "idle"  # the last request is answered


class Reason(StrEnum):
    """Reason for which a connection was closed."""

    SLOW = "slow"  # no whole head in time
    CROWDED = "crowded"  # others had more room to take than there was


@dataclass(frozen=True)
class Limit:
    """Limit of the connections in one state; beyond it the oldest of them are closed."""

    connections: int
    of_one_address: int
    seconds: float | None = None  # None: the server has a timer of its own
    size: int = 0  # bytes of all heads together


LIMITS: Final = {
    State.NEW: Limit(800, 800, seconds=15.0),
    # Behind a proxy or a translated address all peers are one.
    State.HALF_SENT: Limit(128, 64, seconds=10.0, size=2 * 1024 * 1024),
    State.IDLE: Limit(2500, 2500),
}


class Connection:
    """A peer's connection, as the limits count it."""

    __slots__ = ("abort", "address", "deadline", "size", "state", "timer")

    def __init__(self, transport: asyncio.Transport) -> None:
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.abort = transport.abort
        self.state: State | None = None  # None while a request is in progress, and at the end
        self.deadline = float("inf")
        self.size = 0  # bytes of a head that is not whole
        self.timer: asyncio.TimerHandle | None = None


class _Pool:
    """Connections in one state, by address; of each address the oldest first."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.count = self.size = 0
        self._by_address: dict[str, dict[Connection, None]] = {}

    def add(self, connection: Connection) -> None:
        self._by_address.setdefault(connection.address, {})[connection] = None
        self.count += 1

    def remove(self, connection: Connection) -> None:
        of_address = self._by_address[connection.address]
        del of_address[connection]
        if not of_address:
            del self._by_address[connection.address]
        self.count -= 1
        self.size -= connection.size

    def find_surplus(self, address: str) -> Connection | None:
        """Return the connection to close after one of `address` was added; None where all may stay.

        An address with few connections loses none to those with many.
        """
        of_address = self._by_address.get(address, {})
        if len(of_address) > self.limit.of_one_address:
            return next(iter(of_address))
        if self.count > self.limit.connections or self.size > self.limit.size:
            crowded = max(self._by_address, key=lambda known: len(self._by_address[known]))
            return next(iter(self._by_address[crowded]))
        return None


class ConnectionLimits:
    """Counts of a server's connections by state, which closes those beyond their limits."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limits: Mapping[State, Limit] = LIMITS) -> None:
        self._loop = loop
        self._pools = {state: _Pool(limit) for state, limit in limits.items()}
        self._unreported: Counter[Reason] = Counter()
        self._reported_at = float("-inf")
        self._closed: Callable[[Reason], None] = lambda reason: None

    def expose(self, metrics: Metrics) -> None:
        """Show the numbers of connections by state, and count closures by reason."""
        for state in State:
            metrics.http_connections.labels(state).set_function(partial(self.count, state))
        counters = {reason: metrics.closed_connections.labels(reason) for reason in Reason}
        self._closed = lambda reason: counters[reason].inc()

    def count(self, state: State) -> int:
        """Return how many connections are in `state`."""
        return self._pools[state].count

    def enter(self, connection: Connection, state: State, expire: Callable[[], None] | None = None) -> None:
        """Move the connection into `state`; `expire` ends it where that has a time, by default at once."""
        began = connection.state is State.NEW
        self.leave(connection)
        connection.state = state
        pool = self._pools[state]
        pool.add(connection)
        if pool.limit.seconds is not None:
            deadline = self._loop.time() + pool.limit.seconds
            connection.deadline = min(deadline, connection.deadline) if began else deadline
            connection.timer = self._loop.call_at(
                connection.deadline, self._expire, connection, expire or connection.abort
            )
        self._make_room(pool, connection.address)

    def add_to_head(self, connection: Connection, size: int, expire: Callable[[], None]) -> None:
        """Count `size` bytes more of a head that is not whole; `expire` ends the connection in time."""
        if connection.state is not State.HALF_SENT:
            self.enter(connection, State.HALF_SENT, expire)
        if connection.state is State.HALF_SENT:
            connection.size += size
            pool = self._pools[State.HALF_SENT]
            pool.size += size
            self._make_room(pool, connection.address)

    def leave(self, connection: Connection) -> None:
        """Stop counting the connection: it has a request in progress, or is lost."""
        if connection.state is None:
            return
        self._pools[connection.state].remove(connection)
        connection.state, connection.size = None, 0
        if connection.timer is not None:
            connection.timer.cancel()
            connection.timer = None

    def _make_room(self, pool: _Pool, address: str) -> None:
        while (surplus := pool.find_surplus(address)) is not None:
            self.leave(surplus)
            surplus.abort()
            self._report(Reason.CROWDED)

    def _expire(self, connection: Connection, expire: Callable[[], None]) -> None:
        self.leave(connection)
        expire()
        self._report(Reason.SLOW)

    def _report(self, reason: Reason) -> None:
        self._closed(reason)
        self._unreported[reason] += 1
        if self._loop.time() - self._reported_at < REPORT_SECONDS:
            return
        log.warning(
            "closed %d connections whose requests did not come in time, and %d beyond the limits",
            self._unreported[Reason.SLOW],
            self._unreported[Reason.CROWDED],
        )
        self._unreported.clear()
        self._reported_at = self._loop.time()
