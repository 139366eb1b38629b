"""Which layouts the stages that learn from their own answers (grpo, ppo) are compared on, and how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from footplate_contracts.runconfig import RunConfig
from tests.support.layout_list import GPT2, LLAMA, PLAIN_ADAPTER
from tests.support.layouts import most
from tests.support.plain_llama import Sizes, random_weights, write
from tests.support.reinforced import STOP, History, finished, grpo_config, history, pack_prompts
from tests.support.scores import say_of_scores
from tests.support.tiny import VOCABULARY, tiny_config

STEPS: Final = 5  # the last one of a second rollout
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {"llama": LLAMA, "gpt2": GPT2, "adapter": PLAIN_ADAPTER}
LAYOUTS: Final[Mapping[str, tuple[int, tuple[str, ...]]]] = {
    "two": (2, ()),
    "three": (3, ()),
    "full": (2, ("parallelism={sharding: full}",)),
    "tensor": (2, ("parallelism={tensor: 2}",)),
    "pipeline": (2, ("parallelism={pipeline: 2}",)),
    "context": (2, ("parallelism={context: 2}",)),
    "tensor-full": (4, ("parallelism={tensor: 2, sharding: full}",)),
    "cube": (8, ("parallelism={tensor: 2, pipeline: 2, sharding: full}",)),
    "micro-batch-1": (1, ("training.microBatchSize=1",)),
    "micro-batch-4": (1, ("training.microBatchSize=4",)),
}
STAGES: Final = ("grpo", "ppo")
ROWS: Final = tuple((stage, family, name) for stage in STAGES for family in FAMILIES for name in LAYOUTS)
# Each answer twice; of grpo others in the place of groups that teach nothing.
_COMMON: Final = (
    f"training.steps={STEPS}",
    f"checkpoint.everySteps={STEPS}",
    "training.optimizer={name: sgd, learningRate: 0.2}",
)
_GRPO: Final = ("rollout.generationBatchSize=16", "reinforcement={numIterations: 2, preset: dapo}")


@dataclass(frozen=True)
class Apart:
    """How far a run is from another one, at the step where that is most."""

    loss: float  # absolute
    norm: float  # relative
    weights: float  # absolute, after the last step
    same_answers: bool  # token for token, of those that rows show

    @property
    def is_small(self) -> bool:
        """Whether the two are the same training."""
        return self.same_answers and self.loss <= 3e-6 and self.norm <= 1e-5 and self.weights <= 1e-5


class RolloutLayouts:
    """Trains layouts, and one process of each stage and family to compare them with; in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._alone: dict[tuple[str, str], History] = {}
        self._prompts = pack_prompts(folder)
        sizes = Sizes(vocabulary=VOCABULARY)  # whatever the policy draws
        self._judge = write(folder / "judge", random_weights(17, "score", sizes), sizes)
        self._as_of_the_prompts()

    def _as_of_the_prompts(self) -> None:
        """A reward model reads what the policy does."""
        for name in ("tokenizer.json", "tokenizer_config.json"):
            (self._judge / name).write_bytes((self._folder / "model" / name).read_bytes())
        say_of_scores(self._judge)

    def apart(self, stage: str, family: str, name: str, folder: Path) -> Apart:
        """How far the layout of that name is from one process."""
        if (stage, family) not in self._alone:
            self._alone[stage, family] = self._train(stage, family, 1, (), self._folder / f"{stage}-{family}")
        alone = self._alone[stage, family]
        ranks, more = LAYOUTS[name]
        found = self._train(stage, family, ranks, more, folder)
        assert found.tensors.keys() == alone.tensors.keys()
        answers, expected = (
            {step: [told[:-1] for told in some] for step, some in run.shown.items()} for run in (found, alone)
        )
        return Apart(
            loss=most(abs(mine - other) for mine, other in zip(found.losses, alone.losses, strict=True)),
            norm=most(abs(mine / other - 1) for mine, other in zip(found.norms, alone.norms, strict=True)),
            weights=most(
                (tensor - alone.tensors[name]).abs().max().item() for name, tensor in found.tensors.items()
            ),
            same_answers=answers == expected,
        )

    def _train(self, stage: str, family: str, ranks: int, more: tuple[str, ...], folder: Path) -> History:
        config = self._config(stage, (*FAMILIES[family], *_COMMON, *more), folder)
        return history(folder, STEPS, finished(config, ranks))

    def _config(self, stage: str, more: tuple[str, ...], folder: Path) -> RunConfig:
        if stage == "grpo":
            return grpo_config(self._prompts, folder, *_GRPO, *more)
        functions = "[{name: short, weight: 0.5, length: {tokens: 4}}]"
        ppo = (
            "stage=ppo",
            "model.contextLength=128",
            f"rollout={{maxTokens: 24, generationBatchSize: 16, stop: {STOP}}}",
            "reinforcement={numIterations: 2, missingEosPenalty: 0.5, kl: {target: 0.01, horizon: 100}}",
            f"reward={{uri: {self._judge}, functions: {functions}}}",
            "training.schedule={name: constant}",
        )
        return tiny_config(self._prompts, folder, (*ppo, *more))
