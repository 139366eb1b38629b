"""Effects of the API server's refusals on an object, and their deadlines.

Most refusals are over in a moment: an API server that is busy or starts, a webhook that was rolled out with a
mistake. Lasting ones must be reported, and what no waiting mends ends an object that has not begun.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from footplate_contracts.names import Reason
from footplate_operator.errors import ClusterError, NameTaken, ObjectInvalid
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import POD

BUSY: Final = timedelta(seconds=30)  # an API server that is busy no longer than this is not worth a word
FINAL: Final = timedelta(seconds=60)  # what was not accepted for so long never will be
_MESSAGE_LIMIT: Final = 1024
# As the API server's authorizer and its quota plugin say it.
_NO_RIGHT: Final = "cannot create resource"
_QUOTA: Final = "exceeded quota"


class RefusalCategory(StrEnum):
    """Category of a refusal."""

    UNANSWERED = "unanswered"
    BUSY = "busy"  # or about to be done with what is in the way
    NOT_ACCEPTED = "not accepted"
    OTHER = "other"


Standing = Mapping[RefusalCategory, datetime]


def categorize(error: ClusterError) -> RefusalCategory:
    """Return the category of `error`."""
    if error.status == 0:
        return RefusalCategory.UNANSWERED
    if error.status == 429 or error.status >= 500 or isinstance(error, NameTaken):
        return RefusalCategory.BUSY
    return RefusalCategory.NOT_ACCEPTED if isinstance(error, ObjectInvalid) else RefusalCategory.OTHER


def refused_since(before: Standing, refused: Sequence[ClusterError], now: datetime) -> Standing:
    """Return since when each category is refused; `before`: the same at the previous attempt."""
    return {found: before.get(found, now) for found in map(categorize, refused)}


def find_problem(refused: Sequence[ClusterError], since: Standing, now: datetime) -> ReconcileProblem | None:
    """Return the problem to report for the refusals; None without any."""
    problems = [_problem(error, now - since[categorize(error)]) for error in refused]
    worst = min(problems, key=lambda problem: problem.passing, default=None)
    if worst is None or worst.reason is not Reason.CHILD_CONFLICT:
        return worst
    # All that stands in the way is told: whoever takes one thing away should not meet the next.
    alike = dict.fromkeys(problem.message for problem in problems if problem.reason is worst.reason)
    return replace(worst, message="; ".join(alike)[:_MESSAGE_LIMIT])


def _problem(error: ClusterError, stood: timedelta) -> ReconcileProblem:
    found = categorize(error)
    return ReconcileProblem(
        _reason(error),
        str(error)[:_MESSAGE_LIMIT],
        final=found is RefusalCategory.NOT_ACCEPTED and stood >= FINAL,
        # Where nobody answers, nobody could be told either.
        passing=found is RefusalCategory.UNANSWERED or (found is RefusalCategory.BUSY and stood < BUSY),
    )


def _reason(error: ClusterError) -> Reason:
    if error.reason == Reason.CHILD_CONFLICT:
        return Reason.CHILD_CONFLICT
    if error.kind != POD.name or _NO_RIGHT in str(error):
        return Reason.API_ERROR
    return Reason.QUOTA_EXCEEDED if _QUOTA in str(error) else Reason.ADMISSION_REFUSED
