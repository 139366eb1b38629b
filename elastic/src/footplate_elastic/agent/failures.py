"""Classifies why ranks ended from the traces that they left; pure apart from one counter file.

A rank that still can leaves an error file with a FailureReport. Any other leaves an exit code or a signal,
and its last lines. The first rank that failed decides: the others most likely lost their connection to it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from footplate_contracts.failures import (
    OUTCOMES,
    FailureReport,
    is_secondary,
    outcome_of_text,
    truncate_message,
)
from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_elastic.agent.zygote_client import ProcessExit

# Of cgroups v2 and v1; a container has one of them.
MEMORY_EVENTS: Final = (
    Path("/sys/fs/cgroup/memory.events"),
    Path("/sys/fs/cgroup/memory/memory.oom_control"),
)

# As waitpid tells it, and as a shell does.
_KILLED: Final = {
    -signal.SIGKILL: signal.SIGKILL,
    -signal.SIGTERM: signal.SIGTERM,
    128 + signal.SIGKILL: signal.SIGKILL,
}
_ANYTHING: Final = OUTCOMES[ExitCode.USER_ERROR]  # any program ends so


def first_failure(reports: Iterable[FailureReport]) -> FailureReport:
    """Return the failure that stands for all `reports`, of which there is at least one.

    An echo (a lost connection) is chosen only where nothing else is there; among the others the earliest.
    """
    return min(reports, key=lambda report: (is_secondary(report), report.time))


def classify(
    rank: int, end: ProcessExit | None, said: FailureReport | None, tail: str, out_of_memory: bool
) -> FailureReport | None:
    """Return why a rank ended: from its error file `said`, else from its exit code and last lines.

    None for a rank that still runs (no `end`) and has no error file: it may be writing that file.
    `out_of_memory` means that the kernel killed a process of this container for memory.
    """
    if said is not None:
        whose = rank if said.rank is None else said.rank
        return said.model_copy(update={"rank": whose, "exit_code": end.code if end else None})
    if end is None:
        return None
    cause, reason, message = _guess(rank, end.code, tail, out_of_memory)
    return FailureReport(
        cause=cause,
        reason=reason,
        message=truncate_message(message),
        rank=rank,
        exit_code=end.code,
        time=end.time,
    )


def oom_kills(files: Sequence[Path] = MEMORY_EVENTS) -> int:
    """Return how many of the container's processes the kernel has OOM-killed; 0 where it is unknown."""
    lines: list[str] = []
    for file in files:
        with suppress(OSError):
            lines += file.read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _guess(rank: int, code: int, tail: str, out_of_memory: bool) -> tuple[Cause, Reason, str]:
    killed = _KILLED.get(code)
    if killed is signal.SIGKILL and out_of_memory:
        return (
            Cause.OUT_OF_MEMORY,
            Reason.OUT_OF_MEMORY,
            f"rank {rank} was killed by the kernel: out of memory",
        )
    if killed is not None:
        # Somebody else's doing: an infrastructure fault, which must not spend the user's retries.
        return Cause.COMMUNICATION, Reason.RANK_KILLED, f"rank {rank} was killed by signal {killed.value}"
    outcome = OUTCOMES.get(code, _ANYTHING)
    if outcome is _ANYTHING:
        outcome = outcome_of_text(tail) or _ANYTHING
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    said = f"; its last lines:\n{tail}" if tail else ""
    return outcome.cause, outcome.reason, f"rank {rank} ended {ended}{said}"
