"""What tests of stages grpo, ppo and generate use: prompts, and rewards that differ by chance."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from string import ascii_lowercase as LETTERS
from typing import Final

import pytest
import torch

from footplate_contracts.directives import Command
from footplate_contracts.logs import configure
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import ExitCode, LogFormat
from footplate_contracts.reports import CheckpointRecord, RankPhase, RankReport
from footplate_contracts.runconfig import RunConfig
from footplate_contracts.samples import LoggedSample
from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.rollout import journal
from footplate_trainer.rollout.advantages import complete_reward_sums
from footplate_trainer.rollout.collector import RolloutCollector
from footplate_trainer.rollout.groups import GroupPlan
from footplate_trainer.rollout.journal_keys import JournalKey
from footplate_trainer.rollout.journal_records import CollectedRollout, Record, RolloutState, key_of
from footplate_trainer.stages import generate_stage, online_stages
from tests.support.chat import chatml_model, user
from tests.support.checkpoints import whole_tensors
from tests.support.ranks import run_ranks
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import FakeAgent

CONTEXT: Final = 128  # holds the longest prompt and its answer
GROUP: Final = 4
# Ends an answer of random bytes after some 20 tokens, so that lengths, which are rewarded, differ.
STOP: Final = "[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]"
GRPO: Final = (
    "stage=grpo",
    f"model.contextLength={CONTEXT}",
    f"rollout={{maxTokens: 24, numGenerations: {GROUP}, stop: {STOP}}}",
    "reward.functions=[{name: short, length: {tokens: 4}}, {name: long, weight: 0, length: {}}]",
    "training.schedule={name: constant}",
)


def pack_prompts(folder: Path, count: int = 12, model: Path | None = None) -> Path:
    """Shards of `count` prompts of some 60 tokens, no two alike; a function may leave word in `folder`.

    Of the tokenizer and template of `model`, or of bytes.
    """
    model, told = model or chatml_model(folder / "model"), str(folder)
    rows = [
        {"prompt": [user(_said(number))], "answer": str(number), "folder": told} for number in range(count)
    ]
    source = folder / "prompts.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return pack_conversations(source, folder / "shards", model, format=RecordKind.PROMPTS)


def _said(number: int) -> str:
    """By the user of the prompt of that number: longer ones of the same letters behind the last letter."""
    again, letter = divmod(number, len(LETTERS))
    return LETTERS[letter] * (5 * again + number % 5 + 1)


def grpo_config(shards: Path, folder: Path, *more: str) -> RunConfig:
    """A run of 6 steps of 8 answers to 2 prompts each, unless `more` says otherwise."""
    return tiny_config(shards, folder, (*GRPO, *more))


@dataclass
class Interrupting(FakeAgent):
    """Does something to its rank when that asks for commands in the middle of what a step waits for."""

    phase: RankPhase | None = None
    after_step: int = 0
    looks: int = 1  # at the command, in that phase, before it happens
    kills: bool = False  # else it asks for a suspension
    rank: int | None = None  # whose agent it is to be; None: each rank's
    asked: bool = False

    def command(self) -> Command:
        last = self.reports[-1]
        if last.phase is self.phase and last.step == self.after_step and self.rank in (None, last.rank):
            self.looks -= 1
            if self.looks <= 0 and self.kills:
                os.kill(os.getpid(), signal.SIGKILL)
            self.asked = self.asked or self.looks <= 0
        return Command.CHECKPOINT_AND_EXIT if self.asked else super().command()


MOMENTS: Final = {
    "drawing": Interrupting(phase=RankPhase.ROLLOUT, after_step=4, looks=12),
    "drawing-the-first": Interrupting(phase=RankPhase.ROLLOUT, after_step=0, looks=12),
    "scoring": Interrupting(phase=RankPhase.SCORING, after_step=4, looks=1),
    "between-updates": Interrupting(phase=RankPhase.COMPUTE, after_step=6, looks=1),
}
"""Of a run whose rollouts are four steps each."""


@dataclass
class Mortal(FakeAgent):
    """Its process is killed when the agent is told or asked something for the `dies_at`th time."""

    dies_at: int = 0  # 0: it lives
    moments: int = 0

    def report(self, report: RankReport) -> None:
        self._live()
        super().report(report)

    def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
        self._live()
        super().metrics(row, samples)

    def grant(self, step: int) -> bool:
        self._live()
        return super().grant(step)

    def checkpoint(self, record: CheckpointRecord) -> None:
        self._live()
        super().checkpoint(record)

    def command(self) -> Command:
        self._live()
        return super().command()

    def _live(self) -> None:
        self.moments += 1
        if self.moments == self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Reinforced:
    """How a rank's program ended, and what it said."""

    code: int
    stderr: str
    agent: FakeAgent
    drawn: Mapping[int, int] = field(default_factory=dict)  # answers, by the step after which rollouts began

    @property
    def parts(self) -> tuple[Reinforced, Reinforced]:
        """What a checkpoint brought of starts before this one, and what this one did."""
        again = FakeAgent(
            rows=[row.metrics for row in self.agent.rows_again],
            samples={row.metrics.step: row.samples or [] for row in self.agent.rows_again},
        )
        return Reinforced(0, "", again), self

    @property
    def losses(self) -> list[float]:
        return [row.loss for row in self.agent.rows]

    @property
    def norms(self) -> list[float]:
        return [row.gradient_norm for row in self.agent.rows]


