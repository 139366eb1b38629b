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
    """Runs by number, each with the version that it is in, all of one namespace."""

    def __init__(self, runs: int) -> None:
        self.versions = {number: number + 1 for number in range(runs)}
        self.version = runs
        self.gets = self.wholes = 0  # runs and pages of whole runs that were asked for
        run = manifest(11_111_111, 22_222_222)
        self._text, self._metadata = _places(run), _places({"metadata": run["metadata"]})

    def change(self, number: int) -> None:
        """Gives a run a newer version."""
        self.version += 1
        self.versions[number] = self.version

    def remove(self, numbers: range) -> None:
        """Deletes runs."""
        for number in numbers:
            del self.versions[number]
            self.version += 1

    def run(self, number: int) -> bytes:
        """The answer to a request for a run."""
        self.gets += 1
        return _placed(self._text, number, self.versions[number]).encode()

    def page(self, limit: int, start: int, whole: bool) -> bytes:
        """The answer to a list request, of metadata only where it is not `whole`."""
        chosen = list(self.versions.items())[start : start + limit]
        text = self._text if whole else self._metadata
        items = [_placed(text, number, version) for number, version in chosen]
        self.wholes += whole
        following = start + limit
        metadata = {"resourceVersion": str(self.version)}
        if following < len(self.versions):
            metadata["continue"] = str(following)
        return f'{{"metadata": {json.dumps(metadata)}, "items": [{",".join(items)}]}}'.encode()


def _places(run: dict[str, Any]) -> str:
    """The JSON of a run with a place for whatever tells it from others.

    Made by replacing, as dumping 30,000 of them would take longer than all that is tested.
    """
    text = json.dumps(run)
    for told, place in (
        (f"{11_111_111:012x}", "{uid}"),
        ("run-11111111", "run-{number}"),
        ("22222222", "{version}"),
    ):
        assert told in text
        text = text.replace(told, place)
    return text


def _placed(text: str, number: int, version: int) -> str:
    text = text.replace("{uid}", f"{number:012x}").replace("{number}", str(number))
    return text.replace("{version}", str(version))


@contextmanager
def serving(crowd: Crowd, folder: Path) -> Iterator[Path]:
    """Answers lists for the block, on loopback; gives a kubeconfig for it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query)
            if "limit" in query:
                whole = "PartialObjectMetadata" not in self.headers["Accept"]
                body = crowd.page(int(query["limit"][0]), int(query.get("continue", ["0"])[0]), whole)
            else:
                body = crowd.run(int(parts.path.rpartition("run-")[2]))
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
