"""A suspension does not wait for a reward function, however long that takes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.directives import Command
from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from tests.support.ranks import run_ranks
from tests.support.reinforced import Reinforced, grpo_config, history, pack_prompts, reinforce
from tests.support.training import FakeAgent

STEPS: Final = 2
FUNCTION: Final = """
import time
from pathlib import Path

def sleeps_the_first_time(texts):
    asked = Path(__file__).with_name("asked")
    if not asked.exists():
        asked.touch()
        time.sleep(600)
    return [len(text) / 10 for text in texts]
"""


@dataclass
class OnceAsked(FakeAgent):
    """Asks for a suspension as soon as the function has been asked, which then sleeps."""

    asked: Path = Path()

    def command(self) -> Command:
        return Command.CHECKPOINT_AND_EXIT if self.asked.exists() else super().command()


def start(config: RunConfig, ranks: int, agent: FakeAgent, modules: Path) -> Reinforced:
    """One start, to whatever end."""
    return run_ranks(reinforce, ranks, agent, config, environment={"PYTHONPATH": str(modules)})[0]


def test_a_suspension_does_not_wait_for_a_function_that_sleeps(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(FUNCTION)
    functions = (
        "reward.functions=[{name: short, length: {tokens: 4}},"
        " {name: slow, timeoutSeconds: 300, function: {name: 'slow:sleeps_the_first_time'}}]"
    )
    prompts, steps = pack_prompts(tmp_path), f"training.steps={STEPS}"
    config = grpo_config(prompts, tmp_path / "suspended", functions, steps, "checkpoint.everySteps=1")
    suspended = start(config, 2, OnceAsked(asked=tmp_path / "asked"), tmp_path)
    assert suspended.code == ExitCode.SUSPENDED, suspended.stderr
    assert not suspended.agent.rows

    end = start(config, 2, FakeAgent(), tmp_path)
    assert end.code == ExitCode.SUCCESS, end.stderr
    other = grpo_config(prompts, tmp_path / "calm", functions, steps, "checkpoint.everySteps=1")
    calm = start(other, 2, FakeAgent(), tmp_path)
    assert calm.code == ExitCode.SUCCESS, calm.stderr
    expected = history(tmp_path / "calm", STEPS, calm)
    history(tmp_path / "suspended", STEPS, suspended, end).check_equal(expected)
