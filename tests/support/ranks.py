"""Real ranks for tests, cheap: forked from a server that has imported torch and the trainer.

    losses = run_ranks(train_a_little, world_size=2)

The function runs once in each rank, with the environment that an agent would
set, and must be importable (top level of a test module). What it returns comes
back, by rank; what it raises fails the test with the rank's traceback.
"""

from __future__ import annotations

import multiprocessing
import os
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any

from torch._C._distributed_c10d import TCPStore  # where torch.distributed's stores have their types

# The server inherits these: one thread a rank, as several share two cores, and no look at DNS.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["tests.support.warm_ranks"])


@dataclass
class Ranks:
    """Ranks that are running."""

    processes: list[Any]
    pipes: list[Connection]
    store: TCPStore

    def kill(self) -> None:
        """SIGKILL to all, and wait until they are gone."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()

    def results(self, timeout: float = 120.0) -> list[Any]:
        """What each rank returned; AssertionError with the traceback of the first that failed."""
        deadline = time.monotonic() + timeout
        answers: dict[int, Any] = {}
        try:
            while len(answers) < len(self.pipes):
                missing = {pipe: rank for rank, pipe in enumerate(self.pipes) if rank not in answers}
                ready = wait(missing, max(0.0, deadline - time.monotonic()))
                assert ready, f"ranks {sorted(missing.values())} gave no answer in {timeout} s"
                for pipe, rank in missing.items():
                    if pipe in ready:
                        failed, answers[rank] = self._receive(pipe)
                        assert not failed, f"rank {rank}:\n{answers[rank]}"
        finally:
            self.kill()
        return [answers[rank] for rank in range(len(self.pipes))]

    @staticmethod
    def _receive(pipe: Connection) -> tuple[bool, Any]:
        try:
            answer: tuple[bool, Any] = pipe.recv()
        except EOFError:
            return True, "ended without an answer"
        return answer


def start_ranks(
    function: Callable[..., Any],
    world_size: int,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
) -> Ranks:
    """Start `function(*arguments)` in `world_size` ranks; the store is hosted here, as an agent would."""
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    processes, pipes = [], []
    for rank in range(world_size):
        told = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world_size),
            "LOCAL_WORLD_SIZE": str(world_size),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "TORCHELASTIC_USE_AGENT_STORE": "True",
            **(environment or {}),
        }
        here, there = _CONTEXT.Pipe(duplex=False)
        process = _CONTEXT.Process(target=_rank, args=(there, told, function, arguments), daemon=True)
        process.start()
        there.close()
        processes.append(process)
        pipes.append(here)
    return Ranks(processes, pipes, store)


def run_ranks(
    function: Callable[..., Any],
    world_size: int,
    *arguments: Any,
    environment: Mapping[str, str] | None = None,
    timeout: float = 120.0,
) -> list[Any]:
    """Run `function(*arguments)` in `world_size` ranks to the end; what each returned, by rank."""
    return start_ranks(function, world_size, *arguments, environment=environment).results(timeout)


def _rank(
    answer: Connection,
    environment: Mapping[str, str],
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
) -> None:
    os.environ.update(environment)
    try:
        result = function(*arguments)
    except BaseException:  # noqa: BLE001 - the edge of the process: the test fails with it
        answer.send((True, traceback.format_exc()))
    else:
        answer.send((False, result))
    answer.close()
    os._exit(0)
