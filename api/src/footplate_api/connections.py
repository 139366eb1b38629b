"""What one connection may hold: of memory while its request waits, and of time at both its ends.

uvloop reads ahead of whoever decrypts, by a quarter of a megabyte a connection, and half a megabyte more of
what nobody takes. A thousand coordinators that come back at once would be 700 MB before the first of their
batches is admitted. What the kernel holds of a connection bounds what is read ahead, and TLS has buffers of
its own. Its patience is a minute for a handshake and half a minute for a goodbye: a client that keeps an
idle connection and does not look at it, as many do, would hold up the end of the process for as long. The
server offers no way to say less, so the loop says it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any, Final

import uvloop
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HANDSHAKE_SECONDS: Final = 15.0
GOODBYE_SECONDS: Final = 1.0
KERNEL_BYTES: Final = 16 * 1024  # the kernel takes it for twice as much, of which half is its own
DECRYPTED_BYTES: Final = 16 * 1024  # the most that one record of TLS holds
WAITING_BYTES: Final = 64 * 1024  # of an answer that its caller does not take


class Protocol(HttpToolsProtocol):
    """HTTP over a connection that holds so little."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # of uvloop
        """Bound the buffers of TLS; without it there are none beside the server's own."""
        if transport.get_extra_info("sslcontext") is not None:
            transport.set_read_buffer_limits(high=DECRYPTED_BYTES)  # type: ignore[attr-defined]  # of TLS only
            transport.set_write_buffer_limits(high=WAITING_BYTES)
        super().connection_made(transport)


class Loop(uvloop.Loop):
    """A loop whose servers hold as little of connections, and wait for peers as long, as stands above."""

    async def create_server(self, *arguments: Any, **named: Any) -> Any:
        """As uvloop's, with those bounds where there is TLS."""
        if named.get("ssl") is None:
            return await super().create_server(*arguments, **named)
        patience = {"ssl_handshake_timeout": HANDSHAKE_SECONDS, "ssl_shutdown_timeout": GOODBYE_SECONDS}
        server: Any = await super().create_server(*arguments, **(patience | named))
        for listening in server.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as own:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, KERNEL_BYTES)  # of what it accepts
        return server
