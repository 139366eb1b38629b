"""What a connection over TLS may hold of a process that does not take it."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import uvicorn

from footplate_api.certificate import Certificate, Files
from footplate_api.connections import Loop, Protocol
from tests.support.certificates import Issuer, Volume

SENT = 4 * 1024 * 1024
BOUND = 256 * 1024  # of what a client could send: buffers of both kernels, of TLS and of the server


def served(folder: Path, issuer: Issuer, protocol: type[asyncio.Protocol]) -> uvicorn.Config:
    """A server whose application never reads a body, nor answers."""
    volume = Volume(folder / "tls")
    volume.put(issuer.serving())
    certificate = Certificate(Files(volume / "tls.crt", volume / "tls.key"))

    async def application(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    return uvicorn.Config(
        application,
        http=protocol,
        port=0,
        lifespan="off",
        log_level="critical",
        ssl_context_factory=lambda *_: certificate.context,
    )


async def taken(config: uvicorn.Config, issuer: Issuer) -> int:
    """Bytes of a body that a client gets rid of."""
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    address = server.servers[0].sockets[0].getsockname()
    sent = await asyncio.to_thread(flood, address, issuer)
    for listening in server.servers:
        listening.close()
    return sent


def flood(address: tuple[str, int], issuer: Issuer) -> int:
    """Bytes of a body that are taken until none is any more, for a second."""
    with socket.socket() as own:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        own.connect(address)
        own.settimeout(1.0)
        sent = 0
        with issuer.trusting().wrap_socket(own, server_hostname="127.0.0.1") as client:
            client.sendall(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % SENT)
            try:
                while sent < SENT:
                    sent += client.send(bytes(4096))
            except TimeoutError:
                return sent
    return sent


def test_little_is_read_ahead_of_whoever_takes_it(tmp_path: Path) -> None:
    issuer = Issuer()
    with asyncio.Runner(loop_factory=Loop) as runner:
        found = runner.run(taken(served(tmp_path, issuer, Protocol), issuer))
    print(f"\n{found / 1024:.0f} KiB of a connection are held")
    assert 0 < found < BOUND
