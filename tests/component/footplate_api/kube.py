"""A real API server with our CRDs, and kubectl as its administrator."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.kubernetes.envtest import ApiServer, api_server

CRDS = Path(__file__).parents[3] / "crds"


def kubectl(server: ApiServer, *arguments: str) -> str:
    command = [str(server.kubectl), "--kubeconfig", str(server.kubeconfig), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def kubernetes(folder: Path, controller_manager: bool = False) -> Iterator[ApiServer]:
    """Runs one for the block."""
    with api_server(folder, controller_manager=controller_manager) as server:
        kubectl(server, "apply", "--server-side", "--filename", str(CRDS))
        kubectl(server, "wait", "--for=condition=Established", "--timeout=30s", "--filename", str(CRDS))
        yield server
