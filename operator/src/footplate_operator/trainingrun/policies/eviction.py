"""Whose doing an eviction is, as the kubelet's message tells.

The kubelet evicts a pod that exceeds a limit of its own, and for a node that runs
short whichever pod exceeds its requests most. The first is the user's doing, and so
is the second where the pod used more than it had asked for. A pod that asked for
nothing exceeds that with its first byte: it is blamed only where it filled the node's
disk with more than all that the node keeps in reserve. Every other eviction is the
node's trouble.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from footplate_contracts.names import Cause
from footplate_contracts.quantity import amount

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


def own_doing(message: str) -> Cause | None:
    """The cause that an eviction of this `message` counts against; None where it is the node's trouble."""
    if _OWN_LIMIT.search(message):
        return Cause.STORAGE
    short_of, reserve = _SHORT_OF.search(message), _RESERVE.search(message)
    cause = _CAUSES.get(short_of[1].lower()) if short_of else None
    if cause is None:
        return None
    kept = amount(reserve[1].rstrip(".")) if reserve else None
    for used, request in _containers(message):
        if used > request > 0.0:
            return cause
        if request == 0.0 and cause is Cause.STORAGE and kept is not None and used > kept:
            return cause
    return None


def _containers(message: str) -> Iterator[tuple[float, float]]:
    """What each container of the pod used, and what it had requested, in bytes."""
    for used, request, earlier in _USED.findall(message):
        amounts = amount(used.rstrip(".")), amount((request or earlier).rstrip("."))
        if amounts[0] is not None and amounts[1] is not None:
            yield amounts[0], amounts[1]
