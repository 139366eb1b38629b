"""torch's elastic agent with ranks from the zygote and their end decided by the coordinator.

The subclass stays thin: torch's loop restarts on failure and on membership
change, and this overrides what starts, stops and watches processes. Ranks that
have ended well count as running until the coordinator closes the run, since
another member may still fail and all have to start again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from torch.distributed.elastic.agent.server.api import RunResult, Worker, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs

from footplate_contracts.names import Cause, Env, ExitCode
from footplate_contracts.reports import GenerationId
from footplate_elastic.agent import timing
from footplate_elastic.agent.errors import RanksRefused, Terminated
from footplate_elastic.agent.ranks import RankProcesses
from footplate_elastic.agent.session import Session
from footplate_elastic.agent.startup_timeline import StartupTimeline

_log = logging.getLogger(__name__)

# Failures of others spend a member's restarts too; the operator enforces the real limits.
RESTARTS: Final = 2**31 - 1


class FootplateAgent(LocalElasticAgent):
    """Elastic agent of torch; the session's and the zygote's threads set `wake` on a change."""

    def __init__(
        self,
        spec: WorkerSpec,
        session: Session,
        ranks: RankProcesses,
        wake: threading.Event,
        drain: Callable[[float], None],
        forked: Callable[[StartupTimeline], None],
        socket_path: str,
        memory: Path | None,
    ) -> None:
        super().__init__(spec, DefaultLogsSpecs(), exit_barrier_timeout=0)
        self._session = session
        self._ranks = ranks
        self._wake = wake
        self._drain = drain
        self._forked = forked
        self._socket_path = socket_path
        self._memory = memory
        self._told = False
        self._asked_to_save = False

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        self._told = False
        running = self._session.running
        assert running is not None
        sealed = time.time()
        environments = {
            worker.local_rank: self._environment(worker, worker_group, running.generation)
            for worker in worker_group.workers
        }
        pids = self._ranks.start(environments)
        if not pids:
            return {}  # the next look at the ranks tells why
        self._forked(StartupTimeline(running.generation, len(pids), sealed=sealed, forked=time.time()))
        ranks = [worker.global_rank for worker in worker_group.workers]
        _log.info("generation %s runs ranks %s", running.generation, ranks)
        return pids

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        self._ranks.stop()

    def _shutdown(self, death_sig: signal.Signals = signal.SIGTERM, timeout: int = 30) -> None:
        """Do nothing: the owner of this agent reports its end and then stops the ranks."""

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        self._wake.wait(timing.LOOK)
        self._wake.clear()
        self._look_whether_to_leave()
        status = self._ranks.poll()
        if status.failure is not None:
            _log.warning("%s: %s", status.failure.cause, status.failure.message)
            if status.failure.cause in (Cause.IMAGE_OR_CONFIG, Cause.NODE_LOST):
                raise RanksRefused(status.failure)
            self._session.set_failure(status.failure)
            return RunResult(state=WorkerState.FAILED)
        if status.codes is not None and not self._told:
            self._drain(timing.DRAIN)
            self._session.report_end(suspended=int(ExitCode.SUSPENDED) in status.codes)
            self._told = True
        if status.codes is not None and self._session.view.closed:
            values = {worker.global_rank: None for worker in worker_group.workers}
            return RunResult(state=WorkerState.SUCCEEDED, return_values=values)
        return RunResult(state=WorkerState.HEALTHY)

    def _look_whether_to_leave(self) -> None:
        """Request a checkpoint after SIGTERM; raises Terminated once all ranks have saved."""
        if not self._session.leaving:
            return
        if self._session.may_leave:
            raise Terminated
        if not self._asked_to_save:
            _log.info("received SIGTERM: all ranks save first")
            self._session.notify(urgent=True)
            self._asked_to_save = True

    def _exit_barrier(self) -> None:
        """Do nothing: the coordinator has closed the run, so all others are done as well."""

    def _environment(self, worker: Worker, group: WorkerGroup, generation: GenerationId) -> Mapping[str, str]:
        spec, limits = group.spec, self._session.view.limits
        return {
            "RANK": str(worker.global_rank),
            "LOCAL_RANK": str(worker.local_rank),
            "WORLD_SIZE": str(worker.world_size),
            "LOCAL_WORLD_SIZE": str(spec.local_world_size),
            "GROUP_RANK": str(group.group_rank),
            "GROUP_WORLD_SIZE": str(group.group_world_size),
            "ROLE_NAME": spec.role,
            "ROLE_RANK": str(worker.role_rank),
            "ROLE_WORLD_SIZE": str(worker.role_world_size),
            "MASTER_ADDR": str(group.master_addr),
            "MASTER_PORT": str(group.master_port),
            # torch puts it in front of the store's keys, so it must be the same on all members: the
            # number of the generation is, the restarts of a member are not.
            "TORCHELASTIC_RESTART_COUNT": str(generation.number),
            "TORCHELASTIC_MAX_RESTARTS": str(spec.max_restarts),
            "TORCHELASTIC_RUN_ID": spec.rdzv_handler.get_run_id(),
            "TORCHELASTIC_USE_AGENT_STORE": str(True),
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": os.environ.get("TORCH_NCCL_ASYNC_ERROR_HANDLING", "1"),
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"),
            str(Env.RANK_LINK): self._socket_path,
            **({str(Env.LIMITS): limits.model_dump_json(by_alias=True)} if limits else {}),
            **({str(Env.MEMORY_FOLDER): str(self._memory)} if self._memory else {}),
            str(Env.GENERATION): str(generation),
        }
