"""An API server of their own for component tests: real validation, CEL, watches, no nodes.

    with api_server(directory) as server:
        subprocess.run([server.kubectl, "--kubeconfig", server.kubeconfig, "get", "namespaces"])

Started in about three seconds from the same cached program as the cluster, on free loopback
ports, needing neither root nor a network of its own; any number may run side by side. Standard
library only, so that a test can import it from any environment.
"""

from __future__ import annotations

import os
import signal
import ssl
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from cluster import paths
from cluster.errors import ClusterError, NotReady
from cluster.machine import shell
from cluster.machine.ports import LOOPBACK, claim_ports
from cluster.machine.processes import GO
from cluster.programs import binaries
from cluster.programs.kubeadm import Identity, Kubeadm

START_SECONDS = 60.0
ATTEMPTS = 3  # a program that is not ours may take a port between our claim and our use


@dataclass(frozen=True)
class ApiServer:
    """A running API server; its administrator's kubeconfig is a file."""

    url: str
    kubeconfig: Path
    kubectl: Path
    certificate_authority: Path
    logs: Path


def etcd_command(binary: Path, data: Path, client: int, peer: int) -> list[str]:
    return [
        str(binary),
        f"--data-dir={data}",
        f"--listen-client-urls=http://{LOOPBACK}:{client}",
        f"--advertise-client-urls=http://{LOOPBACK}:{client}",
        f"--listen-peer-urls=http://{LOOPBACK}:{peer}",
        f"--initial-advertise-peer-urls=http://{LOOPBACK}:{peer}",
        f"--initial-cluster=default=http://{LOOPBACK}:{peer}",
        "--unsafe-no-fsync",  # a test's objects need not survive a power cut
        "--log-level=warn",
    ]


def api_server_command(binary: Path, pki: Path, port: int, etcd: int, flags: Mapping[str, str]) -> list[str]:
    """The API server's command line; ``flags`` (without dashes) win over ours."""
    settings = {
        "advertise-address": LOOPBACK,
        "bind-address": LOOPBACK,
        "secure-port": str(port),
        "etcd-servers": f"http://{LOOPBACK}:{etcd}",
        "authorization-mode": "RBAC",
        "allow-privileged": "true",
        "client-ca-file": str(pki / "ca.crt"),
        "tls-cert-file": str(pki / "apiserver.crt"),
        "tls-private-key-file": str(pki / "apiserver.key"),
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": str(pki / "sa.pub"),
        "service-account-signing-key-file": str(pki / "sa.key"),
        "service-cluster-ip-range": "10.96.0.0/16",
        # Pods are created without a controller manager around to make a default account.
        "disable-admission-plugins": "ServiceAccount",
        **flags,
    }
    return [str(binary), *(f"--{name}={value}" for name, value in settings.items())]


def controller_manager_command(binary: Path, pki: Path, kubeconfig: Path) -> list[str]:
    return [
        str(binary),
        f"--kubeconfig={kubeconfig}",
        f"--root-ca-file={pki / 'ca.crt'}",
        f"--service-account-private-key-file={pki / 'sa.key'}",
        f"--cluster-signing-cert-file={pki / 'ca.crt'}",
        f"--cluster-signing-key-file={pki / 'ca.key'}",
        "--use-service-account-credentials=true",
        "--leader-elect=false",
        "--secure-port=0",
    ]


@contextmanager
def _running(argv: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            shell.dying_with_us(argv),  # a test runner that is killed runs no clean-up
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**GO, **os.environ},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=3)  # watches keep an API server draining for much longer
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(url: str, context: ssl.SSLContext) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=2, context=context) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait(url: str, authority: Path, processes: list[subprocess.Popen[bytes]], logs: Path) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    deadline = time.monotonic() + START_SECONDS
    while not _ready(url, context):
        for process in processes:
            if process.poll() is not None:
                raise NotReady(f"{process.args!r} ended with {process.returncode}: see {logs}")
        if time.monotonic() > deadline:
            raise NotReady(f"no API server at {url} after {START_SECONDS:.0f} s: see {logs}")
        time.sleep(0.05)


@contextmanager
def _attempt(
    programs: Path, directory: Path, controller_manager: bool, flags: Mapping[str, str]
) -> Iterator[ApiServer]:
    port, client, peer = claim_ports(3)
    pki, logs = directory / "pki", directory / "logs"
    logs.mkdir(exist_ok=True)
    with ExitStack() as stack:

        def start(argv: list[str]) -> subprocess.Popen[bytes]:
            return stack.enter_context(_running(argv, logs / f"{Path(argv[0]).name}.log"))

        etcd = start(etcd_command(programs / "etcd", directory / "etcd", client, peer))
        kubeadm = Kubeadm(programs / "kubeadm", Identity("envtest", LOOPBACK, port, pki))
        kubeadm.certificates()
        command = api_server_command(programs / "kube-apiserver", pki, port, client, flags)
        server = start(command)
        kubeadm.kubeconfig("super-admin", directory)
        kubeconfig = directory / "super-admin.conf"
        url = f"https://{LOOPBACK}:{port}"
        _wait(url, pki / "ca.crt", [etcd, server], logs)
        if controller_manager:
            start(controller_manager_command(programs / "kube-controller-manager", pki, kubeconfig))
        yield ApiServer(url, kubeconfig, programs / "kubectl", pki / "ca.crt", logs)


@contextmanager
def api_server(
    directory: Path,
    *,
    controller_manager: bool = False,
    flags: Mapping[str, str] | None = None,
) -> Iterator[ApiServer]:
    """Runs etcd and kube-apiserver for the block, keeping their files in ``directory``.

    Args:
        directory: an empty folder; certificates, data and ``logs/`` go there.
        controller_manager: also run kube-controller-manager: garbage collection, service
            accounts, namespace deletion.
        flags: further or other flags of kube-apiserver, without their dashes.

    The server also dies with the thread that entered the block: enter it in the main one.

    Raises:
        NotReady: the server did not come up; the message names the folder of its logs.
    """
    programs = binaries.build(binaries.KUBERNETES, paths.layout())
    directory.mkdir(parents=True, exist_ok=True)
    failure: ClusterError | None = None
    for attempt in range(ATTEMPTS):
        folder = directory / f"attempt-{attempt}" if attempt else directory
        folder.mkdir(exist_ok=True)
        with ExitStack() as stack:
            try:
                server = stack.enter_context(_attempt(programs, folder, controller_manager, flags or {}))
            except NotReady as error:
                failure = error
                continue
            yield server
            return
    assert failure is not None
    raise failure


@contextmanager
def temporary(layout: paths.Layout) -> Iterator[ApiServer]:
    """An API server in a folder that goes with it."""
    layout.cache.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="envtest-", dir=layout.cache) as folder,
        api_server(Path(folder), controller_manager=True) as server,
    ):
        yield server


def wait_for_interrupt() -> None:
    """Returns when a person, or `kill`, asks us to end."""
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)  # for sigwait; they would end us otherwise
    signal.sigwait(ends)
