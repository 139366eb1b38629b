"""What a failure is: one record from the rank that failed to the status of its run.

A rank meets an exception, its process an exit code, its neighbours a text of gloo or NCCL. What these
mean stands here alone, so that trainer, agent, coordinator and operator never disagree about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple, Protocol

from pydantic import BeforeValidator, Field

from footplate_contracts.model import Report, read_unknown_as
from footplate_contracts.names import Cause, ExitCode, Reason

MESSAGE_LIMIT: Final = 1024  # characters, as in the status of a run
REASON_LIMIT: Final = 64


class Outcome(NamedTuple):
    """How a process should end after a failure, and what the failure policy makes of it."""

    exit_code: ExitCode
    cause: Cause
    reason: Reason


OUTCOMES: Final[Mapping[int, Outcome]] = {
    outcome.exit_code: outcome
    for outcome in (
        Outcome(ExitCode.USER_ERROR, Cause.USER_ERROR, Reason.PYTHON_ERROR),
        Outcome(ExitCode.STORAGE, Cause.STORAGE, Reason.STORAGE_ERROR),
        Outcome(ExitCode.CONFIG, Cause.IMAGE_OR_CONFIG, Reason.CONFIG_REFUSED),
        Outcome(ExitCode.STALE, Cause.COMMUNICATION, Reason.PEER_LOST),
    )
}
"""What each exit code of a failure says, where nothing else is known of it."""

_OUT_OF_MEMORY: Final = Outcome(ExitCode.USER_ERROR, Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY)
_PEER_LOST: Final = Outcome(ExitCode.USER_ERROR, Cause.COMMUNICATION, Reason.PEER_LOST)

# gloo, NCCL and torch's store raise plain RuntimeError, or end the process with nothing but a line on stderr.
_PEER_GONE: Final = r"Connection closed by peer|Connection reset by peer|Broken pipe"
_COMMUNICATION: Final = (
    rf"{_PEER_GONE}|Connection refused|gloo/transport|gloo::|Dist(Backend|Network|Store)Error|"
    r"NCCL error|NCCL communicator|ncclRemoteError|ncclSystemError|"
    r"ProcessGroup(NCCL|Gloo).*(timed? ?out|abort)|Timed out waiting|wait timeout"
)
_MEMORY: Final = r"CUDA out of memory|OutOfMemoryError|MemoryError|DefaultCPUAllocator"
_TEXTS: Final = (
    (re.compile(_MEMORY), _OUT_OF_MEMORY),
    (re.compile(_COMMUNICATION, re.IGNORECASE), _PEER_LOST),
)


def outcome_of_text(text: str) -> Outcome | None:
    """What an error (type and text) or the last lines of a process say; None where any program says it."""
    return next((outcome for pattern, outcome in _TEXTS if pattern.search(text)), None)


def fit(message: str) -> str:
    """The end of a message that is too long for a report: a traceback's last lines say most."""
    return message if len(message) <= MESSAGE_LIMIT else "…" + message[-(MESSAGE_LIMIT - 1) :]


def is_peer_gone(text: str) -> bool:
    """Whether `text` says that the other end has closed a connection: the news is with another rank."""
    return re.search(_PEER_GONE, text) is not None


def _without_surrogates(message: object) -> object:
    """What a user's program said may hold half of a surrogate pair, which no JSON carries."""
    return message.encode(errors="replace").decode() if isinstance(message, str) else message


Message = Annotated[str, BeforeValidator(_without_surrogates)]
"""A text of somebody else's program."""


class FailureReport(Report):
    """Why ranks or a pod ended; of a generation the first rank that failed speaks."""

    # One that a newer release added counts as the user's error: never retried for ever.
    cause: Annotated[Cause, read_unknown_as(Cause.USER_ERROR)]
    reason: str = Field(max_length=REASON_LIMIT)
    message: Message = Field(max_length=MESSAGE_LIMIT, description="for a traceback its last lines")
    rank: int | None = None
    exit_code: int | None = None
    step: int | None = None
    time: float = Field(description="seconds since the Unix epoch")


class Explained(Protocol):
    """What says why something ended: a FailureReport, or an attempt in the status of a run."""

    @property
    def cause(self) -> Cause | None:
        """Whose budget it counts against."""

    @property
    def reason(self) -> str:
        """In one word."""


def is_secondary(failure: Explained) -> bool:
    """Whether `failure` is the echo of another failure: a rank has lost its connection to one that failed.

    A rank that was killed is none, although it counts as communication too: it has lost more than
    that, and nobody else explains it.
    """
    return failure.cause is Cause.COMMUNICATION and failure.reason == Reason.PEER_LOST