@dataclass(frozen=True)
class History:
    """What a run did, whoever did it."""

    losses: list[float]
    norms: list[float]
    rewards: list[float]
    shown: dict[int, list[tuple[int, int, str, float | None]]]  # step -> answers in its row, with their sums
    tensors: dict[str, torch.Tensor]
    drawn: dict[int, int]  # answers, by the step after which rollouts began; of starts that were not killed

    def check_equal(self, other: History) -> None:
        assert len(self.losses) == len(other.losses)
        assert self.losses == pytest.approx(other.losses, rel=0, abs=3e-6)
        assert self.norms == pytest.approx(other.norms, rel=1e-5)
        assert self.rewards == pytest.approx(other.rewards, rel=1e-5)
        common = sorted(self.shown.keys() & other.shown.keys())
        mine, theirs = (
            [told for step in common for told in shown[step]] for shown in (self.shown, other.shown)
        )
        assert [told[:-1] for told in mine] == [told[:-1] for told in theirs]
        sums, expected = ([told[-1] for told in some] for some in (mine, theirs))
        assert sums == pytest.approx(expected, rel=1e-5, abs=1e-6), "a reward model's are of a layout"
        assert self.tensors.keys() == other.tensors.keys()
        for name, tensor in self.tensors.items():
            torch.testing.assert_close(tensor, other.tensors[name], rtol=0, atol=1e-5)


def history(folder: Path, steps: int, *parts: Reinforced) -> History:
    """Of the starts of a run of `steps`, in order: of steps that were trained twice, the last."""
    rows = {row.step: row for part in parts for row in part.agent.rows}
    assert sorted(rows) == list(range(1, steps + 1))
    ordered = [rows[step] for step in sorted(rows)]
    return History(
        [row.loss for row in ordered],
        [row.gradient_norm for row in ordered],
        [row.values["reward/sum"] for row in ordered],
        {
            step: [(told.prompt, told.sibling, told.answer_text, told.reward) for told in some]
            for part in parts
            for step, some in part.agent.samples.items()
            if some
        },
        whole_tensors(CheckpointStore(str(folder / "checkpoints")), steps),
        {step: count for part in parts for step, count in part.drawn.items()},
    )


def kept_in(folder: Path, step: int) -> RolloutState:
    """What the journal of a run in `folder` has of the rollout that began after `step`."""
    store = LocalFolder(str(folder / "checkpoints"))
    assert journal.list_journal_files(store, step), "somebody has begun it"
    keys = [key for file in journal.list_journal_files(store, step) if (key := key_of(store.read(file.name)))]
    assert all(key == keys[0] for key in keys), "one run has written all"
    return journal.read_rollout(store, step, keys[0])


