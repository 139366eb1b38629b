"""A run's progress, from the ranks' reports and from the telemetry rows that pass by."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from statistics import fmean, median

from footplate_contracts.coordinator_state import Progress
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.reports import GenerationId, RankPhase, RankReport
from footplate_elastic.coordinator import timing


@dataclass
class ProgressTracker:
    """The newest numbers of the newest generation."""

    generation: GenerationId | None = None
    ranks: dict[int, RankReport] = field(default_factory=dict)
    start_step: int | None = None
    begun_with: int = 0  # the newest step that a generation has begun with, kept when the next one is opened
    started: bool = False  # a rank has finished a step in this generation, or has got on in a rollout before
    stepping: bool = False  # a rank has finished a step in this generation
    total_steps: int = 0
    highest: int = 0  # the step that some rank has reached in this generation
    data: str | None = None  # digest of what ranks of any generation read
    answers: str | None = None  # and of what they wrote
    saving: bool = False  # all ranks have waited for a checkpoint for a while
    _saving_since: float | None = None
    _row: StepMetrics | None = None
    _row_generation: GenerationId | None = None
    _seconds: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    _sampling: deque[float] = field(default_factory=lambda: deque(maxlen=32))  # rollout and scoring, by row
    _told: Progress = field(default_factory=Progress)
    _told_at: float = 0.0
    _furthest: dict[int, RankReport] = field(default_factory=dict)  # the newest with progress, by rank

    def begin(self, generation: GenerationId) -> None:
        """Reset for a new generation, whose ranks have not reported yet."""
        self.generation = generation
        self.ranks = {}
        self.start_step = None
        self.started = self.stepping = False
        self._furthest = {}
        self.highest = 0
        self.saving, self._saving_since = False, None

    def report(self, generation: GenerationId | None, reports: list[RankReport]) -> bool:
        """Store one agent's reports, in order; return whether its ranks have just begun to train."""
        if generation is None or generation != self.generation:
            return False
        before = self.started
        for rank in reports:
            self.ranks[rank.rank] = rank
            self.highest = max(self.highest, rank.step)
            self.data, self.answers = rank.data or self.data, rank.answers or self.answers
            if rank.progress is not None:
                self._furthest[rank.rank] = rank
            # A first rollout may last longer than any start.
            self.started |= rank.step_seconds is not None or bool(rank.progress)
            if rank.step_seconds is not None:
                self.stepping = True
                self._seconds.append(rank.step_seconds)
            elif not self.stepping:
                self.start_step = rank.step
                self.begun_with = rank.step or self.begun_with  # 0 is told until it is known
        return self.started != before

    def update_saving(self, now: float) -> None:
        """Update `saving`: whether training has waited for a checkpoint for a noticeable time."""
        waits = bool(self.ranks) and all(rank.phase is RankPhase.CHECKPOINT for rank in self.ranks.values())
        since = self._saving_since = (self._saving_since or now) if waits else None
        self.saving = since is not None and now - since >= timing.SAVING

    def row(self, generation: GenerationId, metrics: StepMetrics) -> None:
        """Store a row of the history; one that an older generation computed is ignored."""
        if self._row_generation is not None and self._row_generation.is_newer_than(generation):
            return
        if (
            self._row is None
            or metrics.step > self._row.step
            or generation.is_newer_than(self._row_generation or generation)
        ):
            self._row, self._row_generation = metrics, generation
            self._sampling.append((metrics.rollout_seconds or 0.0) + (metrics.scoring_seconds or 0.0))

    def view(self) -> Progress:
        """Return the numbers for the operator.

        A step that one rank has finished is trained: all have contributed their part, though the agent of
        another one may be stopped, or silent, and not report it.
        """
        row = self._row
        return Progress(
            step=self._step(),
            total_steps=self.total_steps,
            tokens=row.tokens if row else 0,
            loss=row.loss if row else None,
            step_seconds=self._step_seconds(),
            time=row.time if row else None,
            saving=self.saving,
            phase=(phase := self._sampling_phase()),
            finished=self._finished(phase) if phase else None,
            data=self.data,
            answers=self.answers,
        )

    def is_news(self, now: float) -> bool:
        """Return whether the operator should be notified now of the ranks' step or phase."""
        passed = now - self._told_at
        if passed < timing.PROGRESS:
            return False
        progress, told = self.view(), self._told
        at_the_same = (progress.phase, progress.saving) == (told.phase, told.saving)
        if progress == told or (at_the_same and passed < timing.STEPS):
            return False
        self._told, self._told_at = progress, now
        return True

    def _step_seconds(self) -> float | None:
        """Return a step's duration, adding rollout and scoring, which several steps may share."""
        if not self._seconds:
            return None
        return median(self._seconds) + (fmean(self._sampling) if self._sampling else 0.0)

    def _sampling_phase(self) -> RankPhase | None:
        """Return rollout or scoring while any rank is in it; else None."""
        at = {rank.phase for rank in self.ranks.values()}
        return next((phase for phase in (RankPhase.ROLLOUT, RankPhase.SCORING) if phase in at), None)

    def _finished(self, phase: RankPhase) -> int:
        """Return all ranks' progress in `phase`, including ranks that have finished it and wait."""
        step = max(rank.step for rank in self.ranks.values() if rank.phase is phase)
        told = [rank for rank in self._furthest.values() if (rank.phase, rank.step) == (phase, step)]
        return sum(rank.progress or 0 for rank in told)

    def _step(self) -> int:
        """Return the current step; while ranks load, the last known one, as they report none."""
        if any(rank.step_seconds is not None for rank in self.ranks.values()):
            return self.highest
        return max(self._row.step if self._row else 0, self.start_step or 0)
