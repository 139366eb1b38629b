"""The edge of a rank's process: turns an exception into a report, an exit code and a line on stderr."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer import failure_reports
from footplate_trainer.callbacks.reporter import Reporter
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment
from footplate_trainer.stages.layout import require_layout
from footplate_trainer.stages.start import get_checkpointed_config

Program = Callable[[DistributedContext, Reporter], ExitCode]
"""A stage among its ranks, from the first collective to the last."""


def run_stage(
    config: RunConfig,
    agent: AgentClient,
    stage: Callable[[RunConfig], Program],
    over: Callable[[RunConfig], Program | None] = lambda config: None,
) -> ExitCode:
    """Run a stage as the rank that the environment names; every error ends in its exit code.

    `stage` raises UserMistake for a config that cannot work: here, where no rank waits for another yet. If
    `over` returns a program, only that remains to be run: it needs none of the models that the run began
    with.
    """
    place = read_environment(os.environ)
    reporter: Reporter | None = None
    try:
        program = over(config)
        if program is None:
            config = complete_config(config, get_checkpointed_config(config))
            require_layout(config, place.world_size)
            program = stage(config)
        with init_distributed(place, config.world.backend) as world:
            reporter = Reporter(agent, world)
            return program(world, reporter)
    except Exception as error:  # noqa: BLE001 - the process edge: told, classified, never raised on
        step = reporter.step if reporter else None
        report = failure_reports.failure_report(error, rank=place.rank, step=step, now=time.time())
        failure_reports.write_failure(error, report, os.environ)
        return failure_reports.outcome_of(error).exit_code
