"""Why an agent ends is worth being said twice."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import AgentIdentity, HeartbeatResponse
from footplate_elastic.agent.client import Endpoint
from footplate_elastic.agent.energy_meter import EnergyMeter
from footplate_elastic.agent.session import Session
from footplate_elastic.protocol import wire

FAILURE = FailureReport(
    cause=Cause.IMAGE_OR_CONFIG, reason=Reason.DATA_MISSING, message="no folder", time=1.0
)
AGENT = AgentIdentity(index=0, incarnation=0, pod_name="tiny-w0-0", address="127.0.0.1", local_world_size=1)


class Interrupted(ThreadingHTTPServer):
    """A coordinator that is cut off in the middle of the first reason that it is told."""

    daemon_threads = True
    heard: list[dict[str, Any]]


class Handler(BaseHTTPRequestHandler):
    server: Interrupted

    def do_POST(self) -> None:
        told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.close_connection = True
        if "failure" in told:
            self.server.heard.append(told["failure"])
            if len(self.server.heard) == 1:
                return
        answer = HeartbeatResponse(epoch=1).model_dump_json(by_alias=True).encode()
        self.send_response(200)
        self.send_header(wire.EPOCH_HEADER, "1")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def coordinator() -> Iterator[Interrupted]:
    with Interrupted(("127.0.0.1", 0), Handler) as server:
        server.heard = []
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield server
        server.shutdown()
        serving.join()


def test_the_reason_of_an_end_is_told_again_where_the_coordinator_did_not_answer(
    coordinator: Interrupted,
) -> None:
    endpoint = Endpoint("", "127.0.0.1", coordinator.server_port, "", None)
    session = Session(AGENT, endpoint, None, EnergyMeter())
    assert session.send_failure(FAILURE, seconds=30)
    assert coordinator.heard == [FAILURE.to_json()] * 2
