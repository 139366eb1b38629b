"""Dimensions by which costs are grouped; pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_api.errors import Invalid
from footplate_api.labels.run_labels import RunProperty
from footplate_api.labels.selector import key_faults
from footplate_ledger.usage import PodAllocation, Sku

MOST: Final = 6
_LABEL: Final = "label:"


class Dimension(StrEnum):
    """A property of a run or of its nodes."""

    NAMESPACE = "namespace"
    QUEUE = "queue"
    PROFILE = "profile"
    CAPACITY = "capacity"
    OWNER = "owner"


_RIGHT: Final = f"must be one or more of {', '.join(Dimension)} and label:KEY, separated by commas"
_PROPERTIES: Final = {Dimension.QUEUE: RunProperty.QUEUE, Dimension.OWNER: RunProperty.REQUESTED_BY}
_OF_NODES: Final = (Dimension.PROFILE, Dimension.CAPACITY)
Group = tuple[str | None, ...]
"""A value for each dimension; None where there is none."""


@dataclass(frozen=True)
class Grouping:
    """The requested dimensions, in their order and as they were written."""

    names: tuple[str, ...]

    def stored_key(self, name: str) -> str | None:
        """Return the key under which a dimension is stored beside the labels; None if the usage has it."""
        if name.startswith(_LABEL):
            return name.removeprefix(_LABEL)
        return _PROPERTIES.get(Dimension(name))

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that kept() returns."""
        return tuple(key for name in self.names if (key := self.stored_key(name)) is not None)

    def of_pod(self, pod: PodAllocation, kept: Mapping[str, Mapping[str, str]]) -> Group:
        """Return the group of a pod; `kept` maps each key to its values by run uid."""
        return tuple(self._value(name, pod, kept) for name in self.names)

    def _value(self, name: str, pod: PodAllocation, kept: Mapping[str, Mapping[str, str]]) -> str | None:
        key = self.stored_key(name)
        if key is not None:
            return kept[key].get(pod.owner.uid)
        return pod.owner.namespace if name == Dimension.NAMESPACE else _of_sku(name, pod.sku)

    def of_idle(self, sku: Sku) -> Group:
        """Return the group of a node's idle capacity."""
        return tuple(_of_sku(name, sku) if name in _OF_NODES else None for name in self.names)


def _of_sku(name: str, sku: Sku) -> str:
    return sku.profile if name == Dimension.PROFILE else sku.capacity.value


def parse_grouping(text: str) -> Grouping:
    """Parse the dimensions in `text`; raises Invalid."""
    names = tuple(part.strip() for part in text.split(","))
    for name in names:
        known = name in set(Dimension) or (
            name.startswith(_LABEL) and not key_faults(name.removeprefix(_LABEL))
        )
        if not known:
            raise Invalid.field("query.groupBy", name, _RIGHT)
    if len(set(names)) != len(names) or len(names) > MOST:
        raise Invalid.field("query.groupBy", text, f"must name each dimension once, and at most {MOST}")
    return Grouping(names)
