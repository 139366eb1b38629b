"""Runs that begin and end over a day, and what the API exposes of them and their costs at each moment; pure.

As many are there at any time as are asked for: where one has ended another begins. A third of them is there
all day. What a run shows of itself is written by the API's own code.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from random import Random
from typing import Any, Final

from footplate_api.system import cost_metrics, gauges
from footplate_api.system.cost_metrics import CostAmounts, CostSnapshot, Month, Pod, Pods
from footplate_api.system.gauges import Fingerprint, RunLines, RunSnapshot, ScrapedRuns
from footplate_api.system.status_numbers import RunTotals, StatusNumbers
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Phase, Role

NAMESPACES: Final = 8
PROFILES: Final = ("a100-infiniband", "h100-infiniband", "h100-ethernet", "local-cpu")
WORKERS: Final = (8, 4, 2, 1)  # of the first runs, in turns; pods of one worker and eight devices each
QUEUED, STARTING, RESTARTING = 60, 45, 45  # seconds
BETWEEN_FAULTS: Final = 4 * 3600  # seconds
BETWEEN_CHECKPOINTS: Final = 900
SHOWN_AFTER: Final = 900  # seconds that a run is shown after its end
_MEASURED: Final[Callable[[StepMetrics], tuple[Any, ...]]] = attrgetter(*gauges.MEASURED)
DOLLARS, WATTS, GRAMS = 32.0, 6500.0, 0.1e-3  # of a pod in an hour; of a pod; of a joule


@dataclass(frozen=True)
class Life:
    """A run from its creation to its end, both in seconds since the Unix epoch."""

    name: str
    place: int  # of those that are there at the same time
    created: float
    ended: float
    step_seconds: float

    @property
    def namespace(self) -> str:
        """One of a few teams."""
        return f"team-{self.place % NAMESPACES}"

    @property
    def profile(self) -> str:
        """What it runs on."""
        return PROFILES[self.place // NAMESPACES % len(PROFILES)]

    @property
    def workers(self) -> int:
        """How many pods train."""
        return WORKERS[self.place % len(WORKERS)]

    def shown(self, at: float) -> bool:
        """Whether the API has gauges of it."""
        return self.created <= at < self.ended + SHOWN_AFTER

    def phase(self, at: float) -> Phase:
        """What it does."""
        age = at - self.created
        if at >= self.ended:
            return Phase.FAILED if self.place % 5 == 0 else Phase.SUCCEEDED
        if age < QUEUED:
            return Phase.QUEUED
        if age < QUEUED + STARTING:
            return Phase.STARTING
        if age > BETWEEN_FAULTS and age % BETWEEN_FAULTS < RESTARTING:
            return Phase.RESTARTING
        return Phase.CHECKPOINTING if age % BETWEEN_CHECKPOINTS < 15 else Phase.RUNNING

    def restarts(self, at: float) -> int:
        """Interruptions until then."""
        return int(max(0.0, min(at, self.ended) - self.created) // BETWEEN_FAULTS)

    def held(self, at: float) -> float:
        """Seconds for which it had its pods until then."""
        return max(0.0, min(at, self.ended) - self.created - QUEUED)

    def trained(self, at: float) -> float:
        """Seconds of these in which it trained."""
        return max(0.0, self.held(at) - STARTING - RESTARTING * self.restarts(at))

    def pods(self, at: float) -> list[Pod]:
        """Those that it has; a fault takes the first worker away, and another one stands in."""
        if self.phase(at) in (Phase.QUEUED, Phase.SUCCEEDED, Phase.FAILED):
            return []
        workers = [
            f"{self.name}-w{number}-{self.restarts(at) if number == 0 else 0}"
            for number in range(self.workers)
        ]
        members = [(f"{self.name}-coordinator", Role.COORDINATOR), *((pod, Role.WORKER) for pod in workers)]
        return [Pod(self.namespace, self.name, pod, role.value) for pod, role in members]


def lives(places: int, begin: float, seconds: float, chance: Random) -> list[Life]:
    """All runs of the time from `begin` on for so many `seconds`."""
    found: list[Life] = []
    for place in range(places):
        created = begin - chance.uniform(0.05, 0.3) * seconds
        while created < begin + seconds:
            length = 2 * seconds if place % 3 == 0 else chance.uniform(0.1, 0.6) * seconds
            name = f"llama-{place:03}-{len(found):04}"
            found.append(Life(name, place, created, created + length, chance.uniform(8, 60)))
            created += length
    return found


class Exposition:
    """What the API shows of runs, moment after moment."""

    def __init__(self, lives: Sequence[Life], begin: float, chance: Random) -> None:
        self._lives, self._begin, self._chance = lives, begin, chance
        self._spending = CostSnapshot()
        self._written: dict[str, RunLines] = {}  # by run, as the API keeps them until something changes

    def at(self, at: float) -> tuple[str, list[Pod]]:
        """The text, and the pods that there are."""
        shown = [life for life in self._lives if life.shown(at)]
        pods = [pod for life in shown for pod in life.pods(at)]
        phases: dict[str | None, int] = {}
        for life in shown:
            phase = life.phase(at)
            phases[phase] = phases.get(phase, 0) + 1
        self._spending = replace(self._spending, pods=Pods(pods)).with_month(self._month(at))
        runs = gauges.exposition(ScrapedRuns([self._run(life, at) for life in shown], phases))
        return runs + cost_metrics.exposition(self._spending), pods

    def _run(self, life: Life, at: float) -> RunLines:
        run = _gauged(life, at, self._chance)
        known = self._written.get(life.name)
        if known is None or known.fingerprint != run.fingerprint:
            self._written[life.name] = known = gauges.format_run(run, known)
        return known

    def _month(self, at: float) -> Month:
        held: dict[tuple[str, str], float] = {}
        for life in self._lives:
            group = life.namespace, life.profile
            held[group] = held.get(group, 0.0) + life.workers * life.held(at)
        idle = {profile: CostAmounts(DOLLARS * (at - self._begin) / 3600) for profile in PROFILES}
        return Month(
            int(self._begin), int(at), {group: _totals(seconds) for group, seconds in held.items()}, idle
        )


def _totals(pod_seconds: float) -> CostAmounts:
    joules = WATTS * pod_seconds
    return CostAmounts(DOLLARS * pod_seconds / 3600, joules, GRAMS * joules)


def _gauged(life: Life, at: float, chance: Random) -> RunSnapshot:
    """As the mirror and the newest row of its history have it."""
    phase, trained, restarts = life.phase(at), life.trained(at), life.restarts(at)
    step = int(trained / life.step_seconds)
    length = life.ended - life.created
    spent = _totals(life.workers * life.held(at))
    assert spent.joules is not None
    told = StatusNumbers(
        progress_ratio=min(1.0, trained / length),
        estimated_end=None if phase.is_terminal else life.ended + chance.uniform(-60, 60),
        last_checkpoint=at - at % BETWEEN_CHECKPOINTS if trained else None,
        checkpointing=15.0 * (trained // BETWEEN_CHECKPOINTS),
        goodput_ratio=trained / max(1.0, min(at, life.ended) - life.created),
        restarts=restarts,
        spent=RunTotals(spent.dollars, (0.7 * spent.joules, 0.0, 0.3 * spent.joules), spent.grams),
    )
    # A status is written when the phase changes, and every half a minute at least.
    fingerprint = Fingerprint(int(at // 30) * 16 + list(Phase).index(phase), (restarts, step), (0, 0))
    row = _MEASURED(_row(life, step, at, chance)) if step else None
    return RunSnapshot(fingerprint, life.namespace, life.name, phase, step, None, told, row)


def _row(life: Life, step: int, at: float, chance: Random) -> StepMetrics:
    seconds = life.step_seconds * chance.uniform(0.97, 1.05)
    parts = dict(zip(_parts(), (0.01, 0.8, 0.1, 0.05, 0.02, 0.02), strict=True))
    return StepMetrics(
        step=step,
        time=at - chance.uniform(0, 2),
        loss=1.8 + 8 * math.exp(-step / 400) + chance.gauss(0, 0.03),
        gradient_norm=chance.uniform(0.2, 1.4),
        learning_rate=3e-4 * math.exp(-step / 10_000),
        tokens=step * 4_194_304,
        tokens_per_second=4_194_304 / seconds,
        sample_digest="0123456789abcdef",
        step_seconds=seconds,
        mfu=chance.uniform(0.38, 0.42),
        mfu_causal=chance.uniform(0.34, 0.38),
        memory_bytes=int(chance.uniform(6.8e10, 7e10)),
        checkpoints_left_out=0,
        **{name: share * seconds * chance.uniform(0.9, 1.1) for name, share in parts.items()},
    )


def _parts() -> Iterator[str]:
    for part in ("data", "compute", "communication", "optimizer", "checkpoint", "validation"):
        yield f"{part}_seconds"
