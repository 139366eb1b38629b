"""What the watches tell an operator: everything in order, or, where a test asks for it, late or never."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from footplate_operator.runtime.handlers import Handler
from footplate_operator.runtime.kinds import Json, Kind


class Watches:
    """Of one operator process, on all kinds that it watches."""

    def __init__(self, listed: Iterable[Json]) -> None:
        self.cut = False  # what happens now is never told: a list tells no end
        self.late: set[str] = set()  # names of objects that are told of once they are taken out of here
        self.pending = [("ADDED", body) for body in listed]

    def note(self, event: str, body: Json) -> None:
        """Something happened in the cluster."""
        if not self.cut:
            self.pending.append((event, body))

    async def deliver(self, handlers: Mapping[Kind, Handler]) -> None:
        """Tell as kopf does what there is to tell now."""
        by_kind = {(kind.api_version, kind.name): handler for kind, handler in handlers.items()}
        while due := [told for told in self.pending if told[1]["metadata"]["name"] not in self.late]:
            self.pending = [told for told in self.pending if told[1]["metadata"]["name"] in self.late]
            for event, body in due:
                if handler := by_kind.get((body["apiVersion"], body["kind"])):
                    await handler({"type": event, "object": body})
