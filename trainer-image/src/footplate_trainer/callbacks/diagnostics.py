"""Records a trace or a memory profile of a running rank on request.

The request arrives through coordinator and agent at any time; each rank starts to record at its own next step
and never waits for the others. The files are stored next to the checkpoints. A failure to record must not end
a run.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from footplate_contracts.diagnosis import Diagnosis, DiagnosisKind
from footplate_contracts.reports import RankPhase
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.parallel import device
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.storage import open_storage

_log = logging.getLogger(__name__)

FOLDER = "diagnostics"


class Diagnostics(Callback):
    """Recorder of one rank.

    `handle_request` may be called from any thread, the rest from the training loop.
    """

    def __init__(self, uri: str, agent: AgentClient, world: DistributedContext, reporter: Reporter) -> None:
        """Subscribe to requests from `agent`; `uri` is the run's checkpoint folder."""
        self._storage = open_storage(uri)
        self._world = world
        self._reporter = reporter
        self._request: Diagnosis | None = None
        self._recording: tuple[Diagnosis, int, Any] | None = None
        agent.listen(self.handle_request)

    def handle_request(self, diagnosis: Diagnosis) -> None:
        """Accept a request. The agent records stacks; only this process can record NCCL's activity."""
        if diagnosis.kind is not DiagnosisKind.STACKS:
            self._request = diagnosis
        elif self._world.device.type == "cuda":
            self._keep(f"nccl-{diagnosis.number}", "pickle", device.dump_flight_recorder)

    def before_data(self, step: int) -> None:
        """Begin to record if a request is pending."""
        request, self._request = self._request, None
        if request is not None and self._recording is None:
            self._reporter.report_phase(RankPhase.DIAGNOSIS)  # it may take many seconds
            self._recording = request, step, self._start(request.kind)
            self._reporter.report_phase(RankPhase.DATA)

    def after_step(self, step: TrainedStep) -> None:
        """Write the recording if this was the last step of the request."""
        if self._recording is None:
            return
        request, first, profiler = self._recording
        if step.number < first + request.steps - 1:
            return
        self._recording = None
        self._reporter.report_phase(RankPhase.DIAGNOSIS)
        name = f"{request.kind}-{request.number}-steps-{first}-{step.number}"
        if profiler is None:
            self._keep(name, "pickle", device.dump_memory_history)
        else:
            profiler.stop()
            self._keep(name, "json.gz", lambda path: profiler.export_chrome_trace(str(path)))

    def _start(self, kind: DiagnosisKind) -> Any:
        """Start a profiler and return it; None where the device's allocator records instead."""
        on_device = self._world.device.type == "cuda"
        if kind is DiagnosisKind.MEMORY and on_device:
            device.record_memory_history()
            return None
        activities = [torch.profiler.ProfilerActivity.CPU]
        if on_device:
            activities.append(torch.profiler.ProfilerActivity.CUDA)
        memory = kind is DiagnosisKind.MEMORY
        profiler = torch.profiler.profile(
            activities=activities, record_shapes=True, profile_memory=memory, with_stack=memory
        )
        profiler.start()
        return profiler

    def _keep(self, name: str, suffix: str, write: Callable[[Path], object]) -> None:
        """Let `write` fill a temporary file, and upload it next to the checkpoints."""
        final = f"{FOLDER}/{name}-rank-{self._world.rank}.{suffix}"
        try:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / f"record.{suffix}"
                write(path)
                self._storage.upload(path, final)
        except OSError as error:
            _log.warning("cannot write %s: %s", final, error)
        else:
            _log.info("wrote %s", final)
