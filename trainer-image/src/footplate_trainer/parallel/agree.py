"""Values that ranks tell each other: what one knows, and what all must hold to be the same.

torch's object collectives fill a list that the caller has packed, of another shape for each of them.
Here a value goes in and values come out. All are collective over their group, and everything that is
told is pickled: these are for few and small things, on the CPU.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any, Generic, TypeVar

import torch.distributed as dist

from footplate_trainer.errors import TrainerError

Value = TypeVar("Value")


def from_rank_0(decide: Callable[[], Value], group: dist.ProcessGroup) -> Value:
    """What `decide` gives on rank 0, where alone it is called, on every rank.

    A TrainerError of its is raised on every rank. Any other error ends rank 0, and thereby the others.
    """
    told: list[Any] = [_attempted(decide) if group.rank() == 0 else None]
    dist.broadcast_object_list(told, group_src=0, group=group)
    result: Value | TrainerError = told[0]
    if isinstance(result, TrainerError):
        raise result
    return result


def awaited_from_rank_0(
    decide: Callable[[Callable[[int], None]], Value],
    group: dist.ProcessGroup,
    heard: Callable[[int], None],
    every: float = 5.0,
) -> Value:
    """As `from_rank_0`, where `decide` may take longer than ranks wait in a collective.

    It runs in a thread, and says with what it is given how far it is: an ascending number. All ranks meet
    each `every` seconds until it is done, and each has `heard` that number.
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

    return from_rank_0(result, group)


class _Work(Generic[Value]):
    """What runs beside; whoever awaits it may end without it."""

    def __init__(self, decide: Callable[[Callable[[int], None]], Value]) -> None:
        self.future: Future[Value] = Future()
        self.progress = 0
        threading.Thread(target=self._run, args=(decide,), daemon=True).start()

    def _run(self, decide: Callable[[Callable[[int], None]], Value]) -> None:
        try:
            self.future.set_result(decide(self._tell))
        except BaseException as error:  # noqa: BLE001 - raised where it is awaited
            self.future.set_exception(error)

    def _tell(self, progress: int) -> None:
        self.progress = progress


def meet(group: dist.ProcessGroup) -> None:
    """Wait until all ranks are here."""
    dist.barrier(group=group)


def gather_to_0(value: Value, group: dist.ProcessGroup) -> list[Value]:
    """Every rank's value, by rank, on rank 0; nothing elsewhere."""
    everybody: list[Any] | None = [None] * group.size() if group.rank() == 0 else None
    dist.gather_object(value, everybody, group=group, group_dst=0)
    return everybody or []


def gather(value: Value, group: dist.ProcessGroup) -> list[Value]:
    """Every rank's value, by rank, on every rank."""
    everybody: list[Any] = [None] * group.size()
    dist.all_gather_object(everybody, value, group=group)
    return everybody


def scatter_from_0(values: Sequence[Value], group: dist.ProcessGroup) -> Value:
    """This rank's of the `values` that rank 0 gives, one for each rank; those of others are not looked at."""
    mine: list[Any] = [None]
    dist.scatter_object_list(mine, list(values) if group.rank() == 0 else None, group=group, group_src=0)
    value: Value = mine[0]
    return value


def raise_first(error: Exception | None, group: dist.ProcessGroup) -> None:
    """Raise, on every rank, the error of the lowest rank that has one."""
    for raised in gather(error, group):
        if raised is not None:
            raise raised


def _attempted(decide: Callable[[], Value]) -> Value | TrainerError:
    try:
        return decide()
    except TrainerError as error:
        return error
