"""Rows for stage generate: what it needs, and what of its sections it does not take."""

from __future__ import annotations

from tests.component.contracts.manifests import ABSENT
from tests.component.contracts.row import UNSUPPORTED, Row

_REWARDS = [{"name": "short", "length": {}}]


def _generate(name: str, changes: dict[str, object], complaint: str) -> Row:
    """A run of stage generate with `changes` leads to `complaint`, behind "spec."."""
    sound = {"stage": "generate", "rollout.maxTokens": 16, "rollout.output.uri": "/answers"}
    return Row(f"generate-{name}", {**sound, **changes}, f"spec.{complaint}")


def _forbidden(field: str, value: object, says: str, **more: object) -> Row:
    return _generate(field, {field: value, **more}, f"{field}: Forbidden: {says}; remove it")


GENERATE: tuple[Row, ...] = (
    Row(
        "generate-without-rollout",
        {"stage": "generate"},
        "spec.rollout: Required value: rollout is required: settings for the answers of stage generate",
    ),
    Row(
        "generate-without-output",
        {"stage": "generate", "rollout.maxTokens": 16},
        "spec.rollout.output: Required value: output is required: the folder for the answers of stage"
        " generate",
    ),
    _generate(
        "best-of-what-nothing-rewards",
        {"rollout.numGenerations": 4, "rollout.output.best": 2},
        "rollout.output.best: Invalid value: best 2 needs rewards to compare a prompt's answers; set"
        " reward, or remove best",
    ),
    _generate(
        "more-best-than-answers",
        {"rollout.numGenerations": 4, "rollout.output.best": 5, "reward.functions": _REWARDS},
        "rollout.output.best: Invalid value: best 5 is above the 4 answers per prompt of"
        " rollout.numGenerations; lower it",
    ),
    _generate(
        "rewards-that-nothing-gives",
        {"reward": {}},
        "reward: Required value: reward is empty in stage generate; set a reward model (uri or run),"
        " functions, or both, or remove it",
    ),
    _generate(
        "a-reward-model-and-a-function-of-one-name",
        {"reward": {"run": {"name": "judge"}, "functions": [{"name": "model", "length": {}}]}},
        "reward.functions: Invalid value: a function has the name model, which is the reward model's;"
        " rename it",
    ),
    _generate(
        "a-reward-that-follows-rollouts",
        {"reward": {"uri": "/models/judge", "normalization": "running"}},
        "reward.normalization: Forbidden: normalization running would score the first and last answers of a"
        " data set with different means; use heldOut or none",
    ),
    _generate(
        "from-an-encoder",
        {"model.architecture": "encoder"},
        "stage: Invalid value: stage generate needs a decoder, and model.architecture is encoder; change"
        " one of them",
    ),
    _generate(
        "groups-that-do-not-divide-a-rollout",
        {"rollout.numGenerations": 5},
        "rollout.generationBatchSize: Invalid value: generationBatchSize 8 is not a multiple of"
        " numGenerations 5; each prompt of a rollout gets numGenerations answers",
    ),
    _generate(
        "answers-as-long-as-the-context",
        {"rollout.maxTokens": 4096, "model.contextLength": 4096},
        "rollout.maxTokens: Invalid value: maxTokens 4096 leaves no room for a prompt in"
        " model.contextLength 4096; lower it",
    ),
    _generate(
        "siblings-that-are-equal",
        {"rollout.numGenerations": 2, "rollout.sampling": {"temperature": 0.0}},
        "rollout.sampling.temperature: Invalid value: temperature 0 generates the same answer 2 times for"
        " rollout.numGenerations; set it above 0, or use numGenerations 1",
    ),
    _generate(
        "several-folders-of-prompts",
        {"data.uri": ABSENT, "data.sources": [{"name": "a", "uri": "/a"}, {"name": "b", "uri": "/b"}]},
        "data.sources: Forbidden: data.sources mixes folders by weight, and stage generate answers each"
        " prompt once; pack the prompts into one folder, and set data.uri to it",
    ),
    _forbidden("rollout.batchInvariant", True, f"batchInvariant {UNSUPPORTED}"),
    _forbidden(
        "reward.centering",
        0.01,
        "reward.centering is a field of stage reward, and stage is generate",
        **{"reward.functions": _REWARDS},
    ),
    _forbidden(
        "resumeFrom",
        {"uri": "/other"},
        "resumeFrom continues training, which stage generate does not do (initFrom sets its weights)",
    ),
    _forbidden(
        "data.masking",
        {"name": "mlm"},
        "stage generate answers prompts, and data.masking hides parts of text",
    ),
    _forbidden(
        "training.loss",
        {"name": "mse"},
        "stage generate has no loss, and training.loss sets one",
    ),
    _forbidden(
        "validation",
        {"uri": "/held-out", "everySteps": 1},
        "stage generate has no loss on held-out prompts for validation",
    ),
    _forbidden(
        "reinforcement",
        {},
        "reinforcement is for stages ppo and grpo, and stage is generate",
    ),
)
