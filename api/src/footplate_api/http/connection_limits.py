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
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import Final, Literal

from footplate_api.instruments import ApiMetrics

REPORT_SECONDS: Final = 60.0  # between two lines of the log

log = logging.getLogger(__name__)


class ConnectionState(StrEnum):
    """State of a connection that has no request in progress."""

    NEW = "new"  # accepted: not a byte of a request has come, and TLS may not be agreed on
    HALF_SENT = "half_sent"  # the head of a request has begun
    IDLE = "idle"  # the last request is answered


@dataclass(frozen=True)
class ConnectionLimit:
    """Limit of the connections in one state; beyond it the address with the most loses its oldest."""

    connections: int
    of_one_address: int | None = None
    seconds: float | None = None  # None: the server has a timer of its own
    size: int = 0  # bytes of all heads together


LIMITS: Final = {
    ConnectionState.NEW: ConnectionLimit(600, seconds=15.0),
    # Behind a proxy or a translated address all peers are one.
    ConnectionState.HALF_SENT: ConnectionLimit(128, 64, seconds=10.0, size=2 * 1024 * 1024),
    ConnectionState.IDLE: ConnectionLimit(2500),
}


class LimitedConnection:
    """Connection of a peer, as the limits count it."""

    limits: ConnectionLimits
    state: ConnectionState | None = None  # None while a request is in progress, and at the end
    deadline = float("inf")
    size = 0  # bytes of a head that is not whole
    timer: asyncio.TimerHandle | None = None

    def accept(self, limits: ConnectionLimits, transport: asyncio.Transport) -> None:
        """Count the connection, whose TCP transport is `transport`."""
        peer = transport.get_extra_info("peername")
        self.address = str(peer[0]) if isinstance(peer, tuple) else ""
        self.limits, self.abort = limits, transport.abort
        limits.move(self, ConnectionState.NEW)

    def expire(self) -> None:
        """End the connection after its time in one state."""
        self.abort()


class ConnectionLimits:
    """Connections of a server by state; those beyond the limits are closed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        metrics: ApiMetrics,
        limits: Mapping[ConnectionState, ConnectionLimit] = LIMITS,
    ) -> None:
        self._loop = loop
        self._limits = limits
        self.connections: dict[ConnectionState, dict[LimitedConnection, None]] = {
            state: {} for state in ConnectionState
        }  # oldest first
        self._closed = {reason: metrics.closed_connections.labels(reason) for reason in ("slow", "crowded")}
        self._reported_at = float("-inf")
        for state, known in self.connections.items():
            metrics.http_connections.labels(state).set_function(partial(len, known))

    def move(self, connection: LimitedConnection, state: ConnectionState | None, size: int = 0) -> None:
        """Count the connection in `state`, with `size` more bytes of a head; with None, stop counting it."""
        if state is not connection.state:
            self._change(connection, state)
        connection.size += size
        while state is not None and (surplus := self._find_surplus(state)) is not None:
            self._close(surplus, "crowded")

    def _change(self, connection: LimitedConnection, state: ConnectionState | None) -> None:
        before = connection.state
        if before is not None:
            del self.connections[before][connection]
        if connection.timer is not None:
            connection.timer.cancel()
        connection.state, connection.size, connection.timer = state, 0, None
        if state is None:
            return
        self.connections[state][connection] = None
        seconds = self._limits[state].seconds
        if seconds is not None:
            deadline = self._loop.time() + seconds
            connection.deadline = (
                min(deadline, connection.deadline) if before is ConnectionState.NEW else deadline
            )
            connection.timer = self._loop.call_at(connection.deadline, self._close, connection, "slow")

    def _find_surplus(self, state: ConnectionState) -> LimitedConnection | None:
        known, limit = self.connections[state], self._limits[state]
        few = len(known) <= limit.connections
        if not known or (few and limit.of_one_address is None):
            return None  # as nearly always, without counting addresses
        [(crowded, most)] = Counter(connection.address for connection in known).most_common(1)
        size = sum(connection.size for connection in known)
        if few and most <= (limit.of_one_address or most) and size <= limit.size:
            return None
        return next(connection for connection in known if connection.address == crowded)

    def _close(self, connection: LimitedConnection, reason: Literal["slow", "crowded"]) -> None:
        end = connection.expire if reason == "slow" else connection.abort
        end()
        self._change(connection, None)
        self._closed[reason].inc()
        if self._loop.time() - self._reported_at >= REPORT_SECONDS:
            self._reported_at = self._loop.time()
            log.warning("closed a connection (%s); footplate_api_closed_connections_total counts all", reason)
