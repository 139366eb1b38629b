"""Namespaces whose runs this installation serves: all, or some.

In any other namespace the API reads, creates and deletes nothing in Kubernetes. The stored state of runs
there stays as it was last.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_api.errors import NamespaceNotServed, PriceBookNotOwned


@dataclass(frozen=True)
class NamespaceScope:
    """Namespaces of an installation.

    >>> "team-a" in NamespaceScope(), "team-a" in NamespaceScope(("team-b",))
    (True, False)
    """

    namespaces: tuple[str, ...] = ()  # none: all of them
    cluster: bool = True  # whether it keeps what belongs to no namespace: Nodes' usage, and the price book

    def __contains__(self, namespace: object) -> bool:
        return not self.namespaces or namespace in self.namespaces

    @property
    def watched_namespaces(self) -> tuple[str, ...]:
        """Namespaces to follow separately: the empty text stands for all."""
        return self.namespaces or ("",)

    def check_owns_price_book(self) -> None:
        """Raise PriceBookNotOwned if another installation of the cluster owns the price book."""
        if not self.cluster:
            raise PriceBookNotOwned(
                "another installation of Footplate in this cluster owns the price book"
                " (clusterScoped.enabled): send the price there, or create a PriceEntry"
            )

    def check(self, namespace: str) -> None:
        """Raise NamespaceNotServed if `namespace` is not served here."""
        if namespace not in self:
            named = ", ".join(self.namespaces)
            raise NamespaceNotServed(
                f"namespace: this installation of Footplate serves the namespaces {named}, not {namespace!r}:"
                " no operator would start a run there"
            )
