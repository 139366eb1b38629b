"""An API's surroundings: reviews, on loopback or at once, records of usage, and limits that nobody meets.

Besides, it has any run that it is asked for: of run-7 the uid is uid-7, and so is that of its coordinator's
pod, of the first epoch.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Condition, Thread
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from footplate_api.errors import ClusterUnavailable
from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.caller import POD_UID, Caller, Right
from footplate_api.identity.rate_limits import RateLimit, RateLimits
from footplate_api.identity.reviews import ACCESS, TOKENS
from footplate_contracts.names import API_AUDIENCE, GROUP, VERSION

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


# -- reviews without a server ----------------------------------------------------------------------


ADMIN: Final = "token-of-an-admin"
BEARER: Final = {"Authorization": f"Bearer {ADMIN}"}


def everything(right: Right) -> bool:
    """What cluster-admin may do."""
    return True


def within(*namespaces: str, verbs: Sequence[str] = ("get", "list", "watch")) -> Callable[[Right], bool]:
    """What a RoleBinding in each of `namespaces` lets do."""
    return lambda right: right.namespace in namespaces and right.verb in verbs


@dataclass
class FakeReviewer:
    """`tokens` by their text, with the audiences that they are for; `grants` by user name.

    `available = False` is an API server that does not answer. `asked` notes what was asked.
    """

    tokens: dict[str, tuple[Caller, frozenset[str]]] = field(default_factory=dict)
    grants: dict[str, Callable[[Right], bool]] = field(default_factory=dict)
    available: bool = True
    asked: list[str | Right] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.add(ADMIN, Caller("admin", groups=("system:masters",)), everything)

    def add(
        self,
        token: str,
        caller: Caller,
        grants: Callable[[Right], bool],
        audience: str = API_AUDIENCE,
    ) -> dict[str, str]:
        """A token of `caller`, who may do what `grants` says; returns the headers of its requests."""
        self.tokens[token] = caller, frozenset({audience})
        self.grants[caller.username] = grants
        return {"Authorization": f"Bearer {token}"}

    def add_pod(self, token: str, uid: str, namespace: str) -> dict[str, str]:
        """A token of a pod, whose service account has no right; returns the headers of its requests."""
        account = Caller(f"system:serviceaccount:{namespace}:default", extra=((POD_UID, (uid,)),))
        return self.add(token, account, lambda right: False)

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Caller | None:
        self._answer(token)
        caller, meant = self.tokens.get(token, (None, frozenset()))
        return caller if meant & set(audiences or ("kubernetes",)) else None

    async def is_allowed(self, caller: Caller, right: Right) -> bool:
        self._answer(right)
        return self.grants[caller.username](right)

    def _answer(self, asked: str | Right) -> None:
        self.asked.append(asked)
        if not self.available:
            raise ClusterUnavailable("The Kubernetes API server does not answer (Fake).")


class Asked:
    """Answers with `answer`, or that the API server is away."""

    def __init__(self, answer: object) -> None:
        self.answer: object = answer
        self.times = 0
        self.away = False

    def __call__(self) -> Awaitable[object]:
        return self._answer()

    async def _answer(self) -> object:
        self.times += 1
        if self.away:
            raise ClusterUnavailable("away")
        return self.answer


# -- UsageRecords ----------------------------------------------------------------------------------


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


# -- limits that nobody meets ----------------------------------------------------------------------


_HIGH: Final = RateLimit(1e6, 10**6)
HASTE: Final = AccessPolicy(rates=RateLimits(_HIGH, _HIGH))
HASTE_VARIABLES: Final = {
    f"FOOTPLATE_{kind}{name}": "1000000"
    for kind in ("", "TELEMETRY_")
    for name in ("RATE_PER_SECOND", "RATE_BURST")
}
