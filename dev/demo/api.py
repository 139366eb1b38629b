"""Footplate's API as a team asks it: over TLS, with a token of a service account, through a forwarded port.

The API server's own way to Services, `…/services/…/proxy`, is none to this one: it takes the header
Authorization away. A forwarded port ends with the pod that it leads to, a token after an hour, and the
authorities may change; each is got anew by the request that finds it gone.
"""

from __future__ import annotations

import http.client
import json
import re
import ssl
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from typing import IO, Any, Final

from demo.install import NAMESPACE
from demo.kube import ROOT, DemoError, Kube

SERVICE: Final = "footplate-api"
AUDIENCE: Final = "footplate-api"
READER: Final = "reader"  # the service account of examples/reader.yaml
TEAM, FINANCE = "team-vision", "finance"  # those of examples/team.yaml
TIMEOUT_SECONDS: Final = 15.0  # of a request; an answer that takes so long is lost with a node
THERE_SECONDS: Final = 10  # for which a forwarded port waits for a pod of the API
LEFT_SECONDS: Final = 300.0  # of a token's life, when another one is asked for
_SAYS: Final = re.compile(r"Forwarding from 127\.0\.0\.1:(\d+)")


class Forward:
    """A `kubectl port-forward` to the API, or to another Service of the release; begun when it is asked for,
    and again when it has ended.
    """

    def __init__(
        self, kube: Kube, service: str = SERVICE, port: str = "https", home: str = NAMESPACE
    ) -> None:
        self._kube = kube
        self._service, self._target, self._home = service, port, home
        self._process: subprocess.Popen[str] | None = None
        self._port = 0

    def port(self) -> int:
        """The port of the loopback that leads there; DemoError where no pod of it runs."""
        if self._process is None or self._process.poll() is not None:
            self.end()
            self._begin()
        return self._port

    def end(self, port: int | None = None) -> bool:
        """End it, if it is that of `port` where one is given; whoever asks next begins another."""
        if self._process is None or port not in (None, self._port):
            return False
        self._process.terminate()
        self._process.wait()
        self._process = None
        return True

    def _begin(self) -> None:
        service = f"service/{self._service}"
        command = ("kubectl", "port-forward", "-n", self._home, service, f":{self._target}")
        self._process = process = subprocess.Popen(
            [*command, "--address=127.0.0.1", f"--pod-running-timeout={THERE_SECONDS}s"],
            cwd=ROOT,
            env=self._kube.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert process.stdout is not None
        said = process.stdout.readline()
        if (found := _SAYS.match(said)) is None:
            rest, _ = process.communicate()
            raise DemoError(f"kubectl port-forward to {self._service}: {(said + rest).strip()}")
        self._port = int(found.group(1))
        threading.Thread(target=_read_on, args=(process.stdout,), daemon=True).start()


def _read_on(lines: IO[str]) -> None:
    """It says a line for each connection, and stands still where nobody reads them."""
    with lines:
        deque(lines, maxlen=0)


def told(path: str, ask: Callable[[str], tuple[int, str]], method: str = "GET") -> Any:
    """The decoded answer to a request for `path`; None for 404.

    Args:
        ask: gives status and text. Where it finds its way lost it finds a new one when it is called again.

    Raises:
        DemoError: the server refused, or cannot be reached.
    """
    try:
        status, text = ask(path)
    except (OSError, http.client.HTTPException):
        try:
            status, text = ask(path)
        except (OSError, http.client.HTTPException) as error:
            raise DemoError(f"{method} {path}: {error!r}") from error
    if status == http.HTTPStatus.NOT_FOUND:
        return None
    if status >= http.HTTPStatus.BAD_REQUEST:
        raise DemoError(f"{method} {path}: {status} {text[:500]}")
    return json.loads(text)


class Api:
    """Requests of one service account, each over a connection of its own; for many threads.

    They go to the API of the Service `service` in the namespace `home`.
    """

    def __init__(
        self,
        kube: Kube,
        namespace: str,
        account: str = READER,
        service: str = SERVICE,
        home: str = NAMESPACE,
    ) -> None:
        self._kube = kube
        self._account = ("-n", namespace, account)
        self._service, self._home = service, home
        self._forward = Forward(kube, service, home=home)
        self._lock = threading.Lock()
        self._token, self._token_ends = "", 0.0
        self._trust: ssl.SSLContext | None = None

    def get(self, path: str) -> Any:
        """The decoded answer; None for 404.

        Raises:
            DemoError: the API refused, or cannot be reached.
        """
        return told(path, self._ask)

    def post(self, path: str, body: Any, headers: Mapping[str, str] | None = None) -> Any:
        """The decoded answer; None for 404. What is lost on its way is sent once more.

        Raises:
            DemoError: as above.
        """
        sent = json.dumps(body).encode()
        typed = {"Content-Type": "application/json", **(headers or {})}
        return told(path, lambda asked: self._ask(asked, "POST", sent, typed), "POST")

    def close(self) -> None:
        """End the forwarded port."""
        with self._lock:
            self._forward.end()

    def _ask(
        self,
        path: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, str]:
        with self._lock:
            token, trust, port = self._current_token(), self._current_trust(), self._forward.port()
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS, context=trust)
        try:
            shown = {**(headers or {}), "Authorization": f"Bearer {token}"}
            connection.request(method, path, body=body, headers=shown)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            self._lose(port)
            raise
        finally:
            connection.close()

    def _lose(self, port: int) -> None:
        """The way through `port` led nowhere, or to a stranger; another thread may have found one since."""
        with self._lock:
            if self._forward.end(port):
                self._trust = None

    def _current_token(self) -> str:
        if time.time() >= self._token_ends - LEFT_SECONDS:
            request = ("create", "token", *self._account, "--audience", AUDIENCE, "--output=json")
            status = json.loads(self._kube.kubectl(*request))["status"]
            self._token = status["token"]
            self._token_ends = datetime.fromisoformat(status["expirationTimestamp"]).timestamp()
        return self._token

    def _current_trust(self) -> ssl.SSLContext:
        if self._trust is None:
            published = self._kube.get("configmap", f"{self._service}-ca", "-n", self._home)
            if published is None:
                raise DemoError(
                    f"the ConfigMap {self._home}/{self._service}-ca, with the API's authorities, is not there"
                )
            self._trust = ssl.create_default_context(cadata=published["data"]["ca.crt"])
        return self._trust


@contextmanager
def api_of(kube: Kube, namespace: str, service: str = SERVICE, home: str = NAMESPACE) -> Iterator[Api]:
    """The API for the block, as the service account of examples/reader.yaml in `namespace`."""
    _apply(kube, "examples/reader.yaml", namespace)
    api = Api(kube, namespace, service=service, home=home)
    try:
        yield api
    finally:
        api.close()


@contextmanager
def team_apis(kube: Kube, namespace: str) -> Iterator[tuple[Api, Api]]:
    """The API for the block, as the two accounts of examples/team.yaml in `namespace`: team and finance."""
    _apply(kube, "examples/team.yaml", namespace)
    apis = Api(kube, namespace, TEAM), Api(kube, namespace, FINANCE)
    try:
        yield apis
    finally:
        for api in apis:
            api.close()


def _apply(kube: Kube, example: str, namespace: str) -> None:
    manifest = (ROOT / example).read_text()
    kube.kubectl(
        "apply", "--filename", "-", stdin=manifest.replace("namespace: default", f"namespace: {namespace}")
    )
