"""Peers without a token that send half of their requests' heads, from many addresses of the loopback."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def half_of_head(size: int) -> bytes:
    """The first `size` bytes of a request whose headers do not end."""
    head = b"GET / HTTP/1.1\r\nHost: a\r\n"
    for number in range(size // 4000 + 1):
        head += b"X-%d: %s\r\n" % (number, b"h" * 4000)
    return head[:size]


def untrusting() -> ssl.SSLContext:
    """TLS of a client that talks to anybody."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def peer(port: int, address: str, head: bytes, context: ssl.SSLContext) -> None:
    """Send `head` and wait until the server closes the connection, again and again."""
    while True:
        with suppress(OSError):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=context, local_addr=(address, 0), limit=1024
            )
            try:
                writer.write(head)
                await reader.read()
            finally:
                writer.transport.abort()
        await asyncio.sleep(0)


async def attack(port: int, connections: int, addresses: int, size: int) -> None:
    """Keep so many connections open, as far as the server lets them be, until it is cancelled."""
    head, context = half_of_head(size), untrusting()
    async with asyncio.TaskGroup() as group:
        for number in range(connections):
            address = f"127.0.1.{1 + number % addresses}"
            group.create_task(peer(port, address, head, context))
        print("begun", flush=True)


@contextmanager
def attacking(port: int, connections: int, addresses: int, size: int) -> Iterator[None]:
    """A process that attacks for as long as the block takes."""
    arguments = [str(number) for number in (port, connections, addresses, size)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.half_sent", *arguments],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    ) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()


if __name__ == "__main__":
    asyncio.run(attack(*map(int, sys.argv[1:])))
