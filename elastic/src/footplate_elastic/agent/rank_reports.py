"""Reports of one agent's ranks, and how they ended; pure; the session holds the lock."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from footplate_contracts.reports import RankReport
from footplate_elastic.agent import timing


@dataclass
class RankReports:
    """The newest report of each rank in the running generation."""

    total_steps: int | None  # the step that the ranks end with
    finished: bool = False  # all ended with success
    suspended: bool = False  # all ended after the checkpoint that was asked for
    ended_at: float = 0.0  # seconds of a monotonic clock
    _latest: dict[int, RankReport] = field(default_factory=dict)
    _starts: dict[int, RankReport] = field(default_factory=dict)  # before the first step, until sent

    def clear(self) -> None:
        """Discard the reports of a generation that is over."""
        self._latest, self._starts = {}, {}
        self.finished = self.suspended = False

    def add_report(self, report: RankReport) -> bool:
        """Store `report`; return whether its rank has finished a step for the first time."""
        before = self._latest.get(report.rank)
        stepped = before is not None and before.step_seconds is not None
        self.total_steps = report.total_steps or self.total_steps
        if report.step_seconds is None and before is not None:
            # Said once a step; the phases after it must not hide that the rank steps.
            report = report.model_copy(update={"step_seconds": before.step_seconds})
        if report.step_seconds is None:
            self._starts[report.rank] = report
        self._latest[report.rank] = report
        return report.step_seconds is not None and not stepped

    def end(self, suspended: bool, now: float) -> None:
        """Record that all ranks ended without a failure."""
        self.finished, self.suspended, self.ended_at = not suspended, suspended, now

    def may_send_end(self, complete: bool, now: float) -> bool:
        """Return whether the ranks' end may be sent: after every row, or after a timeout.

        `complete` means that the coordinator has all rows, or gets them with the same message.
        """
        return complete or now - self.ended_at >= timing.ALL_TOLD

    def list_unsent(self) -> list[RankReport]:
        """Return the reports to send: starts, each sent once, before the latest ones."""
        return [*self._starts.values(), *self._latest.values()]

    def mark_sent(self, reports: Iterable[RankReport]) -> None:
        """Drop the starts among `reports`, now sent; until then a first step must not hide them."""
        known = list(reports)
        self._starts = {rank: start for rank, start in self._starts.items() if start not in known}
