"""What can go wrong in the trainer, as types that carry their place in the failure policy.

A person reads one clear line, the agent reads cause and reason, the pod ends
with an exit code that the operator understands. Each error knows all three, so
that only the edge of a program (`stages`, `__main__`) translates, once. The text ends
in a condition of the run, read by a person far away: it says which file or field, what
was found there and what would be right.

TrainerError
├── UserMistake
│   └── CheckpointError
│       └── CheckpointDamaged
├── StorageError
│   └── NotOneFolder
├── DataError
│   ├── BeingWritten
│   ├── DataMissing
│   └── DataCorrupt
├── NumericalDivergence
├── TooManyUnrewarded
├── NoRoomNow
└── StaleGeneration
"""

from __future__ import annotations

from footplate_contracts.failures import OUTCOMES, Outcome
from footplate_contracts.names import Cause, ExitCode, Reason


class TrainerError(Exception):
    """The root: an error that was foreseen, told in one line and without a traceback."""

    outcome: Outcome = OUTCOMES[ExitCode.USER_ERROR]

    def __init__(self, message: str, *, rank: int | None = None, step: int | None = None) -> None:
        super().__init__(message)
        self.rank = rank
        self.step = step


class UserMistake(TrainerError, ValueError):
    """The configuration cannot work; a restart would not mend it."""

    outcome = OUTCOMES[ExitCode.CONFIG]


class CheckpointError(UserMistake):
    """The checkpoint folder holds nothing that this run could go on from."""


class CheckpointDamaged(CheckpointError):
    """A file of a checkpoint is missing or is not what was written; another step may be whole."""


class StorageError(TrainerError):
    """Reading or writing failed below us; the reason tells a full volume from the rest."""

    outcome = OUTCOMES[ExitCode.STORAGE]

    def __init__(self, message: str, *, full: bool = False, step: int | None = None) -> None:
        super().__init__(message, step=step)
        if full:
            self.outcome = self.outcome._replace(reason=Reason.STORAGE_FULL)

    @property
    def lasts(self) -> bool:
        """Whether it will most likely be the same in a minute."""
        return self.outcome.reason is Reason.STORAGE_FULL


class NotOneFolder(StorageError):
    """What one rank has written another one does not see."""

    lasts = True


class DataError(TrainerError):
    """Data could not be read or written: the disk is full, a store does not answer, …"""

    outcome = OUTCOMES[ExitCode.STORAGE]


class BeingWritten(DataError):
    """Another process writes the same folder at this moment. It may have done so in a minute."""


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


class NumericalDivergence(TrainerError):
    """Loss or gradient norm is not finite; the weights are still those of the step before."""

    outcome = Outcome(ExitCode.USER_ERROR, Cause.NUMERICAL_DIVERGENCE, Reason.NOT_FINITE)


class TooManyUnrewarded(TrainerError):
    """Too many samples of a rollout got no reward. What a function asks may answer again in a minute."""

    outcome = Outcome(ExitCode.USER_ERROR, Cause.USER_ERROR, Reason.SAMPLES_UNREWARDED)


class NoRoomNow(TrainerError):
    """Memory is short at this moment, though the device or the container has enough of it."""

    outcome = Outcome(ExitCode.USER_ERROR, Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY)


class StaleGeneration(TrainerError):
    """A newer generation has taken over: whatever this one still holds must not count."""

    outcome = OUTCOMES[ExitCode.STALE]
