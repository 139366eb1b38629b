"""The HTTP session of the watches, with a callback for each answer of the API server.

A connection whose other end has vanished would stay open until the kernel closes it, after a quarter of an
hour; ours is closed after some seconds, and made anew.

kopf retries where a request fails, but not where its answer breaks off: that would end the operator during
discovery. So an answer is complete before kopf has it, unless it is a watch.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Final, cast

import aiohttp

from footplate_operator.runtime.cluster import Login
from footplate_operator.runtime.kinds import Json

Heard = Callable[[str], None]  # told the URL path
Counted = Callable[[str, int], None]  # told method and status
Lean = Callable[[Json], Json]  # what of an object is kept
_UNANSWERED_SECONDS: Final = 10  # of what was sent, or of probes
_IDLE_SECONDS: Final = 4  # before the first probe
_PROBE_SECONDS: Final = 2
_PROBES: Final = 3


def watch_session(
    known: Login, heard: Heard, counted: Counted, leanings: Mapping[str, Lean]
) -> aiohttp.ClientSession:
    """Return a session with the login `known`.

    `leanings`: by URL path. A page of a list is hundreds of objects, each of which kopf retains for a second
    or more; thousands of nodes with the names of their images would not fit.
    """

    class Response(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            answer = await super().start(connection)
            counted(self.method, self.status)
            if self.status < 400:
                path = self.url.path
                heard(path)
                listened = _Listened(self.content, lambda: heard(path))
                self.content = cast(aiohttp.StreamReader, listened)
            if self.status >= 400 or "watch" not in self.url.query:
                try:
                    await self.read()
                except aiohttp.ClientPayloadError as error:
                    raise aiohttp.ClientConnectionError(f"the response ended early: {error}") from error
            return answer

        async def json(self, **options: Any) -> Any:
            found = await super().json(**options)
            lean = next((lean for path, lean in leanings.items() if self.url.path.endswith(path)), None)
            if lean is not None and isinstance(found, dict) and "items" in found:
                found["items"] = [lean(item) for item in found["items"]]
            return found

    authorization = known.api_key.get("BearerToken", "")
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=_tls(known), socket_factory=_socket),
        headers={"Authorization": authorization} if authorization else {},
        response_class=Response,
    )


class _Listened:
    """The content of an answer; `heard` is called for each chunk of it."""

    def __init__(self, content: aiohttp.StreamReader, heard: Callable[[], None]) -> None:
        self._content = content
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def iter_chunked(self, size: int) -> AsyncIterator[bytes]:
        """Yield chunks of at most `size` bytes, as they arrive."""
        async for piece in self._content.iter_chunked(size):
            self._heard()
            yield piece


def _tls(known: Login) -> ssl.SSLContext | bool:
    if not known.host.startswith("https:"):
        return True
    context = ssl.create_default_context(cafile=known.ssl_ca_cert)
    if known.cert_file:
        context.load_cert_chain(known.cert_file, known.key_file)
    if not known.verify_ssl:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """Return a socket that detects a vanished peer within seconds."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    options = {
        "TCP_KEEPIDLE": _IDLE_SECONDS,
        "TCP_KEEPINTVL": _PROBE_SECONDS,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": 1000 * _UNANSWERED_SECONDS,
    }
    made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in options.items():
        if hasattr(socket, name):  # Linux has them all
            made.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return made
