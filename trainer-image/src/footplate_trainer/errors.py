"""The trainer's errors, as types with their outcome in the failure policy.

A person reads one clear line, the agent reads cause and reason, the pod ends
with an exit code that the operator understands. Each error has all three, so
that only the edge of a program (`stages`, `__main__`) translates, once. The text ends
in a condition of the run, read by a person far away: it names the file or field, what
was found there and what would be right.

TrainerError
├── UserMistake
│   └── CheckpointError
│       └── CheckpointDamaged
├── StorageError
│   └── FolderNotShared
├── DataError
│   ├── WriteInProgress
│   ├── DataMissing
│   └── DataCorrupt
├── NumericalDivergence
├── TooManyUnrewarded
├── TransientOutOfMemory
└── StaleGeneration
"""

from __future__ import annotations

from footplate_contracts.failures import OUTCOMES, Outcome
from footplate_contracts.names import Cause, ExitCode, Reason


class TrainerError(Exception):
    """Base class of foreseen errors, which are reported in one line and without a traceback."""

    outcome: Outcome = OUTCOMES[ExitCode.USER_ERROR]

    def __init__(self, message: str, *, rank: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank
        self.step = step


class UserMistake(TrainerError, ValueError):
    """The configuration cannot work; a restart would not help."""

    outcome = OUTCOMES[ExitCode.CONFIG]


class CheckpointError(UserMistake):
    """The checkpoint folder holds nothing that this run could go on from."""


class CheckpointDamaged(CheckpointError):
    """A file of a checkpoint is missing or is not what was written; another step may be whole."""


class StorageError(TrainerError):
    """A read or write failed in the storage below the trainer; the reason marks a full volume."""

    outcome = OUTCOMES[ExitCode.STORAGE]

    def __init__(self, message: str, *, full: bool = False, step: int | None = None) -> None:
        super().__init__(message, step=step)
        if full:
            self.outcome = self.outcome._replace(reason=Reason.STORAGE_FULL)

    @property
    def is_persistent(self) -> bool:
        """True if the same error is likely in a minute: the volume is full."""
        return self.outcome.reason is Reason.STORAGE_FULL


class FolderNotShared(StorageError):
    """A rank does not see a file that another rank has written."""

    is_persistent = True


class DataError(TrainerError):
    """Data could not be read or written: the disk is full, a store does not answer, …"""

    outcome = OUTCOMES[ExitCode.STORAGE]


class WriteInProgress(DataError):
    """Another process is writing the same folder; it may have finished in a minute."""


class DataMissing(DataError):
    """Data is missing at a URI; a restart would not help."""

    outcome = OUTCOMES[ExitCode.CONFIG]._replace(reason=Reason.DATA_MISSING)

    @classmethod
    def at(cls, uri: str, what: str, remedy: str) -> DataMissing:
        """Build the error for `uri`, the missing `what` and the `remedy`.

        This is no constructor: ranks exchange pickled errors, which are rebuilt from their message alone.
        """
        return cls(f"{uri}: {what}; {remedy}")


class DataCorrupt(DataError):
    """A file's checksum, size or content is not what its manifest says; a restart would not help."""

    outcome = OUTCOMES[ExitCode.CONFIG]._replace(reason=Reason.DATA_CORRUPT)

    @classmethod
    def at(cls, file: str, what: str, *, expected: str, found: str) -> DataCorrupt:
        """Build the error for `file`, whose `what` (sha256, size, …) is `found` and should be `expected`."""
        return cls(
            f"{file}: {what} is {found}, should be {expected}; the file changed after it was packed; restore "
            "it or pack again"
        )


class NumericalDivergence(TrainerError):
    """Loss or gradient norm is not finite; the weights are still those of the step before."""

    outcome = Outcome(ExitCode.USER_ERROR, Cause.NUMERICAL_DIVERGENCE, Reason.NOT_FINITE)


class TooManyUnrewarded(TrainerError):
    """Too many samples of a rollout got no reward; a service that a function calls may answer in a minute."""

    outcome = Outcome(ExitCode.USER_ERROR, Cause.USER_ERROR, Reason.SAMPLES_UNREWARDED)


class TransientOutOfMemory(TrainerError):
    """Memory is short at this moment, though the device or the container has enough of it."""

    outcome = Outcome(ExitCode.USER_ERROR, Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY)


class StaleGeneration(TrainerError):
    """A newer generation has taken over: nothing that this one still writes may count."""

    outcome = OUTCOMES[ExitCode.STALE]
