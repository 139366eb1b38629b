"""Why ranks ended, told from what they left behind. Pure apart from one counter file.

A rank that can still speak leaves an error file with a FailureReport. One that
cannot leaves an exit code or a signal, and its last lines. The first one that
failed speaks for all: the others most likely lost their connection to it.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.failures import OUTCOMES, FailureReport, fit, is_secondary, outcome_of_text
from footplate_contracts.names import Cause, ExitCode, Reason

MEMORY_EVENTS: Final = Path("/sys/fs/cgroup/memory.events")

# As waitpid tells it, and as a shell does.
_KILLED: Final = {
    -signal.SIGKILL: signal.SIGKILL,
    -signal.SIGTERM: signal.SIGTERM,
    128 + signal.SIGKILL: signal.SIGKILL,
}
_ANYTHING: Final = OUTCOMES[ExitCode.USER_ERROR]  # any program ends so


@dataclass(frozen=True)
class RankEnd:
    """What one rank left behind: no `code` while it runs, no `report` where its error file says nothing."""

    rank: int
    code: int | None
    time: float
    report: FailureReport | None
    tail: str


def first_failure(ends: Iterable[RankEnd], out_of_memory: bool) -> FailureReport:
    """The report that speaks for all of `ends`, of which at least one is over.

    An echo (a lost connection) speaks only where nothing else does; among the
    others the earliest. `out_of_memory` says that the kernel killed a process
    of this container for memory. A rank that still writes its error file has
    not spoken yet.
    """
    known = [end for end in ends if end.code is not None or end.report is not None]
    reports = [classify(end, out_of_memory) for end in known]
    return min(reports, key=lambda report: (is_secondary(report), report.time))


def classify(end: RankEnd, out_of_memory: bool) -> FailureReport:
    """One rank's end as a report: its own, or what its exit code and its last lines say."""
    if end.report is not None:
        rank = end.rank if end.report.rank is None else end.report.rank
        return end.report.model_copy(update={"rank": rank, "exit_code": end.code})
    cause, reason, message = _guess(end, out_of_memory)
    return FailureReport(
        cause=cause, reason=reason, message=fit(message), rank=end.rank, exit_code=end.code, time=end.time
    )


def oom_kills(events: Path = MEMORY_EVENTS) -> int:
    """How many processes of this container the kernel has killed for memory; 0 where it does not say."""
    try:
        lines = events.read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


def _guess(end: RankEnd, out_of_memory: bool) -> tuple[Cause, Reason, str]:
    code = end.code if end.code is not None else 0
    killed = _KILLED.get(code)
    if killed is signal.SIGKILL and out_of_memory:
        message = f"rank {end.rank} was killed by the kernel for memory"
        return Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, message
    if killed is not None:
        # Somebody else's doing: an infrastructure fault, which must not spend the user's retries.
        return Cause.COMMUNICATION, Reason.RANK_KILLED, f"rank {end.rank} was killed by signal {killed.value}"
    outcome = OUTCOMES.get(code, _ANYTHING)
    if outcome is _ANYTHING:
        outcome = outcome_of_text(end.tail) or _ANYTHING
    ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
    said = f"; its last lines:\n{end.tail}" if end.tail else ""
    return outcome.cause, outcome.reason, f"rank {end.rank} ended {ended}{said}"
