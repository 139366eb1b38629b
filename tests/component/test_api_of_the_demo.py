"""How demo and system tests ask the API: whatever of port, token and authorities is lost is got anew."""

from __future__ import annotations

import json
import os
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from demo.api import Api, api_of
from demo.kube import DemoError, Kube
from tests.support.certificates import Issuer

KUBECTL = """#!/bin/bash
cd {folder}
case "$1" in
    apply) cat > applied ;;
    create) cat token.json ;;
    get) cat bundle.json ;;
    port-forward)
        [ -e port ] || { echo "error: no pod runs"; exit 1; }
        echo "Forwarding from 127.0.0.1:$(cat port) -> 8443"
        exec sleep 600 ;;
esac
"""


class Cluster:
    """What kubectl says, and the API where its forwarded port leads."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.issuer = folder, Issuer()
        program = folder / "bin" / "kubectl"
        program.parent.mkdir()
        program.write_text(KUBECTL.replace("{folder}", str(folder)))
        program.chmod(0o755)
        self.kube = Kube(os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"})
        self.asked: list[tuple[str, str]] = []  # path and Authorization of each request
        self.give_token("first", timedelta(hours=1))

    def give_token(self, token: str, life: timedelta) -> None:
        """What `kubectl create token` answers from now on."""
        ends = (datetime.now(UTC) + life).strftime("%Y-%m-%dT%H:%M:%SZ")
        self._say("token.json", {"status": {"token": token, "expirationTimestamp": ends}})

    def publish(self, issuer: Issuer) -> None:
        """Who vouches for the API, by its ConfigMap."""
        self._say("bundle.json", {"data": {"ca.crt": issuer.bundle}})

    def _say(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """An API with a certificate of the issuer, for the block."""
        for name, content in self.issuer.serving().items():
            (self.folder / name).write_bytes(content)
        asked = self.asked

        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers["Authorization"]))
                self.send_response(int(self.path.removeprefix("/")))
                self.end_headers()
                self.wfile.write(b'{"detail": "as asked"}')

            def log_request(self, *said: object) -> None: ...

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        proof = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        proof.load_cert_chain(self.folder / "tls.crt", self.folder / "tls.key")
        server.socket = proof.wrap_socket(server.socket, server_side=True)
        self.publish(self.issuer)
        (self.folder / "port").write_text(str(server.server_address[1]))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            (self.folder / "port").unlink()


@pytest.fixture
def cluster(tmp_path: Path) -> Cluster:
    return Cluster(tmp_path)


@pytest.fixture
def api(cluster: Cluster) -> Iterator[Api]:
    with api_of(cluster.kube, "team-a") as found:
        yield found


def test_the_account_of_the_example_in_the_namespace_asks(cluster: Cluster, api: Api) -> None:
    with cluster.serving():
        assert api.get("/200") == {"detail": "as asked"}
    assert cluster.asked == [("/200", "Bearer first")]
    applied = (cluster.folder / "applied").read_text()
    assert "namespace: team-a" in applied and "namespace: default" not in applied


def test_what_is_not_there_is_none_and_a_refusal_is_told(cluster: Cluster, api: Api) -> None:
    with cluster.serving():
        assert api.get("/404") is None
        with pytest.raises(DemoError, match=r"403.*as asked"):
            api.get("/403")


def test_another_pod_of_the_api_is_found(cluster: Cluster, api: Api) -> None:
    with cluster.serving():
        api.get("/200")
    with pytest.raises(DemoError, match="no pod runs"):
        api.get("/200")
    with cluster.serving():
        assert api.get("/200")


def test_a_token_is_renewed_before_it_ends(cluster: Cluster, api: Api) -> None:
    with cluster.serving():
        cluster.give_token("short", timedelta(minutes=4))
        api.get("/200")
        cluster.give_token("long", timedelta(hours=1))
        api.get("/200")
        cluster.give_token("unused", timedelta(hours=1))
        api.get("/200")
    assert [token for _, token in cluster.asked] == ["Bearer short", "Bearer long", "Bearer long"]


def test_other_authorities_are_read(cluster: Cluster, api: Api) -> None:
    with cluster.serving():
        api.get("/200")
    cluster.issuer = Issuer()
    with cluster.serving():
        assert api.get("/200")
    assert len(cluster.asked) == 2


def test_a_stranger_is_shown_no_token(cluster: Cluster, api: Api) -> None:
    with cluster.serving():
        cluster.publish(Issuer())
        with pytest.raises(DemoError, match="CERTIFICATE_VERIFY_FAILED"):
            api.get("/200")
    assert cluster.asked == []
