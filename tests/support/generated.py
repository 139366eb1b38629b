"""What tests of stage generate draw: answers of random bytes, of which half end before they are cut off."""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Final

from footplate_contracts.logs import configure
from footplate_contracts.names import LogFormat
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.stages import generate_stage
from tests.support.reinforced import CONTEXT, STOP, Reinforced
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

GROUP: Final = 4
REWARDED: Final = "reward.functions=[{name: short, length: {tokens: 4}}]"


def generate_config(shards: Path, folder: Path, *more: str) -> RunConfig:
    """3 rollouts of 16 answers, 4 to a prompt, whose answers go to `folder`/answers."""
    output = f"output: {{uri: {folder / 'answers'}}}"
    stated = (
        "stage=generate",
        f"model.contextLength={CONTEXT}",
        f"rollout={{maxTokens: 24, group: {GROUP}, samples: 16, stop: {STOP}, {output}}}",
        "training.steps=3",
    )
    return tiny_config(shards, folder, (*stated, *more))


def generate(agent: FakeAgent, config: RunConfig) -> Reinforced:
    """Answer as one rank of the agent behind `agent`."""
    configure("footplate_trainer", log_format=LogFormat.TEXT)
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = generate_stage.main(config, agent)
    return Reinforced(int(code), stderr.getvalue(), agent)
