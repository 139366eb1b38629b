"""A length and a cadence that change while ranks train: the run that is resumed with them, in place."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from footplate_contracts.directives import NumberedLimits
from footplate_contracts.names import ExitCode
from tests.support.ranks import run_ranks
from tests.support.tiny import read_rows, tiny_config
from tests.support.training import Ended, FakeAgent, train_under


def numbered(number: int, steps: int, every_steps: int = 1000, keep_last: int = 3) -> NumberedLimits:
    return NumberedLimits(steps=steps, every_steps=every_steps, keep_last=keep_last, epoch=1, number=number)


class ToldOne(FakeAgent):
    """Only rank 1 has heard of new limits."""

    def limits(self) -> NumberedLimits | None:
        return super().limits() if os.environ["RANK"] == "1" else None


class ToldLate(FakeAgent):
    """Rank 0 hears of new limits while the last checkpoint is being written."""

    def grant(self, step: int) -> bool:
        if step == 6:
            self.told = {0: numbered(1, steps=10, every_steps=2, keep_last=2)}
        return super().grant(step)


def curve(metrics: Path) -> list[tuple[Any, ...]]:
    names = ("step", "loss", "gradientNorm", "learningRate", "tokens", "sampleDigest")
    return [tuple(row[name] for name in names) for row in read_rows(metrics)]


def test_each_change_is_the_run_that_is_resumed_with_it(shards: Path, tmp_path: Path) -> None:
    """Told after steps 1, 3 and 6, so in force after 2, 4 and 7; the first would end before it began."""
    agent = ToldOne(told={1: numbered(1, steps=1), 3: numbered(2, steps=12), 6: numbered(3, steps=9)})
    live, resumed = tmp_path / "live", tmp_path / "resumed"
    ended: list[Ended] = run_ranks(train_under, 2, agent, tiny_config(shards, live), tmp_path / "live.jsonl")
    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert [report.total_steps for report in ended[1].agent.reports if report.step_seconds is not None] == [
        *[6] * 4,
        *[12] * 3,
        *[9] * 2,
    ]
    for steps, after in ((6, 3), (12, 6), (9, None)):
        config = tiny_config(shards, resumed, [f"training.steps={steps}"])
        legs = run_ranks(train_under, 2, FakeAgent(suspend_after=after), config, tmp_path / "resumed.jsonl")
        assert {end.code for end in legs} == {ExitCode.SUSPENDED if after else ExitCode.SUCCESS}
    assert curve(tmp_path / "live.jsonl") == curve(tmp_path / "resumed.jsonl")
    assert len(curve(tmp_path / "live.jsonl")) == 9


def test_more_steps_that_come_while_the_last_checkpoint_is_written_are_trained(
    shards: Path, tmp_path: Path
) -> None:
    ended: list[Ended] = run_ranks(train_under, 2, ToldLate(), tiny_config(shards, tmp_path))
    assert [end.code for end in ended] == [ExitCode.SUCCESS] * 2
    assert [row.step for row in ended[0].agent.rows] == list(range(1, 11))
    assert [record.step for record in ended[0].agent.checkpoints] == [6, 8, 10]
    kept = {path.name.split(".")[0] for path in (tmp_path / "checkpoints").iterdir() if path.is_dir()}
    assert kept == {"step-8", "step-10"}
