"""Usage of runs' pods: recorded while a run lives, counted anew when earlier prices have changed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import partial

from footplate_contracts.energy import PodEnergy
from footplate_ledger.conversion import parse_time
from footplate_ledger.intervals import unix_second
from footplate_ledger.prices import FOREVER
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.reconcile import SETTLED
from footplate_operator.trainingrun import usage_inputs
from footplate_operator.trainingrun.observation import PodView
from footplate_operator.trainingrun.revision import AnyRevision, find_revision
from footplate_operator.trainingrun.run import TRAINING_RUN, Run
from footplate_operator.trainingrun.run_cache import RunCache
from footplate_operator.usage.owner_usage import OwnerUsage
from footplate_operator.usage.recorder import UsageRecorder, owner_of


class RunUsage:
    """Usage of runs in the records and at the prices of `recorder`."""

    def __init__(self, recorder: UsageRecorder) -> None:
        self._recorder = recorder
        self._recounts: dict[Key, int] = {}  # amounts from which second on may be others since

    def recount(self, since: int, keys: Iterable[Key]) -> Iterable[Key]:
        """Mark runs for a recount, as costs from the second `since` on may be wrong; return these runs."""
        self._recounts = {key: min(since, self._recounts.get(key, since)) for key in keys}
        return list(self._recounts)

    async def note(
        self,
        run: Run,
        cache: RunCache,
        pods: Sequence[PodView],
        revisions: Sequence[AnyRevision],
        energy: Iterable[PodEnergy],
        now: datetime,
    ) -> OwnerUsage | None:
        """Record and return a run's usage; None if unknown, or if the run ended long ago and its cost stands.

        Raises ClusterError when records of a run whose cost is to be corrected cannot be read.
        """
        cache.counted_since(run)
        since = self._recounts.pop(run.key, FOREVER)
        settled = (
            run.ended is not None and now - run.ended > SETTLED and run.uid not in self._recorder.tracker.kept
        )
        if settled and not self._is_corrected(run, since):
            return None
        attempt = partial(usage_inputs.attempt_at, run.status.attempts)
        terms = usage_inputs.terms(find_revision(run, revisions) or cache.revision)
        seen = [pod.sighting for pod in pods]
        cache.usage = await self._recorder.record(
            owner_of(TRAINING_RUN, run), seen, terms, attempt, usage_inputs.energy_by_pod(energy)
        )
        if settled and cache.usage is None:
            self._recounts[run.key] = since
            raise ClusterError("cannot read the usage of a run whose cost needs correction")
        return cache.usage

    def _is_corrected(self, run: Run, since: int) -> bool:
        """Return whether an ended run's amounts have changed, from the second `since` on or by the book."""
        counted = run.status.cost.until if run.status.cost is not None else None
        if run.ended is None or counted is None:
            return False
        until = unix_second(run.ended)
        book = partial(self._recorder.tariffs.has_correction, run.spec.compute.profile)
        return since < until or book(parse_time(counted), until)
