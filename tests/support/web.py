"""A plain web server over a folder, on loopback; and whether that has IPv6."""

from __future__ import annotations

import functools
import http.server
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest


@dataclass
class Web:
    """Where it is, and what was fetched from it."""

    address: str
    fetched: list[str]  # names without their folders, in order


@contextmanager
def web_server(folder: Path, *, lists: bool = True, refuses: int | None = None) -> Iterator[Web]:
    """Serve `folder`. Without `lists` a folder has no page; `refuses` is the status of every answer."""
    fetched: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            fetched.append(self.path.rpartition("/")[2])
            super().do_GET()

        def send_head(self) -> BytesIO | BinaryIO | None:
            if refuses is None and (lists or not Path(self.translate_path(self.path)).is_dir()):
                return super().send_head()
            self.send_error(refuses or 403)
            return None

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
            """Not in a test's output."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        try:
            yield Web(f"http://127.0.0.1:{serving.server_port}", fetched)
        finally:
            serving.shutdown()
            thread.join()


# -- IPv6 ------------------------------------------------------------------------------------------


def has_ipv6() -> bool:
    """Whether somebody may listen on ::1."""
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="loopback has no IPv6 here")
