"""The API: what came of telemetry, and its mirror of runs, as it is while `world.api_works`.

The mirror misses what happens while it does not.
When it works again it lists the runs that there are, so one that is gone by then stays as it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from footplate_contracts.recorded_run import RecordedRun
from footplate_contracts.reports import GenerationId, TelemetryBatch
from footplate_operator.errors import ApiUnreachable
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.history_client import ANSWER_SECONDS, FinalStatus, HistoryClient
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.simulation.network import Process

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

_WAY: Final = 0.01  # seconds, there and back


class History:
    """What the API has of runs, by their uid."""

    def __init__(self, world: Simulation) -> None:
        self.runs: dict[str, RecordedRun] = {}
        self.samples: dict[int, list[str]] = {}  # step -> what the answers say that came with its row
        self.asked = 0  # requests of operators
        self._world = world
        self._behind = False
        world.objects.watches.append(self._watched)

    def phase(self, uid: str) -> str | None:
        """The phase that it has of a run."""
        self._catch_up()
        return self.runs[uid].phase

    def store(self, batch: TelemetryBatch, stored: dict[int, GenerationId]) -> None:
        """Take rows over into `stored`; of two generations, the newer one's stays, with its samples."""
        for row in batch.rows:
            step, known = row.metrics.step, stored.get(row.metrics.step)
            if known is None or not known.is_newer_than(row.generation):
                stored[step] = row.generation
                self.samples[step] = [sample.answer_text for sample in row.samples or ()]

    def check_samples(self, stored: Mapping[int, GenerationId]) -> None:
        """That samples are of whoever trained their steps."""
        told = {step: samples for step, samples in self.samples.items() if samples}
        assert told == {step: [str(stored[step])] for step in told}, "samples of weights that are no more"

    def answer(self, final: FinalStatus) -> str:
        """What of a final status is missing here."""
        self._catch_up()
        known = self.runs.get(final.uid)
        return final.missing(known) if known else "it does not have the run"

    def _watched(self, event: str, body: Json) -> None:
        if body["kind"] != TRAINING_RUN.name:
            return
        if not self._world.api_works:
            self._behind = True
            return
        self._catch_up()
        self._note(body)

    def _catch_up(self) -> None:
        if self._behind and self._world.api_works:
            self._behind = False
            for body in self._world.objects.all(TRAINING_RUN):
                self._note(body)

    def _note(self, body: Json) -> None:
        metadata, status = body["metadata"], body.get("status", {})
        version = int(metadata["resourceVersion"])
        self.runs[metadata["uid"]] = RecordedRun(
            uid=metadata["uid"], phase=status.get("phase"), resource_version=version
        )


class SimulatedHistory(HistoryClient):
    """An operator's way to it."""

    def __init__(self, world: Simulation, operator: Process) -> None:
        self._world = world
        self._operator = operator

    async def missing(self, final: FinalStatus) -> str:
        history = self._world.history
        history.asked += 1
        await self._operator.sleep(_WAY if self._world.api_works else ANSWER_SECONDS)
        if not self._world.api_works:
            raise ApiUnreachable("no answer in time")
        return history.answer(final)
