"""How long until all ranks step again: kills ranks and agents of a gang on loopback, many times.

    .venv/bin/python -m bench.elastic.recovery [--times 5] [--small]

Two agents with two ranks each run the trainer on a tiny model (`--small`: a
rank that only all-reduces). Medians over the repetitions, in seconds, with
their parts. No pod start, image, CUDA or NCCL in them. Before each of ours stock
torchrun recovers from the same fault of the same run; with `--small`, which
torchrun cannot start, there is no such comparison.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from bench.elastic.stations import PARTS, Recovery, recovery, tells_timeline
from bench.elastic.torchrun import StockGang

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.names import FIRST_SPARE
from footplate_contracts.reports import GenerationId
from tests.component.footplate_elastic.agent.gang import Gang
from tests.support.tiny import pack_tiny, tiny_config

RANK, AGENT, SPARE = "rank killed", "agent killed, substitute at once", "agent killed, hot spare"
BARS = {RANK: 1.0, AGENT: 4.0, SPARE: 1.0}  # seconds
RATIOS = {RANK: 4.0, AGENT: 5.0}  # stock torchrun's seconds over ours, at least
STEPS = 1_000_000


class Bench:
    """A gang that is hurt again and again."""

    def __init__(self, folder: Path, small: bool) -> None:
        self.gang = Gang(folder)
        self.gang.steps, self.gang.step_seconds = STEPS, 0.01
        if not small:
            overrides = [f"training.steps={STEPS}", "checkpoint.everySteps=50"]
            self.gang.use_trainer(tiny_config(pack_tiny(folder), folder, overrides))
        self.gang.start()
        self.logs = ["agent-0-0", "agent-1-0"]  # of those who train
        self.incarnations = [0, 0]
        self.spares = 0
        self.highest = 0

    def kill_rank(self) -> Recovery:
        """SIGKILL the last rank of agent 1."""
        state = self._settled()
        pids = self.gang.children(1)
        fault = time.time()
        os.kill(pids[-1], signal.SIGKILL)
        return self._recovered(fault, state)

    def kill_agent(self, index: int) -> Recovery:
        """SIGKILL agent `index` and start its substitute in the same moment."""
        state = self._settled()
        agent = self.gang.agents[index]
        fault = time.time()
        agent.kill()
        agent.wait()
        self.incarnations[index] += 1
        self.gang.agents[index] = self.gang.start_agent(index, self.incarnations[index])
        self.logs[index] = f"agent-{index}-{self.incarnations[index]}"
        return self._recovered(fault, state)

    def kill_agent_beside_a_spare(self) -> Recovery:
        """SIGKILL agent 1 while a spare waits."""
        spare = self.gang.start_agent(FIRST_SPARE, self.spares)
        self.gang.wait_for(lambda state: bool(state.waiting))
        state = self._settled()
        fault = time.time()
        self.gang.agents[1].kill()
        self.gang.agents[1].wait()
        self.gang.agents[1] = spare
        self.logs[1] = f"agent-{FIRST_SPARE}-{self.spares}"
        self.spares += 1
        return self._recovered(fault, state)

    def _settled(self) -> CoordinatorState:
        """Training, past every step of before: else the coordinator holds the seal as for a crash loop."""
        goal = self.highest + 5
        state = self.gang.wait_for(
            lambda state: state.state is RunState.TRAINING and state.progress.step >= goal
        )
        self.highest = state.progress.step
        return state

    def _recovered(self, fault: float, before: CoordinatorState) -> Recovery:
        assert before.generation is not None
        generation = GenerationId(epoch=1, number=before.generation.number + 1)
        self.gang.wait_for(lambda state: state.generation == generation and state.state is RunState.TRAINING)
        deadline = time.monotonic() + 30.0
        while True:
            logs = [self.gang.log(name) for name in self.logs]
            if all(tells_timeline(log, generation) for log in logs):
                return recovery(fault, self.gang.log("coordinator-1"), logs, str(generation))
            if time.monotonic() > deadline:
                raise TimeoutError(f"not all ranks of {generation} step:\n{self.gang.logs()}")
            time.sleep(0.05)


def main() -> int:
    """Print the tables; 1 if a median misses its bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5, help="repetitions of each case (%(default)s)")
    parser.add_argument("--small", action="store_true", help="an all-reduce instead of the trainer")
    arguments = parser.parse_args()
    cases: dict[str, list[Recovery]] = {case: [] for case in BARS}
    stock: dict[str, list[float]] = {case: [] for case in RATIOS}
    for number in range(arguments.times):
        with tempfile.TemporaryDirectory(prefix="footplate-bench-") as folder:
            if not arguments.small:
                _measure_stock(Path(folder), stock)
            _measure(Path(folder) / "ours", arguments.small, number, cases)
    return report(cases) | compare(cases, stock)


def _measure(folder: Path, small: bool, number: int, cases: dict[str, list[Recovery]]) -> None:
    folder.mkdir()
    bench = Bench(folder, small)
    try:
        cases[RANK].append(bench.kill_rank())
        cases[AGENT].append(bench.kill_agent(number % 2))
        cases[SPARE].append(bench.kill_agent_beside_a_spare())
    finally:
        bench.gang.close()


def _measure_stock(folder: Path, cases: dict[str, list[float]]) -> None:
    gang = StockGang(folder / "stock", STEPS)
    try:
        cases[RANK].append(gang.kill_rank())
        cases[AGENT].append(gang.kill_agent())
    finally:
        gang.close()


def report(cases: dict[str, list[Recovery]]) -> int:
    """Print medians; the exit code."""
    print("| case | " + " | ".join(PARTS) + " | total | bar |")
    print("|---" * (len(PARTS) + 3) + "|")
    missed = 0
    for name, runs in cases.items():
        parts = [median(run.parts[i] for run in runs) for i in range(len(PARTS))]
        total = median(run.total for run in runs)
        print(
            f"| {name} | " + " | ".join(f"{part:.2f}" for part in parts) + f" | {total:.2f} | {BARS[name]} |"
        )
        missed += total > BARS[name]
    times = len(next(iter(cases.values())))
    print(f"\nmedians of {times} runs, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    return int(missed > 0)


def compare(cases: dict[str, list[Recovery]], stock: dict[str, list[float]]) -> int:
    """Print what stock torchrun took, over what ours did; the exit code."""
    missed = 0
    for case, seconds in stock.items():
        if not seconds:
            continue
        ours = median(run.total for run in cases[case])
        ratio = median(seconds) / ours
        print(
            f"{case}: stock torchrun {median(seconds):.1f} s ({min(seconds):.1f} to {max(seconds):.1f}),"
            f" {ratio:.1f} times ours (bar {RATIOS[case]:.0f})"
        )
        missed += ratio < RATIOS[case]
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