def killed_and_resumed(
    config: RunConfig, folder: Path, whole: History, moment: Interrupting, before: int, after: int
) -> History:
    """Of a run of `before` ranks whose last one is killed at `moment`, and that goes on with `after`.

    What its journal has by then is not drawn again, of all that a `whole` run draws.
    """
    steps, begun = len(whole.losses), max(step for step in whole.drawn if step <= moment.after_step)
    agent = replace(moment, kills=True, rank=before - 1)
    with pytest.raises(AssertionError, match="ended without an answer"):
        run_ranks(reinforce, before, agent, config)
    kept = kept_in(folder, begun)
    # Other ranks that train up to there once more reach other last bits, and draw all with those.
    known = before == after or max(CheckpointStore(config.checkpoint.uri).steps(), default=0) >= begun
    end = run_ranks(reinforce, after, FakeAgent(), config)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    assert kept.samples and end.drawn[begun] == whole.drawn[begun] - (len(kept.samples) if known else 0)
    return history(folder, steps, *end.parts)


class NotingGatherer(RolloutCollector):
    """Notes what it draws."""

    drawn: dict[int, int] = {}

    def collect(
        self, step: int, first: int, key: JournalKey, plan: GroupPlan | None = None
    ) -> CollectedRollout | None:
        found = super().collect(step, first, key, plan)
        if found is not None:
            self.drawn[step] = found.drawn
        return found


class PlayedGatherer(RolloutCollector):
    """Gives what was drawn and rewarded elsewhere."""

    rollouts: Mapping[int, Sequence[Record]] = {}  # by the step after which each begins

    def collect(
        self, step: int, first: int, key: JournalKey, plan: GroupPlan | None = None
    ) -> CollectedRollout | None:
        kept = RolloutState()
        kept.add(self.rollouts[step])
        places = sorted({known.prompt for known in kept.samples})
        assert places[0] == first
        if self._model is not None:
            self._journal.start_rollout(step, key)
            self._model.complete(kept, sorted(kept.samples), lambda: False)
        sums = complete_reward_sums(kept, self._weights)
        return CollectedRollout(step, first, len(places), places, 0, kept, sums, self._weights)


def reinforce(
    agent: FakeAgent, config: RunConfig, rollouts: Mapping[int, Sequence[Record]] | None = None
) -> Reinforced:
    """Train as one rank of the agent behind `agent`; by `rollouts`, where these are played."""
    configure("footplate_trainer", log_format=LogFormat.TEXT)
    PlayedGatherer.rollouts, NotingGatherer.drawn = rollouts or {}, {}
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = online_stages.main(config, agent, None, PlayedGatherer if rollouts else NotingGatherer)
    return Reinforced(int(code), stderr.getvalue(), agent, NotingGatherer.drawn)


def finished(config: RunConfig, ranks: int = 1, agent: FakeAgent | None = None) -> Reinforced:
    """A start of the run to its end."""
    end: Reinforced = run_ranks(reinforce, ranks, agent or FakeAgent(), config)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    return end


# -- answers that stage generate draws -------------------------------------------------------------


REWARDED: Final = "reward.functions=[{name: short, length: {tokens: 4}}]"


def generate_config(shards: Path, folder: Path, *more: str) -> RunConfig:
    """3 rollouts of 16 answers, 4 to a prompt, whose answers go to `folder`/answers."""
    output = f"output: {{uri: {folder / 'answers'}}}"
    stated = (
        "stage=generate",
        f"model.contextLength={CONTEXT}",
        f"rollout={{maxTokens: 24, numGenerations: {GROUP}, generationBatchSize: 16, stop: {STOP},"
        f" {output}}}",
        "training.steps=3",
    )
    return tiny_config(shards, folder, (*stated, *more))


def generate(agent: FakeAgent, config: RunConfig) -> Reinforced:
    """Answer as one rank of the agent behind `agent`."""
    configure("footplate_trainer", log_format=LogFormat.TEXT)
    with contextlib.redirect_stderr(io.StringIO()) as stderr:
        code = generate_stage.main(config, agent)
    return Reinforced(int(code), stderr.getvalue(), agent)
