"""The entry of a rank that an agent started: everything it needs is in the environment."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from footplate_contracts import logs
from footplate_contracts.names import Env, ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_elastic.protocol.agent_client import open_client
from footplate_trainer.stages import catalogue

_log = logging.getLogger(__name__)


def run_rank() -> ExitCode:
    """Train the RunConfig that the operator mounted; returns the exit code, never raises."""
    mounted = json.loads(Path(os.environ[Env.RUN_CONFIG]).read_text())
    config = RunConfig.from_any_release(mounted)  # the operator, or the image, may be a newer one's
    logs.configure("footplate_trainer", "footplate_elastic", log_format=logs.format_of(os.environ))
    logs.describe_process(
        run=f"{config.run.namespace}/{config.run.name}",
        uid=config.run.uid,
        generation=os.environ.get(Env.GENERATION),
        rank=int(os.environ["RANK"]),
    )
    if unknown := RunConfig.passed_over(mounted):
        _log.warning("passing over what this release does not know: %s", ", ".join(unknown))
    agent = open_client(os.environ)
    try:
        return catalogue.train(config, agent)
    finally:
        agent.close()
