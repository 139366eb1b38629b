"""Object collectives: rank 0's values for all ranks, all ranks' values for rank 0 or for all.

torch's object collectives fill a list that the caller has allocated, in a different form for each
collective. Here a value goes in and values come out. All are collective over their group, and all values
are pickled: these are for few and small objects, on the CPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any, Generic, TypeVar

import torch.distributed as dist

from footplate_trainer.background import complete
from footplate_trainer.errors import TrainerError

Value = TypeVar("Value")


def compute_on_rank_0(decide: Callable[[], Value], group: dist.ProcessGroup) -> Value:
    """Call `decide` on rank 0 only, and return its result on every rank.

    A TrainerError from `decide` is raised on every rank. Any other error ends rank 0, and thereby the others.
    """
    told: list[Any] = [_attempted(decide) if group.rank() == 0 else None]
    dist.broadcast_object_list(told, group_src=0, group=group)
    result: Value | TrainerError = told[0]
    if isinstance(result, TrainerError):
        raise result
    return result


def compute_on_rank_0_with_progress(
    decide: Callable[[Callable[[int], None]], Value],
    group: dist.ProcessGroup,
    heard: Callable[[int], None],
    every: float = 5.0,
) -> Value:
    """Do as `compute_on_rank_0`, with a `decide` that may take longer than a collective's timeout.

    `decide` runs in a thread, and reports its progress, an ascending number, to the callable it receives.
    All ranks synchronise every `every` seconds until it is done, and each calls `heard` with that number.
    """
    work = _Work(decide) if group.rank() == 0 else None
    done = False
    while not done:
        if work is not None:
            wait([work.future], every)
        told = [None if work is None else (work.future.done(), work.progress)]
        dist.broadcast_object_list(told, group_src=0, group=group)
        assert told[0] is not None
        done, progress = told[0]
        heard(progress)

    def result() -> Value:
        assert work is not None
        return work.future.result()

    return compute_on_rank_0(result, group)


class _Work(Generic[Value]):
    """A call in a daemon thread; the process may end before the call does."""

    def __init__(self, decide: Callable[[Callable[[int], None]], Value]) -> None:
        self.future: Future[Value] = Future()
        self.progress = 0
        work = partial(decide, self._tell)
        threading.Thread(target=complete, args=(self.future, work), daemon=True).start()

    def _tell(self, progress: int) -> None:
        self.progress = progress


def barrier(group: dist.ProcessGroup) -> None:
    """Wait until all ranks are here."""
    dist.barrier(group=group)


def gather_to_rank_0(value: Value, group: dist.ProcessGroup) -> list[Value]:
    """Return every rank's value, by rank, on rank 0; an empty list elsewhere."""
    everybody: list[Any] | None = [None] * group.size() if group.rank() == 0 else None
    dist.gather_object(value, everybody, group=group, group_dst=0)
    return everybody or []


def all_gather(value: Value, group: dist.ProcessGroup) -> list[Value]:
    """Return every rank's value, by rank, on every rank."""
    everybody: list[Any] = [None] * group.size()
    dist.all_gather_object(everybody, value, group=group)
    return everybody


def scatter_from_0(values: Sequence[Value], group: dist.ProcessGroup) -> Value:
    """Return this rank's item of rank 0's `values`, one for each rank; other ranks' `values` are ignored."""
    mine: list[Any] = [None]
    dist.scatter_object_list(mine, list(values) if group.rank() == 0 else None, group=group, group_src=0)
    value: Value = mine[0]
    return value


def raise_first(error: Exception | None, group: dist.ProcessGroup) -> None:
    """Raise, on every rank, the error of the lowest rank that has one."""
    for raised in all_gather(error, group):
        if raised is not None:
            raise raised


def _attempted(decide: Callable[[], Value]) -> Value | TrainerError:
    try:
        return decide()
    except TrainerError as error:
        return error
