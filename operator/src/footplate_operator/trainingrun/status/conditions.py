"""Conditions with the meaning that `metav1.Condition` gives them.

`lastTransitionTime` is when the *status* changed, not when the message did;
clients wait on it, so a condition that is merely said again keeps its time.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from footplate_contracts.names import ConditionType
from footplate_contracts.v1alpha1.status import Condition
from footplate_operator.runtime.clock import format_time

_MESSAGE_LIMIT = 1024


def condition(
    kind: ConditionType, holds: bool, reason: str, message: str, generation: int, now: datetime
) -> Condition:
    """A condition that has just become so."""
    return Condition(
        type=kind.value,
        status="True" if holds else "False",
        observed_generation=generation,
        last_transition_time=format_time(now),
        reason=reason,
        message=message[:_MESSAGE_LIMIT],
    )


def merge(before: Sequence[Condition], after: Sequence[Condition]) -> list[Condition]:
    """`after`, each with the transition time it had `before` where its status is the same.

    Types that `after` does not mention stay as they were.
    """
    known = {each.type: each for each in before}
    merged = dict(known)
    for each in after:
        old = known.get(each.type)
        same = old is not None and old.status == each.status
        time = old.last_transition_time if old is not None and same else each.last_transition_time
        merged[each.type] = each.model_copy(update={"last_transition_time": time})
    return [merged[name] for name in sorted(merged)]
