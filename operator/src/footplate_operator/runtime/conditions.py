"""Conditions with the meaning of `metav1.Condition`.

`lastTransitionTime` is when the *status* changed, not when the message did; clients wait on it, so a repeated
condition keeps its time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from footplate_contracts.names import ConditionType
from footplate_contracts.v1alpha1.status import Condition
from footplate_operator.runtime.clock import format_time

_MESSAGE_LIMIT = 1024
_STATUS = {True: "True", False: "False", None: "Unknown"}


@dataclass(frozen=True)
class NewCondition:
    """A condition without its generation and time."""

    type: ConditionType
    holds: bool | None  # None: nobody knows
    reason: str
    message: str


def condition(new: NewCondition, generation: int, now: datetime) -> Condition:
    """Return a condition with its transition `now`, for the object's `metadata.generation`."""
    return Condition(
        type=new.type.value,
        status=_STATUS[new.holds],
        observed_generation=generation,
        last_transition_time=format_time(now),
        reason=new.reason,
        message=new.message[:_MESSAGE_LIMIT],
    )


def shorten(words: Sequence[str], most: int = 4) -> str:
    """Return the first of `words` for a message, and how many more there are."""
    return ", ".join(words[:most]) + (f", and {len(words) - most} more" if len(words) > most else "")


def find(conditions: Iterable[Condition], name: ConditionType) -> Condition | None:
    """Return the condition of this type; None without one."""
    return next((known for known in conditions if known.type == name), None)


def merge(
    before: Sequence[Condition], after: Sequence[NewCondition], generation: int, now: datetime
) -> list[Condition]:
    """Return `before` updated with `after`, as `meta.SetStatusCondition` does.

    A condition whose status is unchanged keeps its transition time.
    """
    merged = {known.type: known for known in before}
    for new in after:
        said = condition(new, generation, now)
        known = merged.get(said.type)
        if known is not None and known.status == said.status:
            said = said.model_copy(update={"last_transition_time": known.last_transition_time})
        merged[said.type] = said
    return [merged[name] for name in sorted(merged)]
