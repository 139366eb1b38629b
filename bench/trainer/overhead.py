"""What metrics, data order and checkpoint hooks cost each step.

    .venv/bin/python -m bench.trainer.overhead [--steps 20]

One process trains 8 layers x 512 twice at once: of each pair of steps one is
bare (a batch that is already there, no callbacks around it) and one is a whole
step of a run (data order and packing, phases to an agent, metric row to the
history and to files, checkpoint flags, due dates). Medians of the pairs, in CPU
seconds of the whole process, background threads included: a busy machine
spans seconds on the clock. Exit code 1 above 2 %.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from bench.trainer.laid import laid

from footplate_contracts.reports import GenerationId
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.callbacks.checkpoints import DurableCheckpoints
from footplate_trainer.callbacks.diagnostics import Diagnostics
from footplate_trainer.callbacks.limits import LimitsFollower, SuspensionCallback
from footplate_trainer.callbacks.metric_rows import open_metric_rows
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.checkpoint import state_tensors
from footplate_trainer.checkpoint.durable.saver import Saver
from footplate_trainer.checkpoint.training_state import TrainingState
from footplate_trainer.loop.callbacks import Callback, Callbacks, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.loop.training_loop import train
from footplate_trainer.stages.inputs import open_loader, open_shards
from footplate_trainer.stages.start import StartPosition, open_store, state_writer
from tests.support.ranks import run_ranks
from tests.support.tiny import pack_tiny, tiny_config
from tests.support.training import FakeAgent

BAR: Final = 0.02
MODEL: Final = (
    "model.layers=8",
    "model.hiddenSize=512",
    "model.attentionHeads=8",
    "model.keyValueHeads=4",
    "model.contextLength=256",
    "training.globalBatchSize=4",
    "training.microBatchSize=4",
    "training.steps=1000000",
    "training.logEverySteps=1",
    "checkpoint.everySteps=1000000",
)


@dataclass
class Pairs(Callback):
    """`callbacks` of a run with a bare step before each of its steps; both are timed."""

    callbacks: Callbacks
    bare_step: Callable[[int], object]
    bare: list[float] = field(default_factory=list)  # CPU seconds
    whole: list[float] = field(default_factory=list)
    _begun: float = 0.0

    def before_data(self, step: int) -> None:
        """The bare step, then the beginning of the whole one."""
        started = time.process_time()
        self.bare_step(step)
        self._begun = time.process_time()
        self.bare.append(self._begun - started)
        self.callbacks.before_data(step)

    def before_compute(self, step: int) -> StepFlags:
        """As the run has it."""
        return self.callbacks.before_compute(step)

    def after_step(self, step: TrainedStep) -> None:
        """The end of the whole step."""
        self.callbacks.after_step(step)
        self.whole.append(time.process_time() - self._begun)

    def close(self) -> None:
        """As the run has it."""
        self.callbacks.close()


def measure(config: RunConfig, folder: Path, steps: int) -> tuple[list[float], list[float]]:
    """CPU seconds of bare and of whole steps, in pairs."""
    os.environ["FOOTPLATE_GENERATION"] = "1.1"
    with laid(config) as here:
        agent, world, stopwatch = FakeAgent(), here.world, here.stepper.stopwatch
        limits, reporter = RunLimits(config), Reporter(agent, world)
        shards = open_shards(config, world, verify=False)
        batches = open_loader(config, shards, here.model.grid)
        room = state_tensors.HostCopy(
            here.model.module, here.stepper.optimizer.moments(), here.model.host_mesh
        )
        saver = Saver(
            open_store(config),
            world,
            room,
            generation=GenerationId.parse("1.1"),
            settings=config.checkpoint,
            sidecars={},
            agent=agent,
            clock=time.time,
        )
        rows = open_metric_rows(config, agent, limits, reporter, world, folder / "metrics.jsonl")
        described = state_writer(config, StartPosition(), shards, world)

        def state_now() -> TrainingState:
            return described.build(reporter.step, reporter.tokens)

        callbacks = Callbacks(
            reporter,
            SuspensionCallback(agent),
            Diagnostics(config.checkpoint.uri, agent, world, reporter),
            LimitsFollower(limits, agent, world, 0),
            rows,
            DurableCheckpoints(saver, state_now, limits, reporter, stopwatch, rows.flush),
        )
        ready = batches.build(0)
        pairs = Pairs(callbacks, lambda number: here.stepper.step(number, ready, 1e-4, StepFlags()))
        measured = RunLimits(config)
        measured.apply(measured.in_force.model_copy(update={"steps": steps}), 0)
        train(here.stepper, batches, measured, pairs, 0)
        batches.close()
        pairs.close()
    return pairs.bare, pairs.whole


def main() -> int:
    """Print the two medians and what they differ by."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20, help="pairs of steps (%(default)s)")
    steps = parser.parse_args().steps
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        board = f"telemetry={{sinks: [{{name: tensorboard, uri: {folder}/board}}]}}"
        config = tiny_config(pack_tiny(folder), folder, [*MODEL, board])
        bare, whole = run_ranks(measure, 1, config, folder, steps, timeout=600.0)[0]
    differences = [after - before for before, after in zip(bare[3:], whole[3:], strict=True)]
    overhead = median(differences) / median(bare[3:])
    print(f"bare step {1000 * median(bare[3:]):.1f} ms, whole step {1000 * median(whole[3:]):.1f} ms")
    print(f"overhead: {overhead:.2%} of a step; bar {BAR:.0%}")
    return int(overhead > BAR)


if __name__ == "__main__":
    sys.exit(main())
