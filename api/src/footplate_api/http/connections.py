"""HTTP protocol and event loop with bounds on each connection's memory and on the time at both its ends.

uvloop reads ahead of TLS decryption, by a quarter of a megabyte a connection, and half a megabyte more of
decrypted data that nobody reads. A thousand coordinators that reconnect at once would take 700 MB before the
first of their batches is admitted. The kernel's receive buffer bounds the read-ahead, and TLS has buffers of
its own. uvloop's timeouts are a minute for a handshake and half a minute for a shutdown: a client that does
not look at its idle connection, as many do, would delay the end of the process for as long. The server has no
option for less, so the loop sets it.

Neither the server nor its parser bounds what precedes a body, which is all in memory before authentication:
the protocol counts it, and reports the connection's state to the connection limits. These count a connection
from its acceptance on, so the loop creates its TLS itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from typing import Any, Final

import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvloop.loop import SSLProtocol  # type: ignore[attr-defined]  # not in its stubs

from footplate_api.http.connection_limits import LIMITS, ConnectionLimits, ConnectionState, LimitedConnection
from footplate_api.instruments import ApiMetrics

HANDSHAKE_SECONDS: Final = 15.0
GOODBYE_SECONDS: Final = 1.0
KERNEL_BYTES: Final = 16 * 1024  # the kernel takes it for twice as much, of which half is its own
DECRYPTED_BYTES: Final = 16 * 1024  # the most that one record of TLS holds
WAITING_BYTES: Final = 64 * 1024  # of an answer that its caller does not take
URL_BYTES: Final = 8 * 1024
HEADER_BYTES: Final = 64 * 1024  # of all headers of a request; a token has up to 16 KiB
_HEADER_ITSELF: Final = 32  # that one header takes beside its text, as HTTP/2 counts it
_URL_TOO_LONG: Final = f"The URL must have at most {URL_BYTES} bytes."
_HEADERS_TOO_LONG: Final = f"The headers must have at most {HEADER_BYTES} bytes."
_HEAD_TOO_SLOW: Final = (
    f"The request line and headers must come within {LIMITS[ConnectionState.HALF_SENT].seconds:g} seconds."
)


class RequestHeadTooLong(Exception):
    """Too many bytes before the body; the parser turns it into an error of its own."""


class LimitedHttpProtocol(LimitedConnection, HttpToolsProtocol):
    """HTTP protocol with bounds on the memory of a connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of uvloop
        """Bound the buffers of TLS; a connection without TLS has only the server's own."""
        if transport.get_extra_info("sslcontext") is not None:
            transport.set_read_buffer_limits(high=DECRYPTED_BYTES)  # type: ignore[attr-defined]  # of TLS only
            transport.set_write_buffer_limits(high=WAITING_BYTES)
        self._headers_bytes = 0  # of the request that is read
        self._silent_bytes = 0  # of which the parser has made nothing yet, as of half a header
        self._excess = ""
        self._is_head_open = False  # of the request that is read
        assert isinstance(self.loop, ServerEventLoop)
        if self.state is None:  # without TLS, which has counted it already
            self.accept(self.loop.connection_limits, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop counting the connection."""
        self.limits.move(self, None)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes that the parser retains; the other callbacks count what it passes on."""
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > HEADER_BYTES and not self.transport.is_closing():
            self._excess = _HEADERS_TOO_LONG
            self.send_400_response(_HEADERS_TOO_LONG)
        if (self._is_head_open or self.cycle is None) and not self.transport.is_closing():
            self.limits.move(self, ConnectionState.HALF_SENT, len(data))

    def expire(self) -> None:
        """Refuse a head that is too slow, or close a connection on which none has begun."""
        if self.state is not ConnectionState.HALF_SENT:
            self.abort()
        elif not self.transport.is_closing():
            self._refuse(b"408 Request Timeout", _HEAD_TOO_SLOW)

    def on_headers_complete(self) -> None:
        """Stop counting the head."""
        self._is_head_open = False
        self.limits.move(self, None)
        super().on_headers_complete()

    def on_message_begin(self) -> None:
        """Start counting a new head."""
        self._is_head_open = True
        self._headers_bytes = self._silent_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Add a piece of the URL; raises RequestHeadTooLong."""
        self._silent_bytes = 0
        super().on_url(url)
        if len(self.url) > URL_BYTES:
            self._excess = _URL_TOO_LONG
            raise RequestHeadTooLong(_URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header, or a trailer; raises RequestHeadTooLong."""
        self._silent_bytes = 0
        self._headers_bytes += len(name) + len(value) + _HEADER_ITSELF
        if self._headers_bytes > HEADER_BYTES:
            self._excess = _HEADERS_TOO_LONG
            raise RequestHeadTooLong(_HEADERS_TOO_LONG)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Pass on a piece of the body."""
        self._silent_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Continue, and release everything of the finished request, as the next one may be long in coming."""
        super().on_response_complete()
        if not (self._is_head_open or self.pipeline or self.transport.is_closing()):
            self.limits.move(self, ConnectionState.IDLE)
        over = self.cycle  # or a later one, which is still read
        if over is None or over.more_body or not over.response_complete:
            return
        self.cycle = None  # type: ignore[assignment]  # as before the first request
        if self.scope is over.scope:  # nothing of the next one has come
            self.scope = self.headers = None  # type: ignore[assignment]

    def send_400_response(self, msg: str) -> None:
        """Refuse malformed input and close: with 431 if the headers are too long, else with 400."""
        if self._excess != _HEADERS_TOO_LONG:
            super().send_400_response(self._excess or msg)
            return
        self._refuse(b"431 Request Header Fields Too Large", _HEADERS_TOO_LONG)

    def _refuse(self, status: bytes, message: str) -> None:
        text = message.encode()
        self.transport.write(
            b"HTTP/1.1 %s\r\ncontent-type: text/plain; charset=utf-8\r\n"
            b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (status, len(text), text)
        )
        self.transport.close()


class _Encryption(SSLProtocol):  # type: ignore[misc]  # has no types
    """TLS of a connection that the limits count from its acceptance on."""

    def __init__(self, loop: ServerEventLoop, context: ssl.SSLContext, protocol: LimitedHttpProtocol) -> None:
        super().__init__(
            *(loop, protocol, context, None),  # nobody waits for the handshake
            server_side=True,
            ssl_handshake_timeout=HANDSHAKE_SECONDS,
            ssl_shutdown_timeout=GOODBYE_SECONDS,
        )
        self._limits, self._protocol = loop.connection_limits, protocol

    def connection_made(self, transport: asyncio.Transport) -> None:
        """Count the connection, and begin the handshake."""
        self._protocol.accept(self._limits, transport)
        super().connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Report the end of a failed handshake, too, and break a reference cycle that would hold memory."""
        super().connection_lost(exc)
        if self._protocol.transport is None:
            self._protocol.connection_lost(exc or ConnectionAbortedError())
        del self._protocol


class ServerEventLoop(uvloop.Loop):
    """Event loop whose servers bound the buffers of connections and the time of TLS handshakes."""

    def __init__(self) -> None:
        super().__init__()
        self.connection_limits = ConnectionLimits(self, ApiMetrics())

    async def create_server(self, *arguments: Any, **named: Any) -> Any:
        """Create uvloop's server, with these bounds where there is TLS."""
        context = named.pop("ssl", None)
        if context is None:
            return await super().create_server(*arguments, **named)
        make_protocol, *others = arguments
        server: Any = await super().create_server(
            lambda: _Encryption(self, context, make_protocol()), *others, **named
        )
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)  # of what it accepts
        return server
