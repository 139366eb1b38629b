"""Whose runs this installation serves: those of all namespaces, or of some.

Of any other namespace nothing is asked of Kubernetes, and nothing is created or deleted there. What is stored
of its runs stays as it was seen last.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_api.errors import BookKeptElsewhere, NamespaceNotServed


@dataclass(frozen=True)
class Served:
    """The namespaces of an installation.

    >>> "team-a" in Served(), "team-a" in Served(("team-b",))
    (True, False)
    """

    namespaces: tuple[str, ...] = ()  # none: all of them
    cluster: bool = True  # whether it keeps what belongs to no namespace: Nodes' usage, and the price book

    def __contains__(self, namespace: object) -> bool:
        return not self.namespaces or namespace in self.namespaces

    @property
    def places(self) -> tuple[str, ...]:
        """What is followed, each by itself: the empty text stands for all namespaces."""
        return self.namespaces or ("",)

    def check_book(self) -> None:
        """Raises BookKeptElsewhere."""
        if not self.cluster:
            raise BookKeptElsewhere(
                "another installation of Footplate in this cluster keeps the price book (clusterDuties):"
                " enter the price there, or create a PriceEntry"
            )

    def check(self, namespace: str) -> None:
        """Raises NamespaceNotServed."""
        if namespace not in self:
            named = ", ".join(self.namespaces)
            raise NamespaceNotServed(
                f"namespace: this installation of Footplate serves the namespaces {named}, and not"
                f" {namespace!r}: nobody would act upon a run there"
            )
