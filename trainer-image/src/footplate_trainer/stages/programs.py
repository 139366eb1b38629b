"""Table of the program that trains each stage: the only module that knows all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Stage
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.errors import UserMistake
from footplate_trainer.stages import generate_stage, offline_stages, online_stages
from footplate_trainer.stages.process import Program, run_stage

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
