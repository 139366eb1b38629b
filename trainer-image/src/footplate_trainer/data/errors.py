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

    def __init__(self, uri: str, what: str, remedy: str) -> None:
        super().__init__(f"{uri}: {what}; {remedy}")
        self.uri = uri
        self.what = what
        self.remedy = remedy

    def __reduce__(self) -> tuple[type[DataMissing], tuple[str, str, str]]:
        # Verdicts travel between ranks pickled; an exception with own arguments does not by itself.
        return type(self), (self.uri, self.what, self.remedy)


class DataCorrupt(DataError):
    """`file` has another `what` (sha256, size, …) than its manifest says. A restart would not mend it."""

    outcome = OUTCOMES[ExitCode.CONFIG]._replace(reason=Reason.DATA_CORRUPT)

    def __init__(self, file: str, what: str, expected: str, found: str) -> None:
        super().__init__(
            f"{file}: {what} is {found}, should be {expected}; "
            "the file changed after it was packed: restore it or pack again"
        )
        self.file = file
        self.what = what
        self.expected = expected
        self.found = found

    def __reduce__(self) -> tuple[type[DataCorrupt], tuple[str, str, str, str]]:
        return type(self), (self.file, self.what, self.expected, self.found)
