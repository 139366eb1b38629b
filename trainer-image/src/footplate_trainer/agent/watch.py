"""When ranks stand still that should not. Pure.

A rank may take its time over loading, checkpoints and validation, and its first
step may compile for minutes. Between steps it may not: after three times what
nearly all steps take, something hangs, and whoever looks into it needs to know
where everybody stands.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from footplate_contracts.reports import RankPhase, RankReport

FACTOR: Final = 3.0
_RECENT: Final = 1000  # steps
_AT_WORK: Final = (RankPhase.COMPUTE, RankPhase.COLLECTIVE, RankPhase.DATA)


@dataclass
class HangWatch:
    """The `slots` ranks of one generation; a hang is no step for max(FACTOR x P99 of steps, `floor`)."""

    slots: int
    floor: float
    _ranks: dict[int, RankReport] = field(default_factory=dict)
    _stepping: set[int] = field(default_factory=set)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _moved: float = 0.0
    _told: bool = False

    def report(self, report: RankReport, now: float) -> None:
        """A rank has said something; leaving a phase that may last is a sign of life as well."""
        before = self._ranks.get(report.rank)
        self._ranks[report.rank] = report
        if report.step_seconds is not None:
            self._stepping.add(report.rank)
            self._seconds.append(report.step_seconds)
        if before is None or before.step != report.step or before.phase not in _AT_WORK:
            self._moved, self._told = now, False

    def overdue(self, now: float) -> float | None:
        """Seconds without a step, told once for each standstill; None while all is well."""
        at_work = all(rank.phase in _AT_WORK for rank in self._ranks.values())
        if self._told or not at_work or len(self._stepping) < self.slots:
            return None
        still = now - self._moved
        if still <= self.floor or still <= FACTOR * self._p99():
            return None
        self._told = True
        return still

    def _p99(self) -> float:
        ordered = sorted(self._seconds)
        return ordered[(len(ordered) - 1) * 99 // 100]
