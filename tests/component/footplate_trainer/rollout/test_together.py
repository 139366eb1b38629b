"""What one rank meets while ranks keep a rollout is heard by all: an error, a suspension, no process."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from footplate_contracts.names import Backend
from footplate_contracts.reports import GenerationId
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.data.prompt_dataset import PromptOrder
from footplate_trainer.errors import TrainerError
from footplate_trainer.generation.requests import EndReason
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment
from footplate_trainer.rewards.reward_samples import SampleKey
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.journal import Journal, journal_batches
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import Record, SampleRecord
from footplate_trainer.stages.rollouts import open_rewards
from tests.support.ranks import run_ranks
from tests.support.reinforced import grpo_config

KEY = JournalKey("key")


class Full(LocalFolder):
    """A disk without room."""

    def list(self, prefix: str = "") -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")


def sample(rank: int, number: int) -> SampleRecord:
    zeros = np.zeros(3, dtype=np.float32)
    return SampleRecord(SampleKey(4, rank, number), zeros.astype(np.int32), zeros, zeros, EndReason.END)


def kept(folder: LocalFolder, world: DistributedContext, stops_at: int) -> tuple[bool, int]:
    """As one rank that is asked to stop at that look: whether it was all, and how much is known here."""
    clock, known, looks = count(0, 100), list[Record](), count(1)
    writing = Journal(folder, GenerationId(epoch=1, number=1), world.rank, lambda: float(next(clock)))
    writing.start_rollout(4, KEY)
    batches: Sequence[list[SampleRecord]] = [[sample(world.rank, number)] for number in range(4)]
    whole = journal_batches(batches, known.extend, writing, world, lambda: next(looks) == stops_at)
    return whole, len(known)


def full_on_one(folder: Path) -> str:
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        try:
            kept((Full if world.rank else LocalFolder)(str(folder)), world, 0)
        except TrainerError as error:
            return str(error)
    return ""


def stopped_on_one(folder: Path) -> tuple[bool, int]:
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        return kept(LocalFolder(str(folder)), world, 2 if world.rank else 0)


def no_process_on_one(config: RunConfig) -> str:
    prompts = cast(PromptOrder, SimpleNamespace(columns=frozenset({"answer"})))
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world, ExitStack() as stack:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if world.rank:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            open_rewards(config, prompts, world, stack)
        except TrainerError as error:
            return str(error)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return ""


def test_a_disk_that_is_full_on_one_rank_ends_all(tmp_path: Path) -> None:
    told = run_ranks(full_on_one, 2, tmp_path)
    assert told[0] == told[1] and "rollout of step 4" in told[0] and "No space left" in told[0]


def test_a_suspension_that_one_rank_hears_stops_all_behind_the_same_batch(tmp_path: Path) -> None:
    assert run_ranks(stopped_on_one, 2, tmp_path) == [(False, 4), (False, 4)]
    found = journal.read_rollout(LocalFolder(str(tmp_path)), 4, KEY).samples
    assert sorted(found) == [SampleKey(4, rank, number) for rank in (0, 1) for number in (0, 1)]


def test_a_process_that_cannot_be_started_on_one_rank_ends_all(tmp_path: Path) -> None:
    functions = "reward.functions=[{name: digits, regularExpression: {pattern: '[0-9]'}}]"
    told = run_ranks(no_process_on_one, 2, grpo_config(tmp_path, tmp_path, functions))
    assert told[0] == told[1]
    assert told[0].startswith("rank 1 cannot start the processes of reward.functions: Too many open files")
