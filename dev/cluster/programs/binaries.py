"""Where there is no registry there are no ready-made binaries, but there is the Go module proxy.

Each folder under ``go/`` is a module of its own (their dependency graphs disagree). What is built
from it lives under a key of its content, so it is built once per machine and content, and a
second checkout finds it there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cluster import keys
from cluster.errors import ClusterError, Unsupported
from cluster.machine import locks, shell
from cluster.machine.progress import step
from cluster.paths import Layout

KUBERNETES_VERSION = "1.36.3"
CONTAINERD_VERSION = "2.4.2"
HELM_VERSION = "3.22.0"
_MODULES = Path(__file__).with_name("go")
_COMPONENT_BASE = "k8s.io/component-base/version"


@dataclass(frozen=True)
class Program:
    """One Go module and what comes out of it."""

    name: str
    packages: tuple[str, ...]
    variables: tuple[tuple[str, str], ...] = ()  # set by the linker: versions, mostly
    links: tuple[str, ...] = ()  # further names of the single output, which picks by argv[0]


KUBERNETES = Program(
    "kubernetes",
    (".",),
    variables=(
        # Without these, clients are told v0.0.0 and refuse to work with it.
        (f"{_COMPONENT_BASE}.gitVersion", f"v{KUBERNETES_VERSION}"),
        (f"{_COMPONENT_BASE}.gitMajor", KUBERNETES_VERSION.split(".")[0]),
        (f"{_COMPONENT_BASE}.gitMinor", KUBERNETES_VERSION.split(".")[1]),
    ),
    links=(
        "etcd",
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kube-proxy",
        "kubeadm",
        "kubectl",
        "kubelet",
    ),
)
CONTAINERD = Program(
    "containerd",
    tuple(
        f"github.com/containerd/containerd/v2/cmd/{command}"
        for command in ("containerd", "containerd-shim-runc-v2", "ctr")
    ),
    variables=(("github.com/containerd/containerd/v2/version.Version", CONTAINERD_VERSION),),
)
COREDNS = Program("coredns", (".",))
HELM = Program(
    "helm",
    ("helm.sh/helm/v3/cmd/helm",),
    variables=(("helm.sh/helm/v3/internal/version.version", f"v{HELM_VERSION}"),),
)
PAUSE = Program("pause", (".",))
REGISTRY = Program("registry", (".",))  # for tests and rehearsals; no part of the cluster

# Longest first: the short ones fill the second core while the long one links.
ALL = (KUBERNETES, HELM, CONTAINERD, COREDNS, PAUSE)


def named(names: Sequence[str]) -> Sequence[Program]:
    """The programs of these names, or the cluster's where none is named; raises ClusterError."""
    known = {program.name: program for program in (*ALL, REGISTRY)}
    if unknown := sorted(set(names) - known.keys()):
        raise ClusterError(f"no program is called {', '.join(unknown)}: there are {', '.join(known)}")
    return [known[name] for name in names] or ALL


def linker_flags(program: Program) -> str:
    settings = "".join(f" -X {name}={value}" for name, value in program.variables)
    return f"-s -w{settings}"  # no symbol tables: a third of the size


def program_key(program: Program, source: Path, go_version: str) -> str:
    """The content key of what ``program`` builds to; pure but for reading ``source``."""
    recipe = "\n".join((*program.packages, linker_flags(program), *program.links, go_version))
    return keys.content_key(
        [("recipe", recipe.encode()), *keys.file_parts(source, ("go.mod", "go.sum", "main.go"))]
    )


def _go_version(source: Path) -> str:
    if shutil.which("go") is None:
        raise Unsupported(
            "the native cluster is built from Go modules and there is no `go` on PATH; "
            "install Go 1.26 or newer, or set CLUSTER=kind or CLUSTER=existing"
        )
    return shell.run(["go", "env", "GOVERSION"], cwd=source).strip()


def folder(program: Program, layout: Layout) -> Path:
    """The folder of a program's binaries, which exists once it has been built."""
    source = _MODULES / program.name
    key = program_key(program, source, _go_version(source))
    return layout.binaries / f"{program.name}-{key}"


def build(program: Program, layout: Layout) -> Path:
    """Builds a program unless its key is cached already; returns the folder of its binaries."""
    target = folder(program, layout)
    if target.is_dir():
        return target
    with locks.exclusive(target.with_suffix(".lock"), f"building {program.name}"):
        if not target.is_dir():
            with step(f"built {program.name} from Go modules"):
                _compile(program, target)
    target.with_suffix(".lock").unlink(missing_ok=True)
    return target


def _compile(program: Program, target: Path) -> None:
    source = _MODULES / program.name
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".building-") as temporary:
        output = Path(temporary) / "bin"
        output.mkdir()
        single = len(program.packages) == 1
        shell.run(
            [
                *("go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly"),
                *("-ldflags", linker_flags(program)),
                *("-o", output / program.name if single else f"{output}{os.sep}"),
                *program.packages,
            ],
            cwd=source,
            env={"CGO_ENABLED": "0", "GOFLAGS": "", "GOWORK": "off"},
        )
        for link in program.links:
            (output / link).hardlink_to(output / program.name)
        output.rename(target)  # whole or not at all


def build_all(layout: Layout, programs: Sequence[Program] = ALL) -> dict[str, Path]:
    """Builds what is missing, two at a time: linking uses one core, compiling all of them."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        built = pool.map(lambda program: (program.name, build(program, layout)), programs)
        return dict(built)
