"""What the native cluster needs from Debian: runc with seccomp, CNI plugins, image builders."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from cluster.errors import CommandFailed, Unsupported
from cluster.machine import locks, shell
from cluster.machine.progress import step
from cluster.paths import RUN

# Debian package: a file that is there when it is installed. Looking at files is instant, and
# right where the same programs came another way.
CLUSTER = {
    "runc": "runc",
    "containernetworking-plugins": "/usr/lib/cni/ptp",
    "iptables": "iptables",
    "conntrack": "conntrack",
    "iproute2": "ip",
    "util-linux": "nsenter",
    "procps": "sysctl",
}
IMAGES = {"buildah": "buildah", "mmdebstrap": "mmdebstrap"}


def _present(program: str) -> bool:
    if program.startswith("/"):
        return Path(program).exists()
    return shutil.which(program) is not None


def missing(wanted: dict[str, str]) -> list[str]:
    return [package for package, program in wanted.items() if not _present(program)]


def require_root() -> None:
    if os.geteuid() != 0:
        raise Unsupported(
            "the native cluster makes network namespaces and mounts, so it runs as root: use "
            "`sudo`, or set CLUSTER=kind (with Docker) or CLUSTER=existing (with KUBECONFIG)"
        )


def install(wanted: dict[str, str]) -> None:
    """Installs the packages that are missing.

    Raises:
        Unsupported: this is no Debian-like system; the message names the packages.
    """
    if not missing(wanted):
        return
    require_root()
    with locks.exclusive(RUN / "packages.lock", "installing Debian packages"):
        absent = missing(wanted)  # the other command may have installed them
        if not absent:
            return
        if shutil.which("apt-get") is None:
            raise Unsupported(
                f"missing {', '.join(absent)}, and there is no apt-get to install them with; "
                "install them by other means, or set CLUSTER=kind or CLUSTER=existing"
            )
        with step(f"installed Debian packages {' '.join(absent)}"):
            _apt(absent)


def _apt(packages: list[str]) -> None:
    """Installs packages; never cut short, which would leave dpkg to be mended by hand."""
    # Another apt-get on the machine is waited for rather than failed over.
    apt = ["apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    environment = {"DEBIAN_FRONTEND": "noninteractive"}
    command = [*apt, "install", "-y", "--no-install-recommends", *packages]
    try:
        shell.run(command, env=environment, outlives_us=True)
    except CommandFailed:
        # Most often the package lists are older than the archive.
        shell.run([*apt, "update"], env=environment, outlives_us=True)
        shell.run(command, env=environment, outlives_us=True)
