"""The program that trains each stage, and the entry of a rank that an agent started.

No other module knows all stages. A rank's configuration is in its environment.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from footplate_contracts import logs
from footplate_contracts.base import first_error
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Stage
from footplate_elastic.protocol.agent_client import AgentClient, open_client
from footplate_trainer import failure_reports
from footplate_trainer.errors import UserMistake
from footplate_trainer.stages import generate_stage, offline_stages, online_stages
from footplate_trainer.stages.process import Program, run_stage

_log = logging.getLogger(__name__)


# A stage is one here once its name is allowed in the spec, and the other way round.
PROGRAMS: Final[Mapping[Stage, Callable[[RunConfig, AgentClient, Path | None], ExitCode]]] = {
    Stage.PRETRAIN: offline_stages.main,
    Stage.SFT: offline_stages.main,
    Stage.REWARD: offline_stages.main,
    Stage.DPO: offline_stages.main,
    Stage.PPO: online_stages.main,
    Stage.GRPO: online_stages.main,
    Stage.GENERATE: generate_stage.main,
}


def train(config: RunConfig, agent: AgentClient, metrics: Path | None = None) -> ExitCode:
    """Train the stage of `config` as the rank that the environment names; see the `main` of each program."""
    main = PROGRAMS.get(config.stage)
    return main(config, agent, metrics) if main else run_stage(config, agent, _refuse, _refuse)


def _refuse(config: RunConfig) -> Program:
    known = ", ".join(PROGRAMS)
    raise UserMistake(f"stage is {config.stage}, which this image cannot train; it trains {known}")


def run_rank() -> ExitCode:
    """Train the RunConfig that the operator mounted; return the exit code, whatever the config is."""
    rank = int(os.environ["RANK"])
    try:
        mounted, config = _mounted(os.environ)
    except UserMistake as error:
        report = failure_reports.failure_report(error, rank=rank, step=None, now=time.time())
        failure_reports.write_failure(error, report, os.environ)
        return failure_reports.outcome_of(error).exit_code
    logs.configure("footplate_trainer", "footplate_elastic", log_format=logs.format_of(os.environ))
    logs.set_process_fields(
        run=f"{config.run.namespace}/{config.run.name}",
        uid=config.run.uid,
        generation=os.environ.get(Env.GENERATION),
        rank=rank,
    )
    if unknown := RunConfig.unknown_fields(mounted):
        _log.warning("ignoring fields that this release does not support: %s", ", ".join(unknown))
    agent = open_client(os.environ)
    try:
        return train(config, agent)
    finally:
        agent.close()


def _mounted(environment: Mapping[str, str]) -> tuple[Any, RunConfig]:
    """Read the RunConfig as JSON and as parsed here: operator or image may be of a newer release.

    Unknown members are ignored. Raises UserMistake for an invalid value, such as a newer release's enum
    member: to replace it by another one would train something else.
    """
    path = Path(environment[Env.RUN_CONFIG])
    mounted = json.loads(path.read_text())
    try:
        return mounted, RunConfig.from_any_release(mounted)
    except ValidationError as error:
        raise UserMistake(
            f"{path}: {first_error(error)}; an image of the operator's release may support it"
        ) from None
