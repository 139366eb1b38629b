"""What the runs of cells train: pretraining, or a stage that samples before it learns.

A fault of a rollout comes over a run of stage grpo, one of scoring over one of stage ppo, whose scoring asks
a reference and a value model, too. Their rewards are a built-in one, and a function that takes its time.
"""

from __future__ import annotations

import fcntl
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.v1alpha1.training import Stage
from footplate_trainer.data.layout import MANIFEST_FILE, RecordKind
from tests.support.chat import user
from tests.support.matrix import Phase
from tests.support.runs import Json, changed, tiny
from tests.support.stages import pack_rows

_PROMPTS: Final = "data/fault-prompts"  # on the shared volume
_REWARDS: Final = "rewards"
_FUNCTION: Final = '''\
"""Rewards that are the same for the same text, and take their time."""

import time


def letters(texts):
    """How many different letters there are, for each ten."""
    time.sleep(0.1 * len(texts))
    return [len(set(text)) / 10 for text in texts]


def letters_at_leisure(texts):
    """The same, in a time in which somebody else can see that they are asked for, longer on one rank."""
    time.sleep(sum(0.5 * (len(text) % 2) for text in texts))
    return letters(texts)
'''
_LETTERS: Final = {Stage.GRPO: "letters", Stage.PPO: "letters_at_leisure"}


@dataclass(frozen=True)
class Course:
    """How long a run trains."""

    steps: int
    every: int  # steps between two checkpoints
    first: int  # step from which on it has saved once, and not just now
    timeout: int = 0  # seconds that a call of its reward function may take; 0: it has none

    @property
    def scoring_bound(self) -> int:
        """The shortest `scoringSeconds` that the run may have.

        A call that takes too long is repeated in halves, up to ten timeouts before an answer is told.
        """
        return 10 * self.timeout + 1


COURSES: Final[Mapping[Stage, Course]] = {
    Stage.PRETRAIN: Course(steps=60, every=10, first=13),
    # Two steps of each rollout: so every other checkpoint stands in the middle of one.
    Stage.GRPO: Course(steps=8, every=1, first=2, timeout=3),
    Stage.PPO: Course(steps=8, every=1, first=2, timeout=5),
}


def stage_of(phase: Phase) -> Stage:
    """What a run trains over which a fault comes in that phase."""
    return {Phase.ROLLOUT: Stage.GRPO, Phase.SCORING: Stage.PPO}.get(phase, Stage.PRETRAIN)


def prepare(shared: Path) -> None:
    """Prompts and a reward function, on the volume that all runs of a namespace have.

    Of all who ask, one makes them; what somebody left who was interrupted is made anew.
    """
    prompts, rewards = shared / _PROMPTS, shared / _REWARDS
    rewards.mkdir(parents=True, exist_ok=True)
    with (rewards / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the kernel gives it back, whatever becomes of this process
        if (prompts / "shards" / MANIFEST_FILE).exists():  # which is written last
            return
        shutil.rmtree(prompts, ignore_errors=True)
        (rewards / "slow_reward.py").write_text(_FUNCTION)
        prompts.mkdir(parents=True)
        rows = [{"prompt": [user("x" * (number % 7 + 1))], "answer": str(number)} for number in range(24)]
        pack_rows(rows, prompts, format=RecordKind.PROMPTS)


def trained(stage: Stage, name: str, namespace: str) -> Json:
    """A run of two nodes; what it reads is there, once it is prepared."""
    course = COURSES[stage]
    manifest = changed(tiny(name, namespace, steps=course.steps), "checkpoint.everySteps", course.every)
    return manifest if stage is Stage.PRETRAIN else _sampling(manifest, stage)


def _sampling(manifest: Json, stage: Stage) -> Json:
    """`manifest`, with some seconds for each rollout, and about as many to score it."""
    function = {"name": f"slow_reward:{_LETTERS[stage]}"}
    rewards = [
        {"name": "short", "weight": 0.2, "length": {"tokens": 4}, "timeoutSeconds": 1},
        {"name": "letters", "function": function, "timeoutSeconds": COURSES[stage].timeout},
    ]
    # Of a rollout of grpo a part has to be done: on a quiet machine it lasts a second with long answers.
    rollout: Json = {"maxTokens": 320, "numGenerations": 1, "generationBatchSize": 16, "stop": ["a", "b"]}
    if stage is Stage.GRPO:
        rollout = {"maxTokens": 1408, "numGenerations": 4, "generationBatchSize": 16}
    for path, value in (
        ("stage", stage.value),
        ("model.vocabularySize", 384),
        ("model.contextLength", rollout["maxTokens"] + 128),
        ("data.uri", f"/shared/{_PROMPTS}/shards"),
        ("rollout", rollout),
        ("reward.functions", rewards),
        ("training.schedule", {"name": "constant"}),
        ("trainer.env", [{"name": "PYTHONPATH", "value": f"/shared/{_REWARDS}"}]),
    ):
        manifest = changed(manifest, path, value)
    if stage is Stage.PPO:
        learning = {"numIterations": 1, "value": {"fromPolicy": True}, "missingEosPenalty": 0.5}
        manifest = changed(manifest, "reinforcement", learning)
    return manifest
