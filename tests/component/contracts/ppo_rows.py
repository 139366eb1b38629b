"""Rows for stage ppo: what it needs, and what of its sections it does not take."""

from __future__ import annotations

from tests.component.contracts.row import Row


def _ppo(name: str, changes: dict[str, object], complaint: str) -> Row:
    """A run of stage ppo with `changes` leads to `complaint`, behind "spec."."""
    sound = {"stage": "ppo", "rollout.maxTokens": 16, "reward.uri": "/models/judge"}
    return Row(f"ppo-{name}", {**sound, **changes}, f"spec.{complaint}")


def _forbidden(field: str, value: object, says: str) -> Row:
    return _ppo(field, {field: value}, f"{field}: Forbidden: {says}")


_OF_GRPO = {
    "preset": "dapo",
    "groupAdvantage": "groupMean",
    "dynamicSampling": {},
    "overlongTokens": 4,
}

PPO: tuple[Row, ...] = (
    Row(
        "ppo-without-rollout",
        {"stage": "ppo", "reward.uri": "/models/judge"},
        "spec.rollout: Required value: rollout is required: settings for the answers that stage ppo learns"
        " from",
    ),
    Row(
        "ppo-without-rewards",
        {"stage": "ppo", "rollout.maxTokens": 16},
        "spec.reward: Required value: reward is required: stage ppo needs a reward model (uri or run),"
        " functions, or both to score its answers",
    ),
    Row(
        "ppo-without-value-model",
        {"stage": "ppo", "rollout.maxTokens": 16, "reward.functions": [{"name": "short", "length": {}}]},
        "spec.reinforcement.value: Required value: reinforcement.value is required without a reward model,"
        " from which the value model would start; set its fromPolicy, uri or run",
    ),
    _ppo(
        "two-rewards-of-one-name",
        {"reward.functions": [{"name": "model", "length": {}}]},
        "reward.functions: Invalid value: a function has the name model, which is the reward model's;"
        " rename it",
    ),
    Row(
        "ppo-a-run-and-a-function-of-one-name",
        {
            "stage": "ppo",
            "rollout.maxTokens": 16,
            "reward.run": {"name": "judge"},
            "reward.functions": [{"name": "model", "length": {}}],
        },
        "spec.reward.functions: Invalid value: a function has the name model, which is the reward model's;"
        " rename it",
    ),
    _ppo(
        "value-of-a-warm-start",
        {"reinforcement.value": {"fromPolicy": True}, "resumeFrom": {"uri": "/runs/other"}},
        "reinforcement.value.fromPolicy: Forbidden: value.fromPolicy with resumeFrom is not supported by"
        " this release; start with initFrom, or set value.uri",
    ),
    *(
        _forbidden(
            f"reinforcement.{field}", value, f"{field} is a field of stage grpo, and stage is ppo; remove it"
        )
        for field, value in _OF_GRPO.items()
    ),
    _ppo(
        "k1-in-the-loss",
        {"reinforcement.kl": {"estimator": "k1", "placement": "loss"}},
        "reinforcement.kl.estimator: Forbidden: kl.estimator k1 has no gradient in expectation when the KL"
        " is part of the loss; use k2 or k3",
    ),
    _forbidden(
        "reinforcement.importanceSamplingLevel",
        "sequence",
        "importanceSamplingLevel sequence is for stage grpo: with values each token has its own advantage;"
        " use token",
    ),
    _forbidden(
        "reward.centering",
        0.5,
        "reward.centering is a field of stage reward, and stage is ppo; remove it",
    ),
    _forbidden(
        "validation",
        {"everySteps": 10, "uri": "/data/held-out"},
        "stage ppo has no loss on held-out prompts for validation; remove it",
    ),
    _ppo(
        "steps-that-do-not-divide-a-rollout",
        {"rollout.generationBatchSize": 9, "training.globalBatchSize": 8, "training.microBatchSize": 1},
        "rollout.generationBatchSize: Invalid value: generationBatchSize 9 x numIterations 4 cannot be"
        " split into steps of globalBatchSize 8 answers; change one of them",
    ),
    _ppo(
        "steps-of-more-answers-than-a-rollout-has",
        {"rollout.generationBatchSize": 4, "training.globalBatchSize": 8, "training.microBatchSize": 1},
        "rollout.generationBatchSize: Invalid value: generationBatchSize 4 is below the globalBatchSize 8"
        " answers of a step, which would repeat answers; raise it, or lower globalBatchSize",
    ),
)
