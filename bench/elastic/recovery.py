"""How long until all ranks step again: kills ranks and agents of a gang on loopback, many times.

    .venv/bin/python -m bench.elastic.recovery [--times 5] [--small]

Two agents with two ranks each run the trainer on a tiny model (`--small`: a
rank that only all-reduces). Medians over the repetitions, in seconds, with
their parts. No pod start, image, CUDA or NCCL in them.
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

from footplate_contracts.names import FIRST_SPARE
from footplate_contracts.reports import CoordinatorState, GenerationId, RunState
from tests.component.footplate_elastic.agent.gang import Gang
from tests.support.tiny import pack_tiny, tiny_config

BARS = {
    "rank killed": 1.0,
    "agent killed, substitute at once": 4.0,
    "agent killed, hot spare": 1.0,
}  # seconds
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
    """Print the table; 1 if a median misses its bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5, help="repetitions of each case (%(default)s)")
    parser.add_argument("--small", action="store_true", help="an all-reduce instead of the trainer")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="footplate-bench-") as folder:
        bench = Bench(Path(folder), arguments.small)
        try:
            cases = {
                "rank killed": [bench.kill_rank() for _ in range(arguments.times)],
                "agent killed, substitute at once": [
                    bench.kill_agent(number % 2) for number in range(arguments.times)
                ],
                "agent killed, hot spare": [
                    bench.kill_agent_beside_a_spare() for _ in range(arguments.times)
                ],
            }
        finally:
            bench.gang.close()
    return report(cases)


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


if __name__ == "__main__":
    sys.exit(main())
