"""An API server of many runs, over HTTP: pages of real size, made in a thread of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from footplate_api.runs.schemas import EXAMPLE

KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{{name: c, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: u, user: {{token: t}}}}]
contexts: [{{name: x, context: {{cluster: c, user: u}}}}]
current-context: x
"""
ATTEMPT = {"number": 1, "start": "2026-11-25T10:00:00Z", "message": "peer lost " * 20, "node": "node-1"}


def manifest(number: int, version: int) -> dict[str, Any]:
    """A run of 10 kB, as one with a history and an annotation of kubectl's is."""
    owned = {f"f:field{field}": {f"f:part{part}": {} for part in range(6)} for field in range(20)}
    condition = {"status": "True", "lastTransitionTime": "2026-11-25T10:00:00Z", "reason": "Seen"}
    return {
        "metadata": {
            "uid": f"00000000-0000-4000-8000-{number:012x}",
            "namespace": f"team-{number % 50}",
            "name": f"run-{number}",
            "resourceVersion": str(version),
            "creationTimestamp": "2026-11-25T10:00:00Z",
            "annotations": {"last-applied": json.dumps(EXAMPLE["spec"]) * 3},
            "managedFields": [{"manager": "kubectl", "operation": "Apply", "fieldsV1": owned}],
        },
        "spec": {**dict(EXAMPLE["spec"]), "stage": "pretrain"},
        "status": {
            "phase": "Running",
            "progress": {"step": number, "totalSteps": 100, "tokens": number, "loss": 2.5},
            "attempts": [ATTEMPT],
            "conditions": [{**condition, "type": f"T{n}", "message": "so it is " * 30} for n in range(12)],
        },
    }


class Crowd:
    """Runs by number, each with the version that it is in."""

    def __init__(self, runs: int) -> None:
        self.versions = {number: number + 1 for number in range(runs)}
        self.version = runs
        text = json.dumps(manifest(11_111_111, 22_222_222))
        uid, version = f"{11_111_111:012x}", '"resourceVersion": "22222222"'
        assert uid in text and version in text
        # Made by replacing, as dumping 30,000 of them would take longer than all that is tested.
        self._text = text.replace(uid, "{uid}").replace(version, '"resourceVersion": "{version}"')

    def change(self, number: int) -> None:
        """Gives a run a newer version."""
        self.version += 1
        self.versions[number] = self.version

    def remove(self, numbers: range) -> None:
        """Deletes runs."""
        for number in numbers:
            del self.versions[number]
            self.version += 1

    def page(self, limit: int, start: int) -> bytes:
        """The answer to a list request."""
        chosen = list(self.versions.items())[start : start + limit]
        items = [
            self._text.replace("{uid}", f"{number:012x}").replace("{version}", str(version))
            for number, version in chosen
        ]
        following = start + limit
        metadata = {"resourceVersion": str(self.version)}
        if following < len(self.versions):
            metadata["continue"] = str(following)
        return f'{{"metadata": {json.dumps(metadata)}, "items": [{",".join(items)}]}}'.encode()


@contextmanager
def serving(crowd: Crowd, folder: Path) -> Iterator[Path]:
    """Answers lists for the block, on loopback; gives a kubeconfig for it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            body = crowd.page(int(query["limit"][0]), int(query.get("continue", ["0"])[0]))
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG.format(port=server.server_address[1]))
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield kubeconfig
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
