"""A stage that the spec allows is trained, and no other one is allowed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from footplate_contracts.names import ExitCode
from footplate_contracts.v1alpha1.training import Stage
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.manifest.run_file import InvalidManifest, read_run
from footplate_trainer.stages import programs
from tests.support.tiny import tiny_config

NEEDS = {  # beside what every run does
    Stage.PPO: ["rollout={maxTokens: 16}", "reward.uri=/models/judge"],
    Stage.GENERATE: ["rollout={maxTokens: 16, output: {uri: /answers}}"],
    Stage.GRPO: [
        "rollout={maxTokens: 16, numGenerations: 2}",
        "reward.functions=[{name: short, length: {}}]",
    ],
}
EXAMPLE = Path(__file__).parents[4] / "examples" / "tiny-decoder.yaml"


@pytest.mark.parametrize("stage", Stage)
def test_the_spec_allows_what_is_trained_and_refuses_all_else(stage: Stage) -> None:
    if stage in programs.PROGRAMS:
        assert read_run(EXAMPLE, [f"stage={stage}", *NEEDS.get(stage, [])]).spec.stage is stage
    else:
        with pytest.raises(InvalidManifest, match=f"stage {stage}"):
            read_run(EXAMPLE, [f"stage={stage}"])


def test_a_stage_of_a_newer_operator_is_never_taken_for_another(capsys: pytest.CaptureFixture[str]) -> None:
    config = tiny_config(Path("/shards"), Path("/run")).model_copy(update={"stage": "tomorrow"})
    assert programs.train(config, AgentClient()) == ExitCode.CONFIG
    known = ", ".join(programs.PROGRAMS)
    message = f"stage is tomorrow, which this image cannot train; it trains {known}"
    assert message in capsys.readouterr().err
    assert "RANK" not in os.environ
