"""A rank that trains next to nothing, for tests of everything around it.

Each step is one all-reduce over gloo; the state is a step count that rank 0
commits, after a grant, into a file. What a test wants to go wrong is read from
a control directory: `crash-<step>` (raise once), `crash-always` (raise after
the first step, each time), `crash-gpu` (raise what torch does where a GPU is
broken), `hold-<step>` (wait after that step while the file is there; rank 0 makes
`unstored-<rows>` meanwhile).
"""

from __future__ import annotations

import os
import time
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

from footplate_contracts.directives import Command
from footplate_contracts.failures import OUTCOMES, FailureReport, outcome_of_text, truncate_message
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import ExitCode
from footplate_contracts.reports import CheckpointRecord, RankPhase, RankReport
from footplate_contracts.samples import LoggedSample
from footplate_elastic.protocol import error_file
from footplate_elastic.protocol.agent_client import AgentClient, open_client


def run() -> int:
    """Exit code of the rank; a failure leaves the structured error file."""
    try:
        return _train(open_client(os.environ))
    except Exception as error:  # noqa: BLE001 - the edge of the process
        traceback.print_exc()
        message = f"{type(error).__name__}: {error}"
        outcome = outcome_of_text(message) or OUTCOMES[ExitCode.USER_ERROR]
        failure = FailureReport(
            cause=outcome.cause, reason=outcome.reason, message=truncate_message(message), time=time.time()
        )
        Path(os.environ[error_file.VARIABLE]).write_text(error_file.content(failure, ""))
        return int(ExitCode.USER_ERROR)


def _train(agent: AgentClient) -> int:
    folder = Path(os.environ["TEST_DIRECTORY"])
    steps, step_seconds = int(os.environ["TEST_STEPS"]), float(os.environ["TEST_STEP_SECONDS"])
    rank, local_rank = int(os.environ["RANK"]), int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo")
    torch.set_num_threads(1)
    step = int((folder / "checkpoint").read_text()) if (folder / "checkpoint").exists() else 0
    agent.report(RankReport(rank=rank, local_rank=local_rank, step=step, phase=RankPhase.LOADING))
    while step < steps:
        began = time.monotonic()
        _misbehave(folder, rank, step, agent)
        total = torch.tensor([1.0, float(agent.command() is Command.CHECKPOINT_AND_EXIT)])
        dist.all_reduce(total)
        assert total[0].item() == dist.get_world_size()
        step += 1
        time.sleep(step_seconds)
        seconds = time.monotonic() - began
        agent.report(
            RankReport(
                rank=rank, local_rank=local_rank, step=step, phase=RankPhase.COMPUTE, step_seconds=seconds
            )
        )
        if rank == 0:
            agent.metrics(_row(step), [shown(step)])
        suspended = total[1].item() > 0
        if step % 5 == 0 or suspended or step == steps:
            _commit(agent, folder, rank, step)
        if suspended:
            return _end(agent, ExitCode.SUSPENDED)
    return _end(agent, ExitCode.SUCCESS)


def _end(agent: AgentClient, code: ExitCode) -> int:
    dist.barrier()
    agent.close()
    dist.destroy_process_group()
    return int(code)


def _commit(agent: AgentClient, folder: Path, rank: int, step: int) -> None:
    dist.barrier()
    if rank == 0 and agent.grant(step):
        new = folder / f"checkpoint.{os.getpid()}"
        new.write_text(str(step))
        new.rename(folder / "checkpoint")
        agent.checkpoint(CheckpointRecord(step=step, uri=str(folder / "checkpoint"), time=time.time()))


def _misbehave(folder: Path, rank: int, step: int, agent: AgentClient) -> None:
    if (folder / "crash-always").exists() and rank == 1:
        raise RuntimeError("this rank always crashes")
    if (folder / "crash-gpu").exists() and rank == 1:
        raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
    if rank == 1 and (folder / f"crash-{step}").exists():
        (folder / f"crash-{step}").unlink()
        raise ZeroDivisionError(f"told to crash before step {step + 1}")
    while (folder / f"hold-{step}").exists():
        if rank == 0:
            (folder / f"unstored-{len(agent.get_unstored_rows())}").touch()
        time.sleep(0.01)


def shown(step: int) -> LoggedSample:
    """What a step shows."""
    return LoggedSample(prompt=step, prompt_text="2 + 2 =", answer_text=f"4 at step {step}", tokens=2)


def _row(step: int) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=time.time(),
        loss=1.0 / step,
        gradient_norm=1.0,
        learning_rate=0.1,
        tokens=step * 100,
        tokens_per_second=100.0,
        sample_digest=f"{step:016x}",
    )
