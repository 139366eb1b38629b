"""A proxy on loopback that does CONNECT and nothing else, and notes where it was asked to connect to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field


@dataclass
class Tunnel:
    """One that runs; `status` is what it answers."""

    url: str = ""
    status: int = 200
    asked: list[str] = field(default_factory=list)  # host:port, in order

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from its CONNECT until either side ends."""
        method, place, *_ = (await reader.readuntil(b"\r\n\r\n")).decode().split()
        self.asked.append(place)
        if method != "CONNECT" or self.status != 200:
            writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        host, _, port = place.rpartition(":")
        there_reader, there = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
        try:
            await asyncio.gather(_copied(reader, there), _copied(there_reader, writer))
        finally:
            there.close()
            writer.close()


async def _copied(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    try:
        while data := await source.read(65536):
            target.write(data)
            await target.drain()
    except ConnectionError:
        pass  # whoever ended it has what it wanted
    target.close()


@asynccontextmanager
async def tunnelling() -> AsyncIterator[Tunnel]:
    """A proxy for the block."""
    tunnel = Tunnel()
    server = await asyncio.start_server(tunnel.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    tunnel.url = f"http://{host}:{port}"
    async with server:
        yield tunnel
