"""Speaks to the API server with what the standard library has.

kubectl would do, at a third of a second of start-up for each question; waiting for nodes and
watching claims asks many.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cluster.errors import ClusterError

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"


class ApiError(ClusterError):
    """The API server refused, or could not be reached (status 0)."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"API server: {status or 'unreachable'}: {message}")
        self.status = status


@dataclass(frozen=True)
class Credentials:
    """Who we are and whom we trust, as PEM texts."""

    server: str
    authority: bytes
    certificate: bytes
    key: bytes


def parse_kubeconfig(text: str) -> Credentials:
    """Reads a kubeconfig as kubeadm writes it: one cluster, one user, everything inline.

    Not a YAML reader; there is none in the standard library.
    """

    def value(name: str) -> str:
        found = re.search(rf"^\s*{name}:\s*(\S+)\s*$", text, re.MULTILINE)
        if found is None:
            raise ClusterError(f"kubeconfig has no {name}")
        return found.group(1)

    return Credentials(
        value("server"),
        base64.b64decode(value("certificate-authority-data")),
        base64.b64decode(value("client-certificate-data")),
        base64.b64decode(value("client-key-data")),
    )


def _context(credentials: Credentials) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=credentials.authority.decode())
    # ssl reads client certificates from files only; these are gone before anyone else looks.
    with tempfile.TemporaryDirectory() as folder:
        pair = Path(folder) / "client.pem"
        pair.touch(mode=0o600)
        pair.write_bytes(credentials.certificate + b"\n" + credentials.key)
        context.load_cert_chain(pair)
    return context


class ApiClient:
    """A few verbs of the Kubernetes API over one credential."""

    def __init__(self, kubeconfig: Path) -> None:
        credentials = parse_kubeconfig(kubeconfig.read_text())
        address = urlsplit(credentials.server)
        assert address.hostname is not None and address.port is not None
        self._host, self._port = address.hostname, address.port
        self._context = _context(credentials)

    @contextmanager
    def _exchange(
        self, method: str, path: str, body: Any, content_type: str, timeout: float
    ) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=timeout
        )
        try:
            payload = None if body is None else json.dumps(body)
            headers = {"Content-Type": content_type, "Accept": JSON}
            connection.request(method, path, payload, headers)
            answer = connection.getresponse()
            if answer.status >= 400:
                raise ApiError(answer.status, answer.read().decode(errors="replace")[:500])
            yield answer
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, f"{method} {path}: {error}") from error
        finally:
            connection.close()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        content_type: str = JSON,
        timeout: float = 10.0,
    ) -> Any:
        """One request and its decoded answer.

        Raises:
            ApiError: status 0 when the server cannot be reached.
        """
        with self._exchange(method, path, body, content_type, timeout) as answer:
            text = answer.read().decode()
        return json.loads(text) if text.startswith(("{", "[")) else text

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def watch(self, path: str, seconds: int) -> Iterator[Any]:
        """Watch events for at most ``seconds``."""
        separator = "&" if "?" in path else "?"
        query = f"{path}{separator}watch=1&timeoutSeconds={seconds}"
        with self._exchange("GET", query, None, JSON, seconds + 10.0) as answer:
            for line in answer:
                yield json.loads(line)


def client_for(kubeconfig: Path) -> ApiClient:
    """A client, or an error that says what to do when there is no cluster."""
    if not kubeconfig.exists():
        raise ClusterError(f"no cluster: {kubeconfig} does not exist; run `make cluster-up`")
    return ApiClient(kubeconfig)
