"""Starts several ranks of one command on this machine.

Each is a process of its own that calls the same function, with the environment that torchrun would set. They
end together: once a rank has failed, the others would wait for it, and are killed.
"""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Final

from torch._C._distributed_c10d import TCPStore  # where torch.distributed's stores have their types

from footplate_trainer.errors import TrainerError

_HOST: Final = "127.0.0.1"


def run_local_ranks(function: Callable[..., str], ranks: int, *arguments: Any) -> str:
    """Call `function(*arguments)`, importable, in each of `ranks` processes; return rank 0's result.

    Raises the TrainerError of the first rank to fail. Any other end of a rank ends all.
    """
    store = TCPStore(_HOST, 0, is_master=True, wait_for_workers=False)
    context = multiprocessing.get_context("spawn")
    started: dict[Connection, SpawnProcess] = {}
    answers: dict[int, str] = {}
    try:
        for rank in range(ranks):
            here, there = context.Pipe(duplex=False)
            told = _environment(rank, ranks, store.port)
            process = context.Process(target=_rank, args=(there, told, function, arguments), daemon=True)
            process.start()
            there.close()
            started[here] = process
        numbers = {pipe: rank for rank, pipe in enumerate(started)}
        while waiting := [pipe for pipe, rank in numbers.items() if rank not in answers]:
            for pipe in wait(waiting):
                assert isinstance(pipe, Connection)
                answers[numbers[pipe]] = _answer(pipe, numbers[pipe])
    finally:
        for process in started.values():
            process.kill()
        for process in started.values():
            process.join()
    return answers[0]


def _environment(rank: int, ranks: int, port: int) -> dict[str, str]:
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(ranks),
        "LOCAL_WORLD_SIZE": str(ranks),
        "MASTER_ADDR": _HOST,
        "MASTER_PORT": str(port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",  # the store is the parent's
    }


def _answer(pipe: Connection, rank: int) -> str:
    try:
        answer: str | TrainerError = pipe.recv()
    except EOFError:
        raise TrainerError(f"rank {rank} was killed; check that memory suffices for all ranks") from None
    if isinstance(answer, TrainerError):
        raise answer
    return answer


def _rank(
    answer: Connection, told: Mapping[str, str], function: Callable[..., str], arguments: tuple[Any, ...]
) -> None:
    """Run one rank, with its share of the machine's cores."""
    import torch

    os.environ.update(told)
    torch.set_num_threads(max(1, torch.get_num_threads() // int(told["WORLD_SIZE"])))
    try:
        answer.send(function(*arguments))
    except TrainerError as error:
        answer.send(error)
    except Exception:  # noqa: BLE001 - the edge of a program: its parent has only this to tell
        answer.send(TrainerError(f"rank {told['RANK']} failed:\n{traceback.format_exc()}"))
