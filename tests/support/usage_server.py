"""UsageRecords as an API server has them, for an API that is a process of its own."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from threading import Condition
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from footplate_contracts.names import GROUP, VERSION
from tests.support.review_server import Handler

WATCH_SECONDS: Final = 0.5  # after which a watch ends: then the next one begins
_PATH: Final = re.compile(f"/apis/{GROUP}/{VERSION}/usagerecords(?:/(?P<name>[^/]+))?")
_CLUSTER: Final = "/api/v1/namespaces/kube-system"
Answer = tuple[int, bytes]


@dataclass
class Records:
    """Records by name, and all that ever happened to them; any thread may ask."""

    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    taken: int = 0  # that were deleted
    _version: int = 0
    _events: list[tuple[int, str, dict[str, Any]]] = field(default_factory=list)
    _news: Condition = field(default_factory=Condition)

    def put(self, name: str, spec: Mapping[str, Any]) -> None:
        """Writes one, as an operator does."""
        with self._news:
            kind = "MODIFIED" if name in self.known else "ADDED"
            self._note(kind, {"metadata": {"name": name, "uid": f"uid-of-{name}"}, "spec": dict(spec)})

    def _note(self, kind: str, manifest: dict[str, Any]) -> None:
        self._version += 1
        name = manifest["metadata"]["name"]
        noted = {**manifest, "metadata": {**manifest["metadata"], "resourceVersion": str(self._version)}}
        if kind == "DELETED":
            del self.known[name]
            self.taken += 1
        else:
            self.known[name] = noted
        self._events.append((self._version, kind, noted))
        self._news.notify_all()

    def get(self, url: str) -> Answer | None:
        """The answer to a list or a watch, or of which cluster it is; None for any other path."""
        asked = urlsplit(url)
        if asked.path == _CLUSTER:
            return 200, json.dumps({"metadata": {"uid": "uid-of-kube-system"}}).encode()
        if not _PATH.fullmatch(asked.path):
            return None
        query = parse_qs(asked.query)
        return 200, self._watched(int(query["resourceVersion"][0])) if "watch" in query else self._listed()

    def _listed(self) -> bytes:
        with self._news:
            metadata = {"resourceVersion": str(self._version)}
            return json.dumps({"metadata": metadata, "items": list(self.known.values())}).encode()

    def _watched(self, seen: int) -> bytes:
        with self._news:
            self._news.wait_for(lambda: self._version > seen, WATCH_SECONDS)
            news = [(kind, manifest) for version, kind, manifest in self._events if version > seen]
        return b"".join(json.dumps({"type": kind, "object": made}).encode() + b"\n" for kind, made in news)

    def delete(self, url: str, options: Mapping[str, Any]) -> Answer | None:
        """Deletes a record as its preconditions say; None for any other path."""
        found = _PATH.fullmatch(urlsplit(url).path)
        if found is None:
            return None
        with self._news:
            known = self.known.get(found["name"])
            if known is None:
                return _refused(404)
            wanted: dict[str, str] = dict(options["preconditions"])
            if not wanted.items() <= known["metadata"].items():
                return _refused(409)
            self._note("DELETED", known)
        return 200, json.dumps({"kind": "Status", "details": {}}).encode()


def _refused(status: int) -> Answer:
    return status, json.dumps({"kind": "Status", "code": status, "message": "no such record"}).encode()


def beside_reviews(records: Records) -> type[Handler]:
    """What answers reviews, and for `records`."""

    class WithRecords(Handler):
        """Says of them what there is, and leaves the rest to who answers reviews."""

        def do_GET(self) -> None:
            """A list, a watch, or what else there is."""
            answer = records.get(self.path)
            if answer is None:
                super().do_GET()
            else:
                self.send(answer[0], answer[1])

        def do_DELETE(self) -> None:
            """A record."""
            options = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))) or b"{}")
            answer = records.delete(self.path, options)
            if answer is None:
                super().do_DELETE()
            else:
                self.send(answer[0], answer[1])

    return WithRecords
