"""A status that stays small: 16 KiB, whatever happened to the run.

Every watcher of TrainingRuns receives each version of each status. Twenty
attempts with a traceback each would be larger than that, so the newest keep
their words and the older ones are cut.
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.v1alpha1.status import TrainingRunStatus

STATUS_LIMIT: Final = 16 * 1024
# Characters that attempts beyond the newest keep, tried in this order until the status fits.
_CUTS: Final = (256, 128, 64, 0)
_NEWEST: Final = 2
_LAST_CUT: Final = 256
_MARK: Final = "…"


def fit(status: TrainingRunStatus) -> TrainingRunStatus:
    """`status`, with messages cut as far as needed: of older attempts first, of everything last."""
    for characters in _CUTS:
        if bytes_of(status) <= STATUS_LIMIT:
            return status
        status = _cut(status, characters, _NEWEST)
    if bytes_of(status) <= STATUS_LIMIT:
        return status
    conditions = [
        condition.model_copy(update={"message": _short(condition.message, _LAST_CUT)})
        for condition in status.conditions
    ]
    return _cut(status.model_copy(update={"conditions": conditions}), _LAST_CUT, 0)


def bytes_of(status: TrainingRunStatus) -> int:
    """Size as JSON; what the API server keeps is within a few bytes of it."""
    return len(status.model_dump_json(by_alias=True, exclude_none=True).encode())


def _cut(status: TrainingRunStatus, characters: int, newest: int) -> TrainingRunStatus:
    older = status.attempts[: len(status.attempts) - newest]
    short = [attempt.model_copy(update={"message": _short(attempt.message, characters)}) for attempt in older]
    return status.model_copy(update={"attempts": [*short, *status.attempts[len(older) :]]})


def _short(message: str, characters: int) -> str:
    return message if len(message) <= characters else message[: max(0, characters - 1)] + _MARK
