"""Decides from the kubelet's message whether the user or the node caused an eviction.

The kubelet evicts a pod that exceeds a limit of its own, and on a node that runs
short the pod that exceeds its requests most. The first is the user's doing, and so
is the second if the pod used more than it had requested. A pod that requested
nothing exceeds that with its first byte: it is blamed only if it filled the node's
disk with more than the node's whole reserve. Every other eviction is the
node's trouble.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from footplate_contracts.names import Cause
from footplate_contracts.quantity import parse_quantity

_OWN_LIMIT: Final = re.compile(
    r"ephemeral local storage usage exceeds the total limit"
    r"|exceeded its local ephemeral storage limit"
    r"|usage of emptydir volume .* exceeds the limit",
    re.IGNORECASE,
)
_SHORT_OF: Final = re.compile(r"low on resource: ([a-z-]+)", re.IGNORECASE)
_RESERVE: Final = re.compile(r"threshold(?: quantity)?: ([\w.]+)", re.IGNORECASE)
_USED: Final = re.compile(
    r"was using ([\w.]+), (?:request is ([\w.]+)|which exceeds its request of ([\w.]+))", re.IGNORECASE
)
_CAUSES: Final = {"memory": Cause.OUT_OF_MEMORY, "ephemeral-storage": Cause.STORAGE}


def get_blamed_cause(message: str) -> Cause | None:
    """Return the cause that an eviction of this `message` counts against; None if the node is at fault."""
    if _OWN_LIMIT.search(message):
        return Cause.STORAGE
    short_of, reserve = _SHORT_OF.search(message), _RESERVE.search(message)
    cause = _CAUSES.get(short_of[1].lower()) if short_of else None
    if cause is None:
        return None
    kept = parse_quantity(reserve[1].rstrip(".")) if reserve else None
    for used, request in _containers(message):
        if used > request > 0.0:
            return cause
        if request == 0.0 and cause is Cause.STORAGE and kept is not None and used > kept:
            return cause
    return None


def _containers(message: str) -> Iterator[tuple[float, float]]:
    """Yield the bytes that each container of the pod used, and the bytes that it had requested."""
    for used, request, earlier in _USED.findall(message):
        amounts = parse_quantity(used.rstrip(".")), parse_quantity((request or earlier).rstrip("."))
        if amounts[0] is not None and amounts[1] is not None:
            yield amounts[0], amounts[1]
