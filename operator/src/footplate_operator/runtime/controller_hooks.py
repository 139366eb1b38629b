"""Optional part of the interface between the machinery and a kind: what most kinds leave at its default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Generic, TypeVar

from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Child, KubernetesObject, view_child
from footplate_operator.runtime.throttle import StatusChange

ObjectT = TypeVar("ObjectT", bound=KubernetesObject[Any, Any])


class ControllerHooks(Generic[ObjectT]):
    """Hooks of one kind; a subclass is its controller's `hooks`."""

    # -- the status ----------------------------------------------------------------------

    def compare(self, before: Any, after: Any) -> StatusChange:
        """Return whether the status `after` has news, and whether that may wait."""
        return StatusChange.NOTHING if before == after else StatusChange.STATE

    def complete(self, obj: ObjectT, after: Any) -> Any:
        """Return `after`, about to be written, with fields that are no reason to write and costly to get."""
        return after

    def last_progress(self, obj: ObjectT) -> datetime | None:
        """Return when progress was written last, for an operator that has just started."""
        return None

    # -- what is watched -----------------------------------------------------------------

    def observe_event(self, kind: Kind, body: Json, gone: bool) -> None:
        """Handle a watch event of an object or a child; `gone`: the watch no longer shows it."""

    def view(self, kind: Kind, body: Json) -> Child:
        """Return the cached part of a child."""
        return view_child(kind, body)

    def trim(self, kind: Kind, body: Json) -> Json:
        """Return the part of a parameter or a hint to store in memory."""
        return body

    # -- logs and metrics ----------------------------------------------------------------

    def log_context(self, obj: ObjectT) -> Mapping[str, object]:
        """Return the fields of each log line about `obj`, beside its name and uid."""
        return {}

    def update_gauges(self, count: Callable[[str], Mapping[str, int]]) -> None:
        """Update gauges; `count` counts objects by their value of one name in the index."""
