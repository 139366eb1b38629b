"""Detection of ranks that stand still; pure.

Within a step a rank may not take its time: after a multiple of what nearly all steps take, something hangs; a
wait for data has ten times that limit. Around its steps it may, over loading, checkpoints, validation and
requested recordings, and its first step may compile for minutes; so each of these has a bound of its own. A
rank that enters another of them shows a sign of life; a save in the background does not. Rollout and scoring
may take hours and report their progress: each token or sample more is a sign of life, and their bound is for
the time without any. Stacks are worth more than any message, so they are requested first, and only then are
the ranks restarted.

Only a process that sees all ranks can decide: a rank that waits in a collective looks the same whether its
peer hangs or reads from a slow disk.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from functools import cache
from typing import Final

from pydantic.alias_generators import to_camel

from footplate_contracts.directives import HangTimeouts
from footplate_contracts.reports import RankPhase, RankReport
from footplate_contracts.v1alpha1.resilience import Hang
from footplate_elastic.coordinator import timing

DATA_PATIENCE: Final = 10.0
_RECENT: Final = 1000  # steps
_AT_WORK: Final = (RankPhase.COMPUTE, RankPhase.COLLECTIVE)
# What ranks do after they have finished a step, or started, in that order.
_ORDER: Final = (
    RankPhase.STARTING,
    RankPhase.LOADING,
    RankPhase.DIAGNOSIS,
    RankPhase.VALIDATION,
    RankPhase.CHECKPOINT,
    RankPhase.DATA,
    RankPhase.ROLLOUT,
    RankPhase.SCORING,
    *_AT_WORK,
    RankPhase.FINISHED,
)
_BOUNDS: Final = {
    RankPhase.STARTING: "loading_seconds",
    RankPhase.LOADING: "loading_seconds",
    RankPhase.DIAGNOSIS: "checkpoint_seconds",
    RankPhase.VALIDATION: "validation_seconds",
    RankPhase.ROLLOUT: "rollout_seconds",
    RankPhase.SCORING: "scoring_seconds",
    RankPhase.CHECKPOINT: "checkpoint_seconds",
    RankPhase.FINISHED: "checkpoint_seconds",
}


class WatchdogAction(Enum):
    """Action on a standstill."""

    NOTHING = "nothing"
    DUMP = "dump"  # ask for stacks, once
    RESTART = "restart"


@dataclass(frozen=True)
class StallLimit:
    """The longest allowed standstill in seconds, and the spec field that sets it."""

    seconds: float
    field: str


@dataclass
class Watchdog:
    """Hang detection over all ranks of one generation."""

    bounds: HangTimeouts = field(default_factory=lambda: HangTimeouts(**Hang().model_dump()))
    _size: int = 0
    _ranks: dict[int, RankReport] = field(default_factory=dict)
    _stepping: set[int] = field(default_factory=set)
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_RECENT))
    _moved: float = 0.0
    _asked: float | None = None  # since when stacks are asked for

    def begin(self, size: int, now: float) -> None:
        """Reset for a new generation of `size` ranks."""
        self._size = size
        self._ranks, self._moved, self._asked = {}, now, None
        self._stepping = set()

    def report(self, report: RankReport, now: float) -> None:
        """Record a rank's report; a new step, a left phase or more progress is a sign of life."""
        before = self._ranks.get(report.rank)
        self._ranks[report.rank] = report
        steps = before is None or before.step != report.step
        if report.step_seconds is not None:
            self._stepping.add(report.rank)
            if steps:
                self._seconds.append(report.step_seconds)
        if before is None or steps or _gets_on(before, report):
            self._moved, self._asked = now, None

    def check(self, now: float) -> WatchdogAction:
        """Return the action that is due; call it several times a second."""
        if self.stalled_seconds(now) <= self.get_limit().seconds:
            return WatchdogAction.NOTHING
        if self._asked is None:
            self._asked = now
            return WatchdogAction.DUMP
        return WatchdogAction.RESTART if now - self._asked >= timing.STACKS else WatchdogAction.NOTHING

    def stalled_seconds(self, now: float) -> float:
        """Return the seconds since any rank moved."""
        return now - self._moved

    def get_limit(self) -> StallLimit:
        """Return the longest limit of any rank: the others wait for it."""
        places = {(rank.phase, rank.rank in self._stepping) for rank in self._ranks.values()}
        if len(self._ranks) < self._size:
            places.add((RankPhase.STARTING, False))
        found = (self._timeout_at(*place) for place in places)
        return max(found, key=lambda timeout: (timeout.seconds, timeout.field))

    def find_straggler(self) -> RankReport | None:
        """Return the one rank that is not as far as all others; None where no single one is."""
        ordered = sorted([*self._ranks.values(), *self._unheard()], key=_position)
        if len(ordered) > 1 and _position(ordered[0]) < _position(ordered[1]):
            return ordered[0]
        return ordered[0] if len(ordered) == 1 else None

    def _unheard(self) -> list[RankReport]:
        """Return a STARTING report for each rank that has not reported yet."""
        step = min((rank.step for rank in self._ranks.values()), default=0)
        silent = (rank for rank in range(self._size) if rank not in self._ranks)
        return [RankReport(rank=rank, local_rank=0, step=step, phase=RankPhase.STARTING) for rank in silent]

    def _timeout_at(self, phase: RankPhase, has_stepped: bool) -> StallLimit:
        bound = _BOUNDS.get(phase)
        if bound is not None:
            return self._of(bound)
        if not has_stepped and phase is not RankPhase.COLLECTIVE:  # nobody compiles while waiting for others
            return self._of("first_step_seconds")
        floor, factor = self.bounds.floor_seconds, self.bounds.factor * self._p99()
        times = DATA_PATIENCE if phase is RankPhase.DATA else 1.0
        return StallLimit(times * max(floor, factor), _path("floor_seconds" if floor >= factor else "factor"))

    def _of(self, field: str) -> StallLimit:
        return StallLimit(self.bounds.seconds(field), _path(field))

    def _p99(self) -> float:
        ordered = sorted(self._seconds)
        return ordered[(len(ordered) - 1) * 99 // 100] if ordered else 0.0


def _gets_on(before: RankReport, report: RankReport) -> bool:
    """Return whether the rank has left a phase of its own bound, or reports new progress."""
    left = before.phase is not report.phase and before.phase not in _AT_WORK
    return left or (report.progress is not None and _place(before) != _place(report))


def _place(rank: RankReport) -> tuple[RankPhase, int | None]:
    return rank.phase, rank.progress


@cache
def _path(field: str) -> str:
    return f"resilience.hang.{to_camel(field)}"


def _position(rank: RankReport) -> tuple[int, int]:
    return rank.step, _ORDER.index(rank.phase)
