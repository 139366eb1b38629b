"""Which kind of cluster this machine uses: one set of verbs over three ways to have a Kubernetes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from enum import StrEnum
from typing import Protocol

from cluster.backends.existing import Existing
from cluster.backends.kind import Kind
from cluster.backends.native import Native
from cluster.errors import ClusterError
from cluster.images.definitions import HERE, Sources
from cluster.machine import shell
from cluster.paths import Layout


class Backend(Protocol):
    """What each way can do; a verb it cannot do raises Unsupported."""

    def up(self, fake_gpus: int | None) -> None: ...

    def down(self) -> None: ...

    def status(self) -> bool:
        """Prints what is running; returns whether all of it is."""
        ...

    def environment(self) -> str: ...

    def build_images(self, sources: Sources = HERE) -> object: ...

    def load_images(self, sources: Sources = HERE) -> None: ...


class Choice(StrEnum):
    NATIVE = "native"
    KIND = "kind"
    EXISTING = "existing"


def decide(environ: Mapping[str, str], kind_works: bool) -> Choice:
    """The backend: what CLUSTER says; without it kind where it works, and native elsewhere.

    Raises:
        ClusterError: CLUSTER has another value.
    """
    wanted = environ.get("CLUSTER")
    if not wanted:
        return Choice.KIND if kind_works else Choice.NATIVE
    try:
        return Choice(wanted)
    except ValueError as error:
        allowed = ", ".join(Choice)
        raise ClusterError(f"CLUSTER={wanted} is unknown; it can be {allowed}") from error


def _kind_works() -> bool:
    programs = shutil.which("docker") and shutil.which("kind")
    return bool(programs) and shell.succeeds(["docker", "info"], timeout=10)


def choose(layout: Layout) -> Backend:
    match decide(os.environ, "CLUSTER" not in os.environ and _kind_works()):
        case Choice.NATIVE:
            return Native(layout)
        case Choice.KIND:
            return Kind(layout)
        case Choice.EXISTING:
            return Existing(layout)
