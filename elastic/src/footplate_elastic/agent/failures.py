"""Why ranks ended, told from what they left behind. Pure apart from one counter file.

A rank that can still speak leaves an error file with a FailureReport. One that
cannot leaves an exit code or a signal, and its last lines. The first one that
failed speaks for all: the others most likely lost their connection to it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_contracts.reports import FailureReport
from footplate_elastic.protocol.failures import is_collateral

MESSAGE_LIMIT: Final = 1024  # the contract's
MEMORY_EVENTS: Final = Path("/sys/fs/cgroup/memory.events")

_COMMUNICATION: Final = re.compile(
    r"Connection (closed by peer|reset by peer|refused)|Broken pipe|NCCL error|ncclRemoteError|"
    r"ncclSystemError|ProcessGroup(NCCL|Gloo).*(timed? ?out|abort)|DistBackendError|gloo::|"
    r"(Read|Write) error|Timed out waiting",
    re.IGNORECASE,
)
_MEMORY: Final = re.compile(r"CUDA out of memory|OutOfMemoryError|MemoryError|DefaultCPUAllocator")

_BY_EXIT_CODE: Final = {
    int(ExitCode.STORAGE): (Cause.STORAGE, Reason.STORAGE_ERROR),
    int(ExitCode.CONFIG): (Cause.IMAGE_OR_CONFIG, Reason.CONFIG_REFUSED),
    int(ExitCode.STALE): (Cause.COMMUNICATION, Reason.PEER_LOST),
    137: (Cause.COMMUNICATION, Reason.RANK_KILLED),  # a shell's word for SIGKILL
}


@dataclass(frozen=True)
class RankEnd:
    """What one rank left behind; `code` None where it still runs but has written its error file."""

    rank: int
    code: int | None
    time: float
    error_file: str
    tail: str


def first_failure(ends: Iterable[RankEnd], out_of_memory: bool) -> FailureReport:
    """The report that speaks for all of `ends`, of which at least one is over.

    An echo (a lost connection) speaks only where nothing else does; among the
    others the earliest. `out_of_memory` says that the kernel killed a process
    of this container for memory. A rank that still writes its error file has
    not spoken yet.
    """
    known = [end for end in ends if end.code is not None or _told(end) is not None]
    reports = [classify(end, out_of_memory) for end in known]
    return min(reports, key=lambda report: (is_collateral(report), report.time))


def classify(end: RankEnd, out_of_memory: bool) -> FailureReport:
    """One rank's end as a report."""
    told = _told(end)
    if told is not None:
        return told
    cause, reason, message = _guess(end, out_of_memory)
    return FailureReport(
        cause=cause, reason=reason, message=_clip(message), rank=end.rank, exit_code=end.code, time=end.time
    )


def oom_kills(events: Path = MEMORY_EVENTS) -> int:
    """How many processes of this container the kernel has killed for memory; 0 where it does not say."""
    try:
        lines = events.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _told(end: RankEnd) -> FailureReport | None:
    """The report in the error file: the trainer's own, or made of what torch's recorder writes."""
    try:
        content: Any = json.loads(end.error_file)
    except ValueError:
        return None
    if not isinstance(content, dict):
        return None
    if "failure" in content:
        try:
            report = FailureReport.from_json(content["failure"])
        except ValidationError:
            return None
        complete = {"rank": end.rank if report.rank is None else report.rank, "exit_code": end.code}
        return _reconsidered(report.model_copy(update=complete))
    message = content.get("message", "")
    extra = message.get("extraInfo", {}) if isinstance(message, dict) else {}
    text = str(message.get("message", "") if isinstance(message, dict) else message)
    report = FailureReport(
        cause=Cause.USER_ERROR,
        reason=Reason.PYTHON_ERROR,
        message=_clip(text),
        rank=end.rank,
        exit_code=end.code,
        time=float(extra.get("timestamp", end.time)),
    )
    return _reconsidered(report)


def _reconsidered(report: FailureReport) -> FailureReport:
    """An unknown Python error may still be a peer that is gone, or memory."""
    if report.cause is not Cause.USER_ERROR:
        return report
    if _MEMORY.search(report.message):
        return report.model_copy(update={"cause": Cause.OUT_OF_MEMORY, "reason": Reason.OUT_OF_MEMORY})
    if _COMMUNICATION.search(report.message):
        return report.model_copy(update={"cause": Cause.COMMUNICATION, "reason": Reason.PEER_LOST})
    return report


def _guess(end: RankEnd, out_of_memory: bool) -> tuple[Cause, str, str]:
    said = f"; its last lines:\n{end.tail}" if end.tail else ""
    code = end.code if end.code is not None else 0
    if code in (-9, 137) and out_of_memory:
        return (
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            f"rank {end.rank} was killed by the kernel for memory",
        )
    if code in _BY_EXIT_CODE:
        cause, reason = _BY_EXIT_CODE[code]
        return cause, reason, f"rank {end.rank} ended with exit code {code}{said}"
    if code in (-9, -15):
        # Somebody else's doing: an infrastructure fault, which must not spend the user's retries.
        return Cause.COMMUNICATION, Reason.RANK_KILLED, f"rank {end.rank} was killed by signal {-code}"
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    if _COMMUNICATION.search(end.tail):
        return Cause.COMMUNICATION, Reason.PEER_LOST, f"rank {end.rank} ended {ended}{said}"
    return Cause.USER_ERROR, Reason.PYTHON_ERROR, f"rank {end.rank} ended {ended}{said}"


def _clip(message: str) -> str:
    """The end of a long message: a traceback's last lines say most."""
    return message if len(message) <= MESSAGE_LIMIT else "…" + message[-(MESSAGE_LIMIT - 1) :]
