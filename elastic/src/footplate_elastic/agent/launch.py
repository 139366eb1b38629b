"""Wires one agent's parts, runs it to its end and returns an exit code."""

from __future__ import annotations

import gc
import logging
import os
import resource
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from footplate_contracts import logs
from footplate_contracts.diagnosis import Diagnosis, DiagnosisKind
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.failures import FailureReport
from footplate_contracts.logs import log_fields
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Backend, Cause, ExitCode, Reason
from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval, GenerationId, RankReport
from footplate_contracts.samples import LoggedSample
from footplate_elastic.agent import rdma, timing, torch_libraries
from footplate_elastic.agent.config import AgentConfig
from footplate_elastic.agent.devices import NvmlDevices
from footplate_elastic.agent.energy_meter import EnergyMeter
from footplate_elastic.agent.errors import SIGTERM_EXIT, RanksRefused, Terminated
from footplate_elastic.agent.rank_server import RankServer
from footplate_elastic.agent.ranks import RankProcesses
from footplate_elastic.agent.session import Session
from footplate_elastic.agent.session_listener import SessionListener
from footplate_elastic.agent.startup_timeline import StartupTimeline
from footplate_elastic.agent.zygote_client import Zygote
from footplate_elastic.protocol.outline import RunOutline
from footplate_elastic.protocol.unstored_rows import RowKey

_log = logging.getLogger(__name__)

MEMORY: Final = "/dev/shm"


class _FromRanks:
    """Forwarder of the ranks' messages into the session."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.timeline: StartupTimeline | None = None

    def report(self, generation: GenerationId | None, report: RankReport) -> None:
        self._session.report(generation, report)
        timeline = self.timeline
        if timeline is not None and timeline.generation == generation:
            stations = timeline.report(report, time.time())
            if stations is not None:
                _log.info("timeline", extra=log_fields(generation=generation, **stations))

    def metrics(
        self, generation: GenerationId | None, row: StepMetrics, samples: Sequence[LoggedSample]
    ) -> None:
        self._session.outbox.metrics(generation, row, samples)
        self._session.notify()

    def checkpoint(self, generation: GenerationId | None, record: CheckpointRecord) -> None:
        self._session.outbox.checkpoint(generation, record)
        self._session.notify(urgent=True)

    def removal(self, generation: GenerationId | None, removal: CheckpointRemoval) -> None:
        self._session.outbox.removal(generation, removal)
        self._session.notify()

    def grant(self, generation: GenerationId, step: int) -> bool:
        return self._session.grant(generation, step)

    def forked(self, timeline: StartupTimeline) -> None:
        """Store the timeline of a generation whose ranks were just forked."""
        self.timeline = timeline


class _ToRanks(SessionListener):
    """Forwarder of the coordinator's messages to the ranks."""

    def __init__(self, server: RankServer, ranks: RankProcesses, wake: threading.Event) -> None:
        self._server = server
        self._ranks = ranks
        self._wake = wake

    def on_change(self) -> None:
        self._wake.set()

    def on_command(self, command: Command) -> None:
        self._server.send_command(command)

    def on_limits(self, limits: NumberedLimits) -> None:
        self._server.send_limits(limits)

    def on_lease(self, until: float | None) -> None:
        self._server.lease(until)

    def on_row_stored(self, row: RowKey) -> None:
        self._server.send_row_stored(row)

    def on_diagnosis(self, diagnosis: Diagnosis) -> None:
        self._server.send_diagnosis(diagnosis)
        if diagnosis.kind is DiagnosisKind.STACKS:
            self._ranks.dump_stacks()


