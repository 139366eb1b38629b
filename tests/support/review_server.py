"""An API server of which only reviews work, on loopback, for an API that is a process of its own.

Besides, it has any run that it is asked for: of run-7 the uid is uid-7, and so is that of its coordinator's
pod, of the first epoch.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

from footplate_api.identity.caller import POD_UID
from footplate_api.identity.reviews import ACCESS, TOKENS
from footplate_contracts.names import GROUP, VERSION
from tests.support.reviewer import ADMIN

POD: Final = "token-of-pod-"
_RUN: Final = re.compile(
    f"/apis/{GROUP}/{VERSION}/namespaces/(?P<namespace>[^/]+)/trainingruns/(?P<name>[^/]+)"
)
_KUBECONFIG: Final = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""


def of_pod(uid: str, namespace: str) -> dict[str, str]:
    """Headers of a pod's requests."""
    return {"Authorization": f"Bearer {POD}{namespace}/{uid}"}


def _user(token: str) -> dict[str, Any] | None:
    if token == ADMIN:
        return {"username": "admin", "groups": ["system:masters"]}
    if token.startswith(POD):
        namespace, _, uid = token.removeprefix(POD).partition("/")
        return {"username": f"system:serviceaccount:{namespace}:default", "extra": {POD_UID: [uid]}}
    return None


def _run(path: str) -> dict[str, Any] | None:
    """The run at this path; None where it is that of no run."""
    found = _RUN.fullmatch(path)
    if found is None:
        return None
    uid = "uid-" + found["name"].removeprefix("run-")
    about = {"namespace": found["namespace"], "name": found["name"], "uid": uid, "resourceVersion": "1"}
    return {"metadata": about, "status": {"coordinator": {"podUID": uid, "epoch": 1}}}


def _token_review(spec: dict[str, Any]) -> dict[str, Any]:
    user = _user(spec["token"])
    return {"authenticated": user is not None, "user": user, "audiences": spec.get("audiences", [])}


def _access_review(spec: dict[str, Any]) -> dict[str, Any]:
    return {"allowed": spec["user"] == "admin"}


_ANSWERS: Final = {TOKENS: _token_review, ACCESS: _access_review}


class Handler(BaseHTTPRequestHandler):
    """Answers reviews, and has any run."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """A run."""
        run = _run(self.path)
        if run is None:
            self._nothing()
        else:
            self.send(200, run)

    def do_POST(self) -> None:
        """A review."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        answer = _ANSWERS.get(self.path)
        if answer is None:
            self._nothing()
        else:
            self.send(201, {**asked, "status": answer(asked["spec"])})

    def do_DELETE(self) -> None:
        """Nothing is deleted."""
        self._nothing()

    def _nothing(self) -> None:
        self.send(503, {"kind": "Status", "code": 503, "message": "nothing but reviews is served"})

    def send(self, status: int, body: dict[str, Any] | bytes) -> None:
        """An answer; bytes are JSON already."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


class _Server(ThreadingHTTPServer):
    """Nobody waits for its threads."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Says nothing of a connection whose other end has ended, whether it was read or written."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


@contextmanager
def reviewing(folder: Path, handler: type[Handler] = Handler) -> Iterator[Path]:
    """A kubeconfig in `folder` for such a server, which answers for the block."""
    server = _Server(("127.0.0.1", 0), handler)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(_KUBECONFIG.format(port=server.server_address[1]))
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
