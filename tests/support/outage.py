"""A way to a server that breaks off: connections are reset in the middle of chosen requests."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_RESET = struct.pack("ii", 1, 0)  # close() then sends RST instead of what is left


class Way:
    """Passes bytes on between `port` here and the server at `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._pattern = b""
        self._left = 0
        self._open: set[socket.socket] = set()
        self.broken = 0
        self.port: int = self._listener.getsockname()[1]

    def break_off(self, pattern: bytes, times: int) -> None:
        """Reset the connections of the next `times` requests that contain `pattern`; 0 heals."""
        with self._lock:
            self._pattern, self._left = pattern, times

    def serve(self) -> None:
        """Accept until closed."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                self._open |= {client, server}
                for pump in ((client, server), (server, client)):
                    threading.Thread(target=self._pump, args=pump, daemon=True).start()

    def cut(self) -> None:
        """End all connections that there are."""
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Accept no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                if self._breaks(data):
                    sink.sendall(data[: len(data) // 2])
                    for end in (source, sink):
                        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                    break
                sink.sendall(data)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            self._open.discard(end)
            end.close()

    def _breaks(self, data: bytes) -> bool:
        with self._lock:
            if not self._left or self._pattern not in data:
                return False
            self._left -= 1
            self.broken += 1
            return True


@contextmanager
def way_to(port: int) -> Iterator[Way]:
    """A way to the server on `port` of this machine."""
    way = Way(port)
    serving = threading.Thread(target=way.serve, daemon=True)
    serving.start()
    try:
        yield way
    finally:
        way.close()
        serving.join()
