"""Retry policy for zygotes that ended before they could fork; pure.

A zygote that is killed while it imports leaves no message: the kernel wanted memory, or another process
killed it. That is chance, and a retry may succeed. An import that raises names its error. It will most likely
raise again, but a file system that was away for a moment causes the same traceback, so one more zygote has to
confirm it.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.failures import FailureReport, outcome_of_text, truncate_message
from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_elastic.agent import timing
from footplate_elastic.agent.errors import ZygoteFailed, ZygoteGone

TRIES: Final = 5  # zygotes that ended without a word, one after the other, before the run hears of it
PROOF: Final = 2  # imports that raised, one after the other, before they are believed

_KILLED: Final = (-signal.SIGKILL, -signal.SIGTERM)  # somebody else's doing; any other end is its own


@dataclass
class ZygoteRetryPolicy:
    """The zygotes that ended before they could fork, since the last one that could."""

    _gone: int = 0
    _raised: int = 0
    _for_memory: bool = False

    def record_end(self, end: ZygoteGone | ZygoteFailed, out_of_memory: bool) -> None:
        """Count a zygote's end; `out_of_memory`: the kernel killed a process of this container."""
        for_memory = out_of_memory if isinstance(end, ZygoteGone) else _out_of_memory(end)
        self._for_memory |= for_memory
        if isinstance(end, ZygoteGone) or for_memory:
            self._gone += 1
        else:
            self._raised += 1

    @property
    def should_retry(self) -> bool:
        """True if another zygote should be started."""
        return self._gone < TRIES and self._raised < PROOF

    @property
    def pause(self) -> float:
        """Seconds to wait before the next zygote."""
        ended = self._gone + self._raised
        return backoff_seconds(ended, first=timing.ZYGOTE_PAUSE, longest=timing.LONGEST_ZYGOTE_PAUSE)

    def failure(self, end: ZygoteGone | ZygoteFailed, now: float) -> FailureReport:
        """Return why no zygote follows the last `end`; `now` in seconds since the Unix epoch."""
        if self._raised >= PROOF:
            return FailureReport(
                cause=Cause.IMAGE_OR_CONFIG,
                reason=Reason.CONFIG_REFUSED,
                message=f"the trainer cannot be imported: {str(end)[-900:]}",
                exit_code=int(ExitCode.CONFIG),
                time=now,
            )
        cause, reason = self._cause(end)
        message = f"the process that imports the trainer ended {TRIES} times before it could fork: {end}"
        return FailureReport(cause=cause, reason=reason, message=truncate_message(message), time=now)

    def _cause(self, end: ZygoteGone | ZygoteFailed) -> tuple[Cause, Reason]:
        if self._for_memory:
            return Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY
        if isinstance(end, ZygoteGone) and end.code in _KILLED:
            return Cause.COMMUNICATION, Reason.RANK_KILLED
        return Cause.USER_ERROR, Reason.PYTHON_ERROR


def _out_of_memory(failed: ZygoteFailed) -> bool:
    outcome = outcome_of_text(str(failed))
    return outcome is not None and outcome.cause is Cause.OUT_OF_MEMORY
