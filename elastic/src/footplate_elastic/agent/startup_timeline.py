"""Timeline of a start, from an agent's rank reports, for one log line.

Recovery has a bar in seconds, and whoever misses it wants to know where the time went. The stations are
derived from the reports that ranks send anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from footplate_contracts.reports import GenerationId, RankPhase, RankReport

_STARTING = (RankPhase.STARTING, RankPhase.LOADING)


@dataclass
class StartupTimeline:
    """A generation's start on one agent. Times in seconds since the Unix epoch.

    A station is passed when the last of the `local_world_size` ranks has passed it:
    `grouped` at its first report, `loaded` at the first one after loading,
    `stepping` at its first finished step, or the first token of a rollout before it.
    """

    generation: GenerationId
    local_world_size: int
    sealed: float
    forked: float
    _passed: dict[str, dict[int, float]] = field(
        default_factory=lambda: {"grouped": {}, "loaded": {}, "stepping": {}}
    )
    _told: bool = False

    def report(self, report: RankReport, now: float) -> dict[str, float] | None:
        """Record a report; return all stations once all ranks step, else None."""
        stations = {
            "grouped": True,
            "loaded": report.phase not in _STARTING,
            "stepping": report.step_seconds is not None or bool(report.progress),
        }
        for station, passed in stations.items():
            if passed:
                self._passed[station].setdefault(report.rank, now)
        if self._told or len(self._passed["stepping"]) < self.local_world_size:
            return None
        self._told = True
        times = {name: max(by_rank.values()) for name, by_rank in self._passed.items()}
        times = {"sealed": self.sealed, "forked": self.forked, **times}
        return {name: round(at, 3) for name, at in times.items()}
