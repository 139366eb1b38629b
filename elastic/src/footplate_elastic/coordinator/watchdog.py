"""When ranks stand still that should not. Pure.

A rank may take its time over loading, checkpoints, validation and the records that
it is asked for, and its first step may compile for minutes; a wait for data has ten
times the patience of a step. Within a step it may not: after some times what nearly
all steps take, something hangs. Where everybody stands is worth more than any
message, so their stacks are asked for first, and only then are they restarted.

Only whoever sees all ranks can tell: one that waits in a collective looks the
same whether its peer hangs or reads from a slow disk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from footplate_contracts.directives import HangBounds
from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_elastic.coordinator import timing

DATA_PATIENCE: Final = 10.0
_RECENT: Final = 1000  # steps
_AT_WORK: Final = (RankPhase.COMPUTE, RankPhase.COLLECTIVE)
_ORDER: Final = (RankPhase.DATA, *_AT_WORK)  # within a step


class WatchdogAction(Enum):
    """What to do about a standstill."""

    NOTHING = "nothing"
    DUMP = "dump"  # ask for stacks, once
    RESTART = "restart"


@dataclass
class Watchdog:
    """All ranks of one generation; a hang is no step for max(factor x P99 of steps, floor) seconds."""

    bounds: HangBounds = field(default_factory=lambda: HangBounds(**Hang().model_dump()))
    _size: int = 0
    _ranks: dict[int, RankReport] = field(default_factory=dict)
    _stepping: set[int] = field(default_factory=set)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _moved: float = 0.0
    _asked: float | None = None  # since when stacks are asked for

    def begin(self, size: int, now: float) -> None:
        """A new generation of `size` ranks."""
        self._size = size
        self._ranks, self._moved, self._asked = {}, now, None
        self._stepping = set()

    def report(self, report: RankReport, now: float) -> None:
        """A rank has said something; leaving a phase that may last is a sign of life as well."""
        before = self._ranks.get(report.rank)
        self._ranks[report.rank] = report
        steps = before is None or before.step != report.step
        if report.step_seconds is not None:
            self._stepping.add(report.rank)
            if steps:
                self._seconds.append(report.step_seconds)
        if before is None or steps or (before.phase not in _AT_WORK and before.phase is not report.phase):
            self._moved, self._asked = now, None

    def look(self, now: float) -> WatchdogAction:
        """Call it several times a second."""
        if self.still(now) <= self._patience():
            return WatchdogAction.NOTHING
        if self._asked is None:
            self._asked = now
            return WatchdogAction.DUMP
        return WatchdogAction.RESTART if now - self._asked >= timing.STACKS else WatchdogAction.NOTHING

    def still(self, now: float) -> float:
        """Seconds since any rank moved."""
        return now - self._moved

    def behind(self) -> RankReport | None:
        """The one rank that is not as far as all others; None where no single one is."""
        ordered = sorted(self._ranks.values(), key=_position)
        if len(ordered) > 1 and _position(ordered[0]) < _position(ordered[1]):
            return ordered[0]
        return ordered[0] if len(ordered) == 1 else None

    def _patience(self) -> float:
        phases = {rank.phase for rank in self._ranks.values()}
        if not phases <= set(_ORDER) or len(self._stepping) < max(1, self._size):
            return float("inf")
        limit = max(self.bounds.floor_seconds, self.bounds.factor * self._p99())
        return limit * DATA_PATIENCE if RankPhase.DATA in phases else limit

    def _p99(self) -> float:
        ordered = sorted(self._seconds)
        return ordered[(len(ordered) - 1) * 99 // 100]


def _position(rank: RankReport) -> tuple[int, int]:
    return rank.step, _ORDER.index(rank.phase) if rank.phase in _ORDER else len(_ORDER)
