"""Hooks of TrainingRuns: cost and throttling of the status, usage of pods, trimmed Nodes, gauges."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime

from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.controller_hooks import ControllerHooks
from footplate_operator.runtime.kinds import NODE, Json, Kind
from footplate_operator.runtime.objects import Child
from footplate_operator.runtime.throttle import StatusChange
from footplate_operator.services import Services
from footplate_operator.trainingrun.metrics import RunMetrics
from footplate_operator.trainingrun.node import trim_node
from footplate_operator.trainingrun.observation import view_pod
from footplate_operator.trainingrun.run import TRAINING_RUN, Run
from footplate_operator.trainingrun.run_cache import RunCache
from footplate_operator.trainingrun.status.cost import cost, growth
from footplate_operator.trainingrun.status.report import compare, fit
from footplate_operator.trainingrun.views import view_of


class TrainingRunHooks(ControllerHooks[Run]):
    """Hooks of TrainingRuns; `caches` are those of the controller, by uid of the run."""

    def __init__(self, services: Services, caches: Mapping[str, RunCache], metrics: RunMetrics) -> None:
        self._usage = services.usage
        self._api = services.api
        self._now = services.clock
        self._caches = caches
        self._metrics = metrics

    def compare(self, before: TrainingRunStatus, after: TrainingRunStatus) -> StatusChange:
        return compare(before, after)

    def complete(self, run: Run, after: TrainingRunStatus) -> TrainingRunStatus:
        cache, tariff = self._caches.get(run.uid), self._usage.tariffs.get_listed_tariff()
        if cache is None or tariff is None or cache.usage is None or not cache.usage.pods:
            return after
        passed = growth(cache.counted_since(run), after.wall_seconds)
        spent = cost(run.status.cost, cache.usage, tariff, passed, self._now(), cache.accounts)
        return fit(after.model_copy(update={"cost": spent}))

    def last_progress(self, run: Run) -> datetime | None:
        progress = run.status.progress
        return parse_time(progress.last_updated_time) if progress and progress.last_updated_time else None

    def observe_event(self, kind: Kind, body: Json, gone: bool) -> None:
        self._usage.observe_event(TRAINING_RUN, kind, body, gone, lambda pod: view_pod(pod).sighting)

    def view(self, kind: Kind, body: Json) -> Child:
        return view_of(kind, body, self._api.url)

    def trim(self, kind: Kind, body: Json) -> Json:
        return trim_node(body) if kind == NODE else body

    def log_context(self, run: Run) -> Mapping[str, object]:
        return {"generation": run.status.world.generation if run.status.world else ""}

    def update_gauges(self, count: Callable[[str], Mapping[str, int]]) -> None:
        self._metrics.count_runs(count("phase"))
