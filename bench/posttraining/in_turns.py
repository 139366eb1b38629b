"""Whole trainers in processes of their own, a step each in turns, timed from one step's end to the next.

A trainer does all that it does in a step: it takes its data, computes, and writes its row.
Where a step ends it waits for its next turn, so whatever else the machine does hits all
alike; starting is not counted.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median

WARM_UP = 1  # turns behind the first step, which allocates


@dataclass(frozen=True)
class Turn:
    """What one step took, and how much it learnt from."""

    seconds: float
    cpu_seconds: float  # of the process and all that it started, which may compute rewards
    tokens: int


class Gate:
    """Where a trainer waits for its turn."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._begun: tuple[float, float] | None = None

    def passes(self, tokens: int) -> None:
        """A step has ended that learnt from `tokens`; returns when the next may begin."""
        now = time.perf_counter(), cpu_seconds()
        begun = self._begun or now
        self._pipe.send(Turn(now[0] - begun[0], now[1] - begun[1], tokens))
        self._pipe.recv()
        self._begun = time.perf_counter(), cpu_seconds()


def cpu_seconds() -> float:
    """Of this process and of those below it; of these that still run, in ticks of 10 ms."""
    reaped = os.times()
    running = sum(_ticks(child) for child in _below(os.getpid())) / os.sysconf("SC_CLK_TCK")
    return time.process_time() + reaped.children_user + reaped.children_system + running


def _below(pid: int) -> Iterator[int]:
    for children in Path(f"/proc/{pid}/task").glob("*/children"):  # each thread has its own
        with suppress(OSError):  # it has ended meanwhile
            for child in map(int, children.read_text().split()):
                yield child
                yield from _below(child)


def _ticks(pid: int) -> int:
    """Of a process and of its children that it has reaped; 0 where it is gone."""
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15]))
    return 0


Trainer = Callable[[Gate], object]
"""Trains for as long as its gate lets it; is sent to a process of its own."""


@dataclass
class Speed:
    """All turns of one trainer."""

    turns: list[Turn] = field(default_factory=list)

    def rate(self, *, cpu: bool = False) -> float:
        """Tokens that count per second, or per second of the processor."""
        seconds = sum(turn.cpu_seconds if cpu else turn.seconds for turn in self.turns)
        return sum(turn.tokens for turn in self.turns) / seconds


def run_in_turns(trainers: Mapping[str, Trainer], turns: int, threads: int = 1) -> dict[str, Speed]:
    """`turns` steps of each that count, every other time backwards."""
    speeds = {name: Speed() for name in trainers}
    with _started(trainers, threads) as pipes:
        for number in range(WARM_UP + turns):
            for name in list(pipes)[:: -1 if number % 2 else 1]:
                pipes[name].send(None)
                turn = pipes[name].recv()
                if number >= WARM_UP:
                    speeds[name].turns.append(turn)
    return speeds


def median_ratio(ours: Speed, theirs: Speed, spans: int = 5) -> tuple[float, float]:
    """How many times as fast ours is, by CPU seconds and by the clock: medians of spans of turns."""
    count = len(ours.turns)
    ends = [number * count // min(spans, count) for number in range(min(spans, count) + 1)]
    parts = [(Speed(ours.turns[first:end]), Speed(theirs.turns[first:end])) for first, end in pairwise(ends)]
    by_work, by_clock = (
        median(our.rate(cpu=cpu) / their.rate(cpu=cpu) for our, their in parts) for cpu in (True, False)
    )
    return by_work, by_clock


@contextmanager
def _started(trainers: Mapping[str, Trainer], threads: int) -> Iterator[dict[str, Connection]]:
    """Pipes to trainers that stand before the step after their first."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    try:
        for name, trainer in trainers.items():
            pipes[name], there = context.Pipe()
            processes.append(context.Process(target=_train, args=(trainer, threads, there), daemon=True))
            processes[-1].start()
            there.close()
        for pipe in pipes.values():
            pipe.recv()  # EOFError where a trainer failed, which it has said
        yield pipes
    finally:
        for process in processes:
            process.kill()
            process.join()


def _train(trainer: Trainer, threads: int, pipe: Connection) -> None:
    import torch

    sys.stdout = sys.stderr  # a table's lines are the parent's
    torch.set_num_threads(threads)
    try:
        trainer(Gate(pipe))
    except BaseException:
        traceback.print_exc()
        raise
    finally:
        pipe.close()
