"""HTTP to the coordinator with the standard library, one persistent connection per thread.

The coordinator is replaced now and then and comes back under another address. So an address is looked up
again for every new connection, and an answer counts only if it comes from the highest epoch that this agent
has ever received.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.base import WireMessage
from footplate_elastic.agent import timing
from footplate_elastic.agent.errors import Unreachable
from footplate_elastic.protocol.wire import EPOCH_HEADER

ANSWER_BYTES: Final = 8 * 1024 * 1024  # the members of 4096 nodes with the longest names are 3 MB

# A coordinator's node that is gone sends no end: the kernel has to find out by itself.
_KEEPALIVE: Final = ((socket.TCP_KEEPIDLE, 5), (socket.TCP_KEEPINTVL, 2), (socket.TCP_KEEPCNT, 3))


@dataclass(frozen=True)
class Endpoint:
    """The coordinator's location: an address that may be outdated, and a DNS name that always holds."""

    host: str
    hint: str
    port: int
    token: str
    certificate: Path | None  # the only one that is trusted; None: plain HTTP

    def tls(self) -> ssl.SSLContext | None:
        """Return a context that trusts the run's own certificate and nothing else; None: plain HTTP."""
        return ssl.create_default_context(cafile=self.certificate) if self.certificate else None


class CoordinatorAddresses:
    """State shared by an agent's connections: the last good address and the highest epoch."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.tls = endpoint.tls()
        self._good = endpoint.hint
        self._epoch = 0
        self._lock = threading.Lock()

    def candidates(self) -> Iterator[str]:
        """Yield addresses to try, best first; the name is only resolved when the first one fails."""
        good = self._good
        if good:
            yield good
        if self.endpoint.host:
            with contextlib.suppress(OSError):
                found = socket.getaddrinfo(self.endpoint.host, self.endpoint.port, type=socket.SOCK_STREAM)
                yield from dict.fromkeys(str(entry[4][0]) for entry in found if entry[4][0] != good)
        if self.endpoint.hint and self.endpoint.hint != good:
            yield self.endpoint.hint

    def accept_answer(self, address: str, epoch: int) -> bool:
        """Record an answer; return whether it counts, which one from an earlier epoch does not."""
        with self._lock:
            if epoch < self._epoch:
                return False
            self._epoch = epoch
            self._good = address
            return True

    def mark_failed(self, address: str) -> None:
        """Record that `address` has failed, so that others are tried first."""
        with self._lock:
            if self._good == address:
                self._good = ""


class _Http(http.client.HTTPConnection):
    """An HTTP connection to an address, authenticated by name."""

    def __init__(self, address: str, directory: CoordinatorAddresses, timeout: float) -> None:
        super().__init__(address, directory.endpoint.port, timeout=timeout)
        self._tls = directory.tls
        self._name = directory.endpoint.host or address

    def connect(self) -> None:
        """Connect within a second and enable TCP keepalive."""
        plain = socket.create_connection((self.host, self.port), timing.CONNECT)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in _KEEPALIVE:
            plain.setsockopt(socket.IPPROTO_TCP, option, value)
        self.sock = self._tls.wrap_socket(plain, server_hostname=self._name) if self._tls else plain
        self.sock.settimeout(self.timeout)


class Backoff:
    """Pauses that double up to a second and start small again after a success."""

    def __init__(self) -> None:
        self._failures = 0

    def pause(self, ending: threading.Event) -> None:
        """Sleep for the next pause, or until this agent ends."""
        self._failures += 1
        ending.wait(backoff_seconds(self._failures, first=timing.FIRST_PAUSE, longest=timing.LONGEST_PAUSE))

    def reset(self) -> None:
        """Record a success: the next pause is short again."""
        self._failures = 0


@dataclass(frozen=True)
class CoordinatorResponse:
    """Status and body of an HTTP response."""

    status: int
    body: bytes


class Connection:
    """A persistent connection for one thread; unusable after close()."""

    def __init__(self, directory: CoordinatorAddresses) -> None:
        self._directory = directory
        self._http: _Http | None = None
        self._epoch: int | None = None  # of the coordinator at the other end, once it has spoken

    def request(self, method: str, path: str, body: str | None, timeout: float) -> CoordinatorResponse:
        """Send one request; raises Unreachable, after which the next request reconnects."""
        address, response = self._open(method, path, body, timeout)
        try:
            content = response.read(ANSWER_BYTES + 1)
        except (OSError, http.client.HTTPException) as error:
            self._give_up(address)
            raise Unreachable(repr(error)) from None
        if len(content) > ANSWER_BYTES:
            self._give_up(address)  # the rest of it would be taken for the next answer
            raise Unreachable(f"the response is longer than {ANSWER_BYTES} bytes")
        if response.length:  # a read of at most so many bytes does not say that the other side ended early
            self._give_up(address)
            raise Unreachable(f"the response ended {response.length} bytes early")
        return CoordinatorResponse(response.status, content)

    def post(self, path: str, message: WireMessage, timeout: float) -> CoordinatorResponse:
        """POST `message`; raises as `request` does."""
        return self.request("POST", path, message.model_dump_json(by_alias=True, exclude_none=True), timeout)

    def hold_open(self, path: str) -> int:
        """GET `path` and read until the other side closes; return the status. Raises Unreachable."""
        _, response = self._open("GET", path, None, timing.CONNECT)
        assert self._http is not None
        if response.status == 200 and self._http.sock is not None:
            self._http.sock.settimeout(None)
        with contextlib.suppress(OSError, http.client.HTTPException):
            while response.read1(1024):
                pass
        self.close()
        return response.status

    def shut_down_stale(self, epoch: int) -> None:
        """End a `hold_open` with a coordinator before `epoch`; called from another thread."""
        current = self._http
        earlier = self._epoch is not None and self._epoch < epoch
        if earlier and current is not None and current.sock is not None:
            with contextlib.suppress(OSError):
                current.sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection."""
        if self._http is not None:
            self._http.close()
            self._http = None

    def _open(
        self, method: str, path: str, body: str | None, timeout: float
    ) -> tuple[str, http.client.HTTPResponse]:
        last = "no address is known"
        known = [self._http.host] if self._http is not None else []
        for address in known or self._directory.candidates():
            try:
                return address, self._ask(address, method, path, body, timeout)
            except (OSError, http.client.HTTPException, Unreachable) as error:
                self._give_up(address)
                last = f"{address}: {error!r}"
        raise Unreachable(last)

    def _ask(
        self, address: str, method: str, path: str, body: str | None, timeout: float
    ) -> http.client.HTTPResponse:
        if self._http is None:
            self._epoch = None
            self._http = _Http(address, self._directory, timeout)
        self._http.timeout = timeout
        if self._http.sock is not None:
            self._http.sock.settimeout(timeout)
        headers = {"Authorization": f"Bearer {self._directory.endpoint.token}"}
        if body is not None:
            headers["Content-Type"] = "application/json"
        self._http.request(method, path, body.encode() if body is not None else None, headers)
        response = self._http.getresponse()
        self._epoch = int(response.headers.get(EPOCH_HEADER, "0"))
        if not self._directory.accept_answer(address, self._epoch):
            raise Unreachable(f"the coordinator at {address} was replaced")
        return response

    def _give_up(self, address: str) -> None:
        self.close()
        self._directory.mark_failed(address)