class Launch:
    """The wired parts of an agent."""

    def __init__(
        self,
        config: AgentConfig,
        entry: str,
        check: Callable[[RunOutline], FailureReport | None] | None,
        zygote: Zygote,
        make_zygote: Callable[[], Zygote],
        wake: threading.Event,
    ) -> None:
        self.config = config
        self.wake = wake
        self._check = check
        self.session = Session(
            config.identity, config.endpoint, config.outline.training.steps, _meter(config)
        )
        logs.set_process_fields(generation=self._generation)
        self._from_ranks = _FromRanks(self.session)
        self.server = RankServer(self._from_ranks)
        self.ranks = RankProcesses(entry, self.server.directory, make_zygote, zygote, config.log_format)
        # Ours and not the ranks': what they copy into it must outlive them.
        self.memory = _memory_folder() if config.outline.checkpoint.memory else None

    def run(self) -> int:
        """Return this process's exit code; it registers first and imports torch after that."""
        self.session.start(_ToRanks(self.server, self.ranks, self.wake))
        failure: FailureReport | None = None
        try:
            failure = self._find_refusal()
            if failure is None:
                code = self._train()
            else:
                _log.error("%s", failure.message)
                code = int(failure.exit_code or ExitCode.USER_ERROR)
        except RanksRefused as refused:
            failure = refused.failure
            _log.error("%s", failure.message)
            code = _code_of(failure)
        except Terminated:
            _log.info("stopped by SIGTERM")
            code = SIGTERM_EXIT
        except Exception:  # noqa: BLE001 - the edge of the process: the others need not wait for us
            _log.exception("the agent failed")
            code = int(ExitCode.USER_ERROR)
        farewell = threading.Thread(target=self._say_goodbye, args=[failure, code])
        farewell.start()
        if code == SIGTERM_EXIT:
            farewell.join(timing.GOODBYE_FIRST)
        self.ranks.close()
        farewell.join()
        self.server.close()
        if self.memory is not None:
            shutil.rmtree(self.memory, ignore_errors=True)
        return code

    def _find_refusal(self) -> FailureReport | None:
        """Return why ranks cannot train on this node; None where they can."""
        locked, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        capabilities = rdma.effective_capabilities(rdma.STATUS.read_text())
        refusal = rdma.find_rdma_obstacle(self.config.rdma, locked, capabilities, rdma.DEVICES, time.time())
        if refusal is None and self._check is not None:
            return self._check(self.config.outline)
        return refusal

    def _train(self) -> int:
        self.session.meter.start()  # imports its library beside ours, and not before we have spoken
        gc.disable()  # see zygote.py: for the time of the imports
        torch_libraries.load()
        from torch.distributed.elastic.agent.server.api import WorkerSpec
        from torch.distributed.elastic.rendezvous import RendezvousClosedError

        from footplate_elastic.agent.elastic import RESTARTS, FootplateAgent
        from footplate_elastic.agent.rendezvous import FootplateRendezvous

        gc.enable()
        run = self.config.outline.run
        spec = WorkerSpec(
            role="trainer",
            local_world_size=self.config.identity.local_world_size,
            rdzv_handler=FootplateRendezvous(self.session, run.uid or run.name),
            entrypoint=self.ranks.entry,
            max_restarts=RESTARTS,
            monitor_interval=0.001,  # the watch itself waits for a change
        )
        agent = FootplateAgent(
            spec,
            self.session,
            self.ranks,
            self.wake,
            self.server.drain,
            self._from_ranks.forked,
            str(self.server.path),
            self.memory,
        )
        # A broken image shows here, and not only once all other members have come.
        disturbed = self.ranks.prepare()
        if disturbed is not None:
            self.session.set_failure(
                disturbed
            )  # goes with the first join, and ends the run where its restart limit is exceeded
        try:
            agent.run()
        except RendezvousClosedError as end:
            _log.info("%s", end)
        return self._exit_code()

    def _exit_code(self) -> int:
        if self.session.view.evicted or not self.session.view.closed:
            return int(ExitCode.STALE)
        suspended = self.session.view.command is Command.CHECKPOINT_AND_EXIT and not self.session.finished
        return int(ExitCode.SUSPENDED if suspended else ExitCode.SUCCESS)

    def _say_goodbye(self, failure: FailureReport | None, code: int) -> None:
        if code in (ExitCode.SUCCESS, ExitCode.SUSPENDED) and not self.session.flush_telemetry(
            timing.HAND_OVER
        ):
            _log.warning("the coordinator did not accept all telemetry in %.0f s", timing.HAND_OVER)
        if failure is not None:
            self.session.send_failure(failure, timing.HEARING)
        self.session.leave()

    def _generation(self) -> GenerationId | None:
        running = self.session.running
        return running.generation if running else None


def _code_of(refused: FailureReport) -> int:
    """Return the exit code for refused ranks; one that blames the node lets a substitute go elsewhere."""
    if refused.reason == Reason.GPU_ERROR:
        return int(ExitCode.GPU_ERROR)
    of_node = refused.cause is Cause.NODE_LOST or refused.reason == Reason.NODE_MISCONFIGURED
    return int(ExitCode.STALE if of_node else ExitCode.CONFIG)


def _meter(config: AgentConfig) -> EnergyMeter:
    """Return a meter of this pod's devices; outside Kubernetes nothing is measured, as nobody stores it."""
    if config.outline.world.backend is not Backend.NCCL or not config.identity.pod_uid:
        return EnergyMeter()
    return EnergyMeter(config.identity.pod_uid, NvmlDevices(config.visible_devices))


def _memory_folder() -> Path:
    """Create a folder in memory, which is removed when this agent ends."""
    return Path(tempfile.mkdtemp(prefix=f"footplate-memory-{os.getpid()}-", dir=MEMORY))
