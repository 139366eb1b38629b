"""Scope of this installation, where several share a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Scope:
    """Namespaces of the runs, none meaning all, and whether cluster-scoped objects are included.

    >>> "team-a" in Scope(), "team-a" in Scope(("team-b",))
    (True, False)
    """

    namespaces: tuple[str, ...] = ()  # none: all of them
    cluster: bool = True  # Nodes' usage, and the price book
    home: str = ""  # the namespace of the installation itself

    def __contains__(self, namespace: object) -> bool:
        return not self.namespaces or namespace in self.namespaces


EVERYTHING: Final = Scope()
