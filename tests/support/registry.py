"""A real registry on this machine, with TLS and a password, as `dev/cluster` compiles it.

with registry.server(folder) as running:
    running.get("/v2/_catalog")
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tools.release.mirror import MANIFEST

from cluster import paths
from cluster.machine.ports import LOOPBACK, claim_ports
from cluster.programs import binaries
from tests.support.certificates import Issuer

START_SECONDS: Final = 30.0
USER: Final = "pusher"
PASSWORD: Final = "secret-of-a-test"
# Of that password, by bcrypt, which is all that the registry takes.
_HASH: Final = "$2b$05$aaaaaaaaaaaaaaaaaaaaaOSTms9A0s3e7oSCBMb8a.l4hPhvT/F7G"


@dataclass(frozen=True)
class Running:
    """A registry that answers."""

    address: str  # as in an image's name
    ca: Path  # who vouches for it
    log: Path
    tls: ssl.SSLContext

    def get(self, path: str) -> tuple[int, bytes]:
        """Status and body of a path, asked for by whoever may push."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        connection = http.client.HTTPSConnection(self.address, timeout=30, context=self.tls)
        try:
            connection.request("GET", path, headers={"Authorization": f"Basic {login}", "Accept": MANIFEST})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def pulled(self) -> set[str]:
        """Blobs that it gave away, as REPOSITORY/blobs/DIGEST."""
        return set(re.findall(r'"GET /v2/(\S+/blobs/\S+) HTTP/[\d.]+" 200 ', self.log.read_text()))

    def requests(self, method: str) -> int:
        """How many requests of a method it has answered."""
        return self.log.read_text().count(f'"{method} /v2/')


def configuration(folder: Path, address: str) -> dict[str, Any]:
    """The registry's own file; JSON is YAML."""
    return {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}, "level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "store")}},
        "auth": {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}},
        "http": {
            "addr": address,
            "tls": {"certificate": str(folder / "tls.crt"), "key": str(folder / "tls.key")},
            "secret": "of one process",
        },
    }


@contextmanager
def server(folder: Path, host: str = LOOPBACK) -> Iterator[Running]:
    """A registry that is empty, and keeps what it is given in `folder`, at an address of this machine."""
    [port] = claim_ports(1)
    address = f"{host}:{port}"
    issuer = Issuer()
    for name, content in issuer.serving(addresses=[host]).items():
        (folder / name).write_bytes(content)
    (folder / "ca.crt").write_text(issuer.bundle)
    (folder / "htpasswd").write_text(f"{USER}:{_HASH}\n")
    said = folder / "registry.json"
    said.write_text(json.dumps(configuration(folder, address)))
    program = binaries.build(binaries.REGISTRY, paths.layout()) / "registry"
    log = folder / "registry.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            [program, "serve", said],
            stdout=output,
            stderr=output,
            env={"OTEL_TRACES_EXPORTER": "none"},  # by default it looks for a collector
        )
    running = Running(address, folder / "ca.crt", log, issuer.trusting())
    try:
        _wait(running, process)
        yield running
    finally:
        process.kill()  # nobody reads its store again
        process.wait()


def _wait(running: Running, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, running.log.read_text()
        try:
            status, _ = running.get("/v2/")
        except OSError:
            time.sleep(0.05)
        else:
            assert status == 200, running.log.read_text()
            return
