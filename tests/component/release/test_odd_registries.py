"""mirror.py against registries that do what a plain one does not: tokens, other hosts, broken lines."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
from tools.release.mirror import MirrorError, Registry, push_blob

LOGIN = "pusher:secret"
CONTENT = b"a layer" * 1000
DIGEST = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
NAME = "footplate/api"


@dataclass
class Played:
    """A registry with a token service, whose blobs go to a store on another host."""

    registry: str = ""
    store: str = ""
    lives: int = 1000  # requests that a token is good for
    breaks: int = 0  # uploads that it hangs up on
    short: bool = False  # whether it answers 507 before it has read an upload
    blobs: dict[str, bytes] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=list)
    told_the_store: list[str | None] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)  # of each token

    def authorized(self, header: str | None) -> bool:
        token = (header or "").removeprefix("Bearer ")
        self.left[token] = self.left.get(token, 0) - 1
        return self.left[token] >= 0


def handler(played: Played) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def say(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        def may(self) -> bool:
            if played.authorized(self.headers["Authorization"]):
                return True
            realm = (
                f'Bearer realm="http://{played.registry}/token",service="played",scope="repository:x:pull"'
            )
            self.say(401, WWW_Authenticate=realm)
            return False

        def do_HEAD(self) -> None:
            if self.may():
                self.say(200 if self.path.rsplit("/", 1)[1] in played.blobs else 404)

        def do_GET(self) -> None:
            expected = f"Basic {base64.b64encode(LOGIN.encode()).decode()}"
            if self.headers["Authorization"] != expected:
                return self.say(401, b"who are you")
            played.scopes.append(parse_qs(urlsplit(self.path).query)["scope"][0])
            token = f"token-{len(played.scopes)}"
            played.left[token] = played.lives
            return self.say(200, json.dumps({"token": token}).encode())

        def do_POST(self) -> None:
            if self.may():
                self.say(202, Location=f"http://{played.store}/upload?id=1")

        def do_PUT(self) -> None:
            played.told_the_store.append(self.headers["Authorization"])
            self.close_connection = True
            if played.breaks > 0:
                played.breaks -= 1
                return None
            if played.short:
                return self.say(507, b"no room")
            content = self.rfile.read(int(self.headers["Content-Length"]))
            played.blobs[parse_qs(urlsplit(self.path).query)["digest"][0]] = content
            return self.say(201)

    return Handler


@contextmanager
def serving(played: Played) -> Iterator[Registry]:
    servers = [ThreadingHTTPServer(("127.0.0.1", 0), handler(played)) for _ in range(2)]
    played.registry, played.store = (f"127.0.0.1:{server.server_address[1]}" for server in servers)
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield Registry(played.registry, None, LOGIN)
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def body() -> io.BytesIO:
    return io.BytesIO(CONTENT)


def test_a_token_is_asked_for_by_what_it_is_for_and_renewed_when_it_ends() -> None:
    played = Played(lives=1)
    with serving(played) as registry:
        assert push_blob(registry, NAME, DIGEST, body)
        assert not push_blob(registry, NAME, DIGEST, body)
    assert played.blobs == {DIGEST: CONTENT}
    assert played.scopes == [f"repository:{NAME}:pull,push"] * 3  # HEAD, POST, and the second HEAD


def test_another_host_is_told_no_password() -> None:
    played = Played()
    with serving(played) as registry:
        push_blob(registry, NAME, DIGEST, body)
    assert played.told_the_store == [None]


@pytest.mark.parametrize(("breaks", "kept"), [(2, True), (3, False)])
def test_a_broken_upload_is_begun_again_three_times_at_most(breaks: int, kept: bool) -> None:
    played = Played(breaks=breaks)
    with serving(played) as registry:
        if kept:
            assert push_blob(registry, NAME, DIGEST, body)
        else:
            with pytest.raises(MirrorError, match=r"broke off 3 times: .*; call this again"):
                push_blob(registry, NAME, DIGEST, body)
    assert (DIGEST in played.blobs) == kept


def test_a_registry_without_room_is_told_in_its_own_words() -> None:
    with (
        serving(Played(short=True)) as registry,
        pytest.raises(MirrorError, match=f"did not take {DIGEST} of {NAME}: 507 no room"),
    ):
        push_blob(registry, NAME, DIGEST, body)


def test_a_token_service_that_gives_none_is_named() -> None:
    with (
        serving(Played()) as registry,
        pytest.raises(MirrorError, match=r"gives no token for footplate/api: 401 .*who are you"),
    ):
        push_blob(Registry(registry.address, None, "pusher:wrong"), NAME, DIGEST, body)
