"""How long until all ranks generate again: kills a rank of a gang on loopback in the middle of rollouts.

    .venv/bin/python -m bench.posttraining.killed_rank [--times 5]

Two agents with two ranks each run stage grpo on a tiny model. Medians over the repetitions,
in seconds, from SIGKILL until each rank has drawn a token in the next generation, with
their parts. The bar is that of all but `load`: there weights are built and read, the data
opened and whatever of the rollout was finished found in its journal. No pod start, image,
CUDA or NCCL in them.
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
from typing import Final

from bench.elastic.stations import PARTS, Recovery, recovery, tells_timeline

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.reports import GenerationId, RankPhase
from tests.component.footplate_elastic.agent.gang import Gang
from tests.support.reinforced import grpo_config, pack_prompts

BAR: Final = 1.0  # seconds beside `load`
LOAD: Final = PARTS.index("load")
RUN: Final = (
    # Long ones of a model that hardly learns, as an agent tells once a second what is finished.
    "rollout={maxTokens: 64, numGenerations: 4, generationBatchSize: 2048}",
    "training.optimizer.learningRate=1e-12",
    "training.globalBatchSize=2048",
    "training.microBatchSize=32",
    "training.steps=1000000",
    "checkpoint.everySteps=1",
)
PATIENCE: Final = 300.0  # seconds, of a machine that is busy otherwise
LOGS: Final = ("agent-0-0", "agent-1-0")


def kill_in_a_rollout(gang: Gang, after: int) -> tuple[Recovery, int]:
    """SIGKILL the last rank while it draws, at a step behind `after`; the recovery, and that step."""

    def drawing(state: CoordinatorState) -> bool:
        told = state.progress
        return told.step > after and told.phase is RankPhase.ROLLOUT and bool(told.finished)

    state = gang.wait_for(drawing, PATIENCE)
    assert state.generation is not None
    fault = time.time()
    os.kill(gang.children(1)[-1], signal.SIGKILL)
    generation = GenerationId(epoch=1, number=state.generation.number + 1)
    gang.wait_for(lambda state: state.generation == generation and state.state is RunState.TRAINING, PATIENCE)
    deadline = time.monotonic() + PATIENCE
    while not all(tells_timeline(gang.log(name), generation) for name in LOGS):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not all ranks of {generation} generate:\n{gang.logs()}")
        time.sleep(0.05)
    logs = [gang.log(name) for name in LOGS]
    return recovery(fault, gang.log("coordinator-1"), logs, str(generation)), state.progress.step


def main() -> int:
    """Print the table; 1 if the median misses its bar."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--times", type=int, default=5, help="repetitions (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="once, to see that it runs")
    arguments = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory(prefix="footplate-bench-") as temporary:
        folder = Path(temporary)
        gang = Gang(folder)
        gang.use_trainer(grpo_config(pack_prompts(folder), folder, *RUN))
        gang.start()
        try:
            step = 0
            for _ in range(1 if arguments.smoke else arguments.times):
                recovered, step = kill_in_a_rollout(gang, step)
                found.append(recovered)
        finally:
            gang.close()
    print(f"{'':10}" + "".join(f"{part:>15}" for part in PARTS) + f"{'total':>9}{'but load':>10}")
    for name, of in (("median", median), ("longest", max)):
        parts = [of(some.parts[place] for some in found) for place in range(len(PARTS))]
        beside = of(some.total - some.parts[LOAD] for some in found)
        numbers = "".join(f"{part:15.2f}" for part in parts)
        print(f"{name:10}{numbers}{of(some.total for some in found):9.2f}{beside:10.2f}")
    missed = median(some.total - some.parts[LOAD] for some in found) > BAR
    print(f"{len(found)} kills, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores; bar {BAR} but load")
    return int(missed)


if __name__ == "__main__":
    sys.exit(main())
