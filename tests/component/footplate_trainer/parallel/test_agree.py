"""What ranks tell each other arrives at all of them, and so does an error."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from footplate_contracts.names import Backend, Reason
from footplate_trainer.errors import StorageError, TrainerError, UserMistake
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment
from tests.support.ranks import run_ranks


def among_ranks(work: Callable[[DistributedContext], Any]) -> Any:
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        try:
            return work(world)
        except TrainerError as error:
            return type(error).__name__, str(error), error.step, error.outcome.reason


def decided_by_0(world: DistributedContext) -> str:
    return object_collectives.compute_on_rank_0(lambda: f"of rank {world.rank}", world.background)


def refused_by_0(world: DistributedContext) -> str:
    def decide() -> str:
        assert world.rank == 0
        raise StorageError("no room", full=True, step=7)

    return object_collectives.compute_on_rank_0(decide, world.background)


def awaited_from_0(world: DistributedContext) -> tuple[str, int]:
    """Which goes on once ranks have met twice."""
    heard, met = list[int](), threading.Event()

    def hear(progress: int) -> None:
        heard.append(progress)
        if len(heard) == 2:
            met.set()

    def decide(alive: Callable[[int], None]) -> str:
        alive(7)
        met.wait()
        alive(8)
        return f"of rank {world.rank}"

    told = object_collectives.compute_on_rank_0_with_progress(decide, world.background, hear, every=0.01)
    return told, heard[-1]


def awaited_in_vain(world: DistributedContext) -> str:
    def decide(alive: Callable[[int], None]) -> str:
        raise StorageError("no room", full=True, step=7)

    return object_collectives.compute_on_rank_0_with_progress(
        decide, world.background, lambda progress: None, every=0.01
    )


def gathered_at_0(world: DistributedContext) -> list[int]:
    return object_collectives.gather_to_rank_0(world.rank * 10, world.background)


def gathered(world: DistributedContext) -> list[int]:
    return object_collectives.all_gather(world.rank * 10, world.background)


def scattered(world: DistributedContext) -> str:
    return object_collectives.scatter_from_0(["a", "b", "c"] if world.rank == 0 else [], world.background)


def failed_on_two(world: DistributedContext) -> None:
    error = UserMistake(f"wrong on rank {world.rank}") if world.rank else None
    object_collectives.raise_first(error, world.background)


NO_ROOM = ("StorageError", "no room", 7, Reason.STORAGE_FULL)
WRONG = ("UserMistake", "wrong on rank 1", None, UserMistake.outcome.reason)


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        pytest.param(decided_by_0, ["of rank 0"] * 3, id="from-rank-0"),
        pytest.param(refused_by_0, [NO_ROOM] * 3, id="error-from-rank-0"),
        pytest.param(awaited_from_0, [("of rank 0", 8)] * 3, id="awaited-from-rank-0"),
        pytest.param(awaited_in_vain, [NO_ROOM] * 3, id="error-awaited-from-rank-0"),
        pytest.param(gathered_at_0, [[0, 10, 20], [], []], id="gather-to-0"),
        pytest.param(gathered, [[0, 10, 20]] * 3, id="gather"),
        pytest.param(scattered, ["a", "b", "c"], id="scatter-from-0"),
        pytest.param(failed_on_two, [WRONG] * 3, id="the-lowest-rank's-error"),
    ],
)
def test_every_rank_has_what_was_told(work: Callable[[DistributedContext], Any], expected: list[Any]) -> None:
    assert run_ranks(among_ranks, 3, work) == expected
