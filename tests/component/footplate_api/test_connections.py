"""What a connection may hold of the process: of what that does not take, and of what stands before a body."""

from __future__ import annotations

import asyncio
import socket
import ssl
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import pytest
import uvicorn

from cluster.machine.ports import claim_ports
from footplate_api.http.certificate import Certificate, Files
from footplate_api.http.connections import URL_BYTES, LimitedHttpProtocol, ServerEventLoop
from footplate_api.settings import ALL_ADDRESSES
from tests.support.certificates import Issuer, Volume
from tests.support.web import needs_ipv6

SENT = 4 * 1024 * 1024
PIECE = 4096
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


@asynccontextmanager
async def listening(config: uvicorn.Config) -> AsyncIterator[tuple[str, int]]:
    """The address of a server, for the block."""
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    yield server.servers[0].sockets[0].getsockname()
    for listener in server.servers:
        listener.close()


async def taken(config: uvicorn.Config, issuer: Issuer) -> int:
    """Bytes of a body that a client gets rid of."""
    async with listening(config) as address:
        return await asyncio.to_thread(flood, address, issuer)


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
    with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
        found = runner.run(taken(served(tmp_path, issuer, LimitedHttpProtocol), issuer))
    print(f"\n{found / 1024:.0f} KiB of a connection are held")
    assert 0 < found < BOUND


# -- what stands before a body -----------------------------------------------------------


async def answered(config: uvicorn.Config, *requests: bytes, issuer: Issuer | None = None) -> list[bytes]:
    """What a server says to each of `requests`, on a connection of its own, until it closes."""
    async with listening(config) as address:
        return [await asyncio.to_thread(said, address, request, issuer) for request in requests]


def said(address: tuple[str, int], request: bytes, issuer: Issuer | None) -> bytes:
    """The answer to `request`, of which the server may not take all."""
    with socket.create_connection(address, timeout=10.0) as own:
        client = own if issuer is None else issuer.trusting().wrap_socket(own, server_hostname="127.0.0.1")
        found = b""
        with client, suppress(ConnectionError, ssl.SSLError):
            with suppress(ConnectionError, ssl.SSLError):
                for start in range(0, len(request), PIECE):
                    client.sendall(request[start : start + PIECE])
            while more := client.recv(65536):
                found += more
        return found


def request(url: int = 1, headers: Sequence[int] = (), rest: bytes = b"\r\n") -> bytes:
    """One with a URL of `url` bytes and headers with values of so many; `rest` stands behind them."""
    values = b"".join(b"X-%d: %s\r\n" % (number, b"h" * size) for number, size in enumerate(headers))
    return b"GET /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s%s" % (b"u" * (url - 1), values, rest)


async def greeting(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


CHUNKED: Final = b"Transfer-Encoding: chunked\r\n\r\n"
BEFORE_BODIES: Final = {
    "a URL": (request(URL_BYTES), b"200"),
    "a longer URL": (request(URL_BYTES + 1), b"400"),
    "a URL without end": (request(SENT)[: SENT // 2], b"400"),
    "a token": (request(headers=[16 * 1024]), b"200"),
    "headers": (request(headers=[15 * 1024] * 4), b"200"),
    "more headers": (request(headers=[15 * 1024] * 5), b"431"),
    "many headers": (request(headers=[0] * 2000), b"431"),
    "a header without end": (request(headers=[SENT])[: SENT // 2], b"431"),
    "a body": (request(rest=b"Content-Length: %d\r\n\r\n" % (SENT // 2) + bytes(SENT // 2)), b"200"),
    "a body in pieces": (request(rest=CHUNKED + b"2000\r\n%s\r\n" % bytes(8192) * 50 + b"0\r\n\r\n"), b"200"),
    "a trailer without end": (request(rest=CHUNKED + b"0\r\nX: " + b"t" * (SENT // 2)), b"431"),
    "nothing": (b"\r\n" * (SENT // 4), b"431"),
}


@pytest.mark.parametrize("encrypted", [False, True], ids=["plain", "tls"])
def test_what_stands_before_a_body_is_bounded(tmp_path: Path, encrypted: bool) -> None:
    issuer = Issuer()
    config = served(tmp_path, issuer, LimitedHttpProtocol)
    config.app = greeting
    if not encrypted:
        config.ssl_context_factory = None
    requests = [sent for sent, _ in BEFORE_BODIES.values()]
    with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
        answers = runner.run(answered(config, *requests, issuer=issuer if encrypted else None))
    statuses = dict(zip(BEFORE_BODIES, (answer[9:12] for answer in answers), strict=True))
    assert statuses == {what: status for what, (_, status) in BEFORE_BODIES.items()}


# -- what stays of a request that is over --------------------------------------------------


class Mark:
    """Something that a request holds."""


async def held(config: uvicorn.Config, marks: Sequence[weakref.ref[Mark]]) -> list[int]:
    """How many requests are held while a connection waits for its next one, after each part that has answers.

    Args:
        marks: of requests that `config`'s application has had; each comes before its answer.
    """
    found = []
    sent = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"
    parts = ((sent, 1), (sent, 1), (sent * 2, 2), (sent + sent[:20], 1), (sent[20:-2], 0), (sent[-2:], 1))
    async with listening(config) as (host, port):
        reader, writer = await asyncio.open_connection(host, port)
        for part, answers in parts:
            writer.write(part)
            for _ in range(answers):
                assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
            await asyncio.sleep(0)  # the application's task ends
            if answers:
                found.append(sum(mark() is not None for mark in marks))
        writer.close()
        await writer.wait_closed()
    return found


def test_nothing_is_held_of_a_request_that_is_over(tmp_path: Path) -> None:
    marks: list[weakref.ref[Mark]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scope["mark"] = mark = Mark()
        marks.append(weakref.ref(mark))
        await greeting(scope, receive, send)

    config = served(tmp_path, Issuer(), LimitedHttpProtocol)
    config.app, config.ssl_context_factory = application, None
    with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
        assert runner.run(held(config, marks)) == [0, 0, 0, 0, 0]
    assert len(marks) == 6


@needs_ipv6
def test_all_addresses_are_those_of_ipv4_and_of_ipv6() -> None:
    [port] = claim_ports(1)

    async def reached() -> list[str]:
        await asyncio.get_running_loop().create_server(asyncio.Protocol, ALL_ADDRESSES, port)
        peers = []
        for address in ("127.0.0.1", "::1"):
            _, writer = await asyncio.open_connection(address, port)
            peers.append(writer.get_extra_info("peername")[0])
            writer.close()
        return peers

    with asyncio.Runner(loop_factory=ServerEventLoop) as runner:
        assert runner.run(reached()) == ["127.0.0.1", "::1"]
