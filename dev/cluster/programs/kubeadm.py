"""Certificates and kubeconfigs, made by the tool that real clusters make them with.

Elliptic keys: a dozen RSA pairs would cost two seconds of every start.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.machine import shell
from cluster.programs.binaries import KUBERNETES_VERSION


@dataclass(frozen=True)
class Identity:
    """What certificates and kubeconfigs say about one cluster."""

    cluster: str
    address: str  # where the API server is reached
    port: int
    pki: Path
    service_subnet: str = "10.96.0.0/16"
    names: tuple[str, ...] = ("localhost", "127.0.0.1")

    @property
    def advertised(self) -> str:
        """kubeadm refuses a loopback address here; it only ends up among the certificate's names."""
        return "10.88.0.1" if self.address.startswith("127.") else self.address


def configuration(identity: Identity) -> list[dict[str, Any]]:
    """The documents that ``kubeadm init`` phases read (JSON is YAML)."""
    return [
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "ClusterConfiguration",
            "clusterName": identity.cluster,
            # Stated, or kubeadm asks the internet for the newest.
            "kubernetesVersion": f"v{KUBERNETES_VERSION}",
            "certificatesDir": str(identity.pki),
            "controlPlaneEndpoint": f"{identity.address}:{identity.port}",
            "encryptionAlgorithm": "ECDSA-P256",
            "networking": {"serviceSubnet": identity.service_subnet},
            "apiServer": {"certSANs": [identity.address, *identity.names]},
        },
        {
            "apiVersion": "kubeadm.k8s.io/v1beta4",
            "kind": "InitConfiguration",
            "localAPIEndpoint": {
                "advertiseAddress": identity.advertised,
                "bindPort": identity.port,
            },
            "nodeRegistration": {"name": "control-plane"},
        },
    ]


class Kubeadm:
    """Runs the phases we need with one configuration file."""

    def __init__(self, binary: Path, identity: Identity) -> None:
        self._binary = binary
        self._identity = identity
        self._config = identity.pki / "kubeadm.yaml"

    def certificates(self) -> None:
        """Makes the authorities and every certificate of a control plane; keeps existing ones."""
        self._identity.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
        documents = (json.dumps(document) for document in configuration(self._identity))
        self._config.write_text("\n---\n".join(documents))
        self._phase("certs", "all")

    def kubeconfig(self, which: str, folder: Path, *extra: str) -> None:
        """Writes one of kubeadm's own kubeconfigs, or ``all``."""
        self._phase("kubeconfig", which, "--kubeconfig-dir", str(folder), *extra)

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> str:
        """A kubeconfig with a client certificate for any user name."""
        organizations = [f"--org={group}" for group in groups]
        return shell.run(
            [
                *(self._binary, "kubeconfig", "user", "--config", self._config),
                *("--client-name", user, *organizations),
            ]
        )

    def _phase(self, *words: str) -> None:
        shell.run([self._binary, "init", "phase", *words, "--config", self._config])
