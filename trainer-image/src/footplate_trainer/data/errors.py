"""What can be wrong with data that somebody else wrote: a branch of the trainer's errors.

DataError              reading or writing failed: the disk is full, …
├── DataMissing        something that should be there is not
└── DataCorrupt        it is there, and it is not what was packed

A rank that meets one must say which file, what was found and what would be
right: the text ends in a condition of the run, read by a person far away.
"""

from __future__ import annotations

from footplate_contracts.failures import OUTCOMES
from footplate_contracts.names import ExitCode, Reason
from footplate_trainer.errors import TrainerError


class DataError(TrainerError):
    """Data could not be read or written."""

    outcome = OUTCOMES[ExitCode.STORAGE]


class DataMissing(DataError):
    """`what` is missing at `uri`; `remedy` says what would be right. A restart would not mend it."""

    outcome = OUTCOMES[ExitCode.CONFIG]._replace(reason=Reason.DATA_MISSING)

    @classmethod
    def at(cls, uri: str, what: str, remedy: str) -> DataMissing:
        """With these words. No constructor: verdicts travel between ranks pickled, as their message."""
        return cls(f"{uri}: {what}; {remedy}")


class DataCorrupt(DataError):
    """`file` has another `what` (sha256, size, …) than its manifest says. A restart would not mend it."""

    outcome = OUTCOMES[ExitCode.CONFIG]._replace(reason=Reason.DATA_CORRUPT)

    @classmethod
    def at(cls, file: str, what: str, *, expected: str, found: str) -> DataCorrupt:
        """With these words."""
        return cls(
            f"{file}: {what} is {found}, should be {expected}; "
            "the file changed after it was packed: restore it or pack again"
        )
