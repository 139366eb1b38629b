"""Failure classification: one record from the rank that failed to the status of its run.

A rank meets an exception, its process an exit code, its neighbours a text of gloo or NCCL. Their meaning is
defined here alone, so that trainer, agent, coordinator and operator never disagree about it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Final, NamedTuple, Protocol

from pydantic import BeforeValidator, Field

from footplate_contracts.base import WireMessage, read_unknown_as
from footplate_contracts.hardware_errors import BROKEN_DEVICES, BROKEN_LINKS, MISCONFIGURED_NODES
from footplate_contracts.names import Cause, ExitCode, Reason

MESSAGE_LIMIT: Final = 1024  # characters, as in the status of a run
REASON_LIMIT: Final = 64


class Outcome(NamedTuple):
    """Exit code of a process that failed, with the cause and the reason for the failure policy."""

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
        Outcome(ExitCode.GPU_ERROR, Cause.NODE_LOST, Reason.GPU_ERROR),
    )
}
"""What each exit code of a failure says, where nothing else is known of it."""

_OUT_OF_MEMORY: Final = Outcome(ExitCode.USER_ERROR, Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY)
_PEER_LOST: Final = Outcome(ExitCode.USER_ERROR, Cause.COMMUNICATION, Reason.PEER_LOST)
_KILLED: Final = Outcome(ExitCode.USER_ERROR, Cause.COMMUNICATION, Reason.RANK_KILLED)
_GPU_LOST: Final = Outcome(ExitCode.USER_ERROR, Cause.NODE_LOST, Reason.GPU_ERROR)
_MISCONFIGURED: Final = Outcome(ExitCode.USER_ERROR, Cause.IMAGE_OR_CONFIG, Reason.NODE_MISCONFIGURED)
_STORAGE: Final = OUTCOMES[ExitCode.STORAGE]

# Of the device, of the host, and of /dev/shm, where the segments of NCCL and of data loaders lie.
_MEMORY: Final = (
    r"out of memory|OutOfMemoryError|MemoryError|DefaultCPUAllocator|bad_alloc|Cannot allocate memory"
    r"|oom-?kill|cudaErrorMemoryAllocation|_STATUS_ALLOC_FAILED"
    r"|DataLoader worker \(pid.*\) is killed by signal: (Killed|Bus error)"
    r"|(out of|insufficient) shared memory|(extend|creating shared memory segment) .*nccl"
    r"|unable to (write to|mmap \d+ bytes from) file </torch_|/dev/shm.*No space left"
)
# NCCL reports these as it reports a lost connection, but they are mistakes of whoever called it, or of CUDA.
_MISUSE: Final = (
    r"ncclInvalid(Usage|Argument)|Duplicate GPU detected|NCCL.*invalid (usage|argument)"
    r"|ncclUnhandledCudaError|unhandled cuda error"
)
_FULL: Final = r"No space left on device|Disk quota exceeded"
_BAD_STORAGE: Final = (
    r"Input/output error|Remote I/O error|Stale (NFS )?file handle|Read-only file system"
    r"|Transport endpoint is not connected|transport endpoint shutdown|PytorchStreamWriter failed"
    r"|HTTPS?ConnectionPool|(botocore|urllib3|requests|google\.api_core|azure\.core)\.exceptions"
    r"|aiohttp\.client_exceptions"
)
# gloo, NCCL and torch's store raise plain RuntimeError, or end the process with nothing but a line on stderr.
_PEER_GONE: Final = r"Connection closed by peer|Connection reset by peer|Broken pipe"
_COMMUNICATION: Final = (
    rf"{_PEER_GONE}|Connection refused|gloo/transport|gloo::|Dist(Backend|Network|Store)Error|"
    r"NCCL error|NCCL communicator|ncclRemoteError|ncclSystemError|NCCL WARN (NET/|Net :|Call to connect)|"
    r"ProcessGroup(NCCL|Gloo).*(timed? ?out|abort)|Timed out waiting|wait timeout|Socket Timeout|"
    r"collective operation timeout|monitoredBarrier|Rendezvous(Connection|Timeout|Closed)Error|"
    r"client socket has |No route to host|Network is unreachable|connection abort|Connection timed out"
)
_TEXTS: Final = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), outcome, remedy)
    for texts, outcome in (
        (BROKEN_DEVICES, _GPU_LOST),
        (MISCONFIGURED_NODES, _MISCONFIGURED),  # before memory: libibverbs lacks locked memory
        ({_MEMORY: ""}, _OUT_OF_MEMORY),
        ({_MISUSE: ""}, OUTCOMES[ExitCode.USER_ERROR]),
        ({_FULL: ""}, _STORAGE._replace(reason=Reason.STORAGE_FULL)),
        ({_BAD_STORAGE: ""}, _STORAGE),
        (BROKEN_LINKS, _PEER_LOST),
        ({_COMMUNICATION: ""}, _PEER_LOST),
        ({r"SignalException: Process \d+ got signal: 15": ""}, _KILLED),  # torchrun, of itself
    )
    for pattern, remedy in texts.items()
)
"""In this order: what is behind a lost connection says more than that."""


def outcome_of_text(text: str) -> Outcome | None:
    """Classify an error (type and text) or the last lines of a process; None if no pattern matches."""
    return next((outcome for pattern, outcome, _ in _TEXTS if pattern.search(text)), None)


def truncate_message(message: str, limit: int = MESSAGE_LIMIT) -> str:
    """Cut a message that is too long for a report to its end: a traceback's last lines say most."""
    return message if len(message) <= limit else "…" + message[-(limit - 1) :]


def is_peer_gone(text: str) -> bool:
    """Return whether `text` says that the peer has closed a connection: then another rank has the cause."""
    return re.search(_PEER_GONE, text) is not None


def _without_surrogates(message: object) -> object:
    """Replace halves of surrogate pairs, which JSON cannot carry and a user's program may print."""
    return message.encode(errors="replace").decode() if isinstance(message, str) else message


Message = Annotated[str, BeforeValidator(_without_surrogates)]
"""A text of somebody else's program."""


class FailureReport(WireMessage):
    """Failure of ranks or of a pod; a generation reports that of the first rank that failed."""

    # One that a newer release added counts as the user's error: never retried for ever.
    cause: Annotated[Cause, read_unknown_as(Cause.USER_ERROR)]
    reason: str = Field(max_length=REASON_LIMIT)
    message: Message = Field(max_length=MESSAGE_LIMIT, description="for a traceback its last lines")
    rank: int | None = None
    exit_code: int | None = None
    step: int | None = None
    time: float = Field(description="seconds since the Unix epoch")


def remedy_of(report: FailureReport) -> str:
    """Return the remedy for the machine of `report`; empty if its message does not identify the error."""
    found = ((outcome, remedy) for pattern, outcome, remedy in _TEXTS if pattern.search(report.message))
    outcome, remedy = next(found, (None, ""))
    same = outcome is not None and (outcome.cause, outcome.reason) == (report.cause, report.reason)
    return remedy if same else ""


class HasCause(Protocol):
    """Record of an end with its cause and reason: a FailureReport, or an attempt in a run's status."""

    @property
    def cause(self) -> Cause | None:
        """Cause, whose restart limit the failure counts against."""

    @property
    def reason(self) -> str:
        """Reason, in one word."""


def is_secondary(failure: HasCause) -> bool:
    """Return whether another failure caused `failure`: a rank has lost its connection to a failed one.

    A killed rank is not secondary, although it counts as communication too: it has lost more than a
    connection, and no other failure explains it.
    """
    return failure.cause is Cause.COMMUNICATION and failure.reason == Reason.PEER_LOST
