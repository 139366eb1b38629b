"""An agent reads no more of an answer than a coordinator can have to say, and takes no part for the whole."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from footplate_elastic.agent.client import (
    ANSWER_BYTES,
    Connection,
    CoordinatorAddresses,
    CoordinatorResponse,
    Endpoint,
)
from footplate_elastic.agent.errors import Unreachable

LENGTHS = {"/longest": ANSWER_BYTES, "/longer": ANSWER_BYTES + 1, "/none": 0, "/cut": 100}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(LENGTHS[self.path]))
        self.end_headers()
        if self.path == "/cut":  # as by a coordinator that is killed
            self.wfile.write(b"x")
            self.close_connection = True
        else:
            self.wfile.write(b"x" * LENGTHS[self.path])


@pytest.fixture
def directory() -> Iterator[CoordinatorAddresses]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield CoordinatorAddresses(Endpoint("", "127.0.0.1", server.server_port, "", None))
        server.shutdown()
        serving.join()


def test_the_rest_of_an_answer_that_is_too_long_is_no_later_answer(directory: CoordinatorAddresses) -> None:
    with closing(Connection(directory)) as connection:
        with pytest.raises(Unreachable, match=f"longer than {ANSWER_BYTES} bytes"):
            connection.request("GET", "/longer", None, 30.0)
        assert connection.request("GET", "/none", None, 30.0) == CoordinatorResponse(200, b"")
        assert connection.request("GET", "/longest", None, 30.0) == CoordinatorResponse(
            200, b"x" * ANSWER_BYTES
        )
        assert connection.request("GET", "/none", None, 30.0) == CoordinatorResponse(200, b"")


def test_an_answer_that_is_cut_off_is_none(directory: CoordinatorAddresses) -> None:
    with closing(Connection(directory)) as connection:
        with pytest.raises(Unreachable, match="ended 99 bytes early"):
            connection.request("GET", "/cut", None, 30.0)
        assert connection.request("GET", "/none", None, 30.0) == CoordinatorResponse(200, b"")
