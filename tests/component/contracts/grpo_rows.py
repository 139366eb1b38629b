"""Rows for stage grpo: what it needs, and what of its sections it does not take."""

from __future__ import annotations

from tests.component.contracts.row import Row


def _grpo(name: str, changes: dict[str, object], complaint: str) -> Row:
    """A run of stage grpo with `changes` leads to `complaint`, behind "spec."."""
    sound = {"stage": "grpo", "rollout.maxTokens": 16, "reward.functions": [{"name": "short", "length": {}}]}
    return Row(f"grpo-{name}", {**sound, **changes}, f"spec.{complaint}")


def _forbidden(field: str, value: object, says: str, blamed: str | None = None) -> Row:
    return _grpo(field, {field: value}, f"{blamed or field}: Forbidden: {says}")


_OF_PPO = {
    "scorePosition": "lastToken",
    "gamma": 0.9,
    "gaeLambda": 0.9,
    "whitening": True,
    "missingEosPenalty": 1.0,
    "value": {},
}

GRPO: tuple[Row, ...] = (
    Row(
        "grpo-without-rollout",
        {"stage": "grpo", "reward.functions": [{"name": "short", "length": {}}]},
        "spec.rollout: Required value: rollout is required: settings for the answers that stage grpo learns"
        " from",
    ),
    Row(
        "grpo-without-rewards",
        {"stage": "grpo", "rollout.maxTokens": 16},
        "spec.reward: Required value: reward is required: stage grpo needs a reward model (uri or run),"
        " functions, or both to score its answers",
    ),
    _grpo(
        "functions-that-outlast-a-hang",
        {
            "reward.functions": [
                {"name": "judge", "timeoutSeconds": 360, "function": {"name": "house.judge:score"}}
            ]
        },
        "reward.functions: Invalid value: timeoutSeconds 360 of judge may pass 10 times before an answer is"
        " scored, and ranks without a scored answer for resilience.hang.scoringSeconds 3600 count as"
        " hanging; lower timeoutSeconds, or set scoringSeconds above 3600",
    ),
    _grpo(
        "what-is-built-in-outlasts-a-hang",
        {
            "reward.functions": [
                {"name": "short", "timeoutSeconds": 90, "length": {}},  # which asks nobody
                {"name": "equal", "timeoutSeconds": 90, "mathVerify": {}},
            ],
            "resilience.hang.scoringSeconds": 90,
        },
        "reward.functions: Invalid value: timeoutSeconds 90 of equal may pass 1 times before an answer is"
        " scored, and ranks without a scored answer for resilience.hang.scoringSeconds 90 count as hanging;"
        " lower timeoutSeconds, or set scoringSeconds above 90",
    ),
    _grpo(
        "of-an-encoder",
        {"model.architecture": "encoder"},
        "stage: Invalid value: stage grpo trains decoders, and model.architecture is encoder; change one of"
        " them",
    ),
    _grpo(
        "groups-that-do-not-divide-the-batch",
        {"training.globalBatchSize": 12, "training.microBatchSize": 1},
        "rollout.generationBatchSize: Invalid value: generationBatchSize 12 is not a multiple of"
        " numGenerations 8; each prompt of a rollout gets numGenerations answers",
    ),
    *(
        _forbidden(
            f"model.{field}",
            value,
            f"stage grpo compares its model with the generating one, which uses no dropout, and model.{told}"
            " is 0.1; remove it",
            blamed=f"model.{told}",
        )
        for field, value, told in (
            *((f"dropout.{part}", 0.1, f"dropout.{part}") for part in ("hidden", "attention", "embedding")),
            ("adapter", {"dropout": 0.1}, "adapter.dropout"),
        )
    ),
    _grpo(
        "of-single-answers",
        {"rollout.numGenerations": 1},
        "rollout.numGenerations: Invalid value: numGenerations 1 leaves no other answer to compare with;"
        " use at least 2",
    ),
    _grpo(
        "steps-that-do-not-divide-a-rollout",
        {"rollout.generationBatchSize": 24, "training.globalBatchSize": 16, "training.microBatchSize": 1},
        "rollout.generationBatchSize: Invalid value: generationBatchSize 24 x numIterations 1 cannot be"
        " split into steps of globalBatchSize 16 answers; change one of them",
    ),
    _grpo(
        "answers-as-long-as-the-context",
        {"rollout.maxTokens": 4096, "model.contextLength": 4096},
        "rollout.maxTokens: Invalid value: maxTokens 4096 leaves no room for a prompt in"
        " model.contextLength 4096; lower it",
    ),
    _grpo(
        "without-chance",
        {"rollout.sampling": {"temperature": 0.0}},
        "rollout.sampling.temperature: Invalid value: temperature 0 generates the same answer for a whole"
        " group; set it above 0",
    ),
    *(
        _grpo(
            f"reward-whose-name-is-no-row's-{kind}",
            {"reward.functions": [{"name": name, "length": {}}]},
            f"reward.functions[0].name: Invalid value: name {name} must be at most 55 letters, digits and _"
            " . / -; it becomes rewards/NAME in metrics",
        )
        for kind, name in (("blank", "my reward"), ("length", "n" * 56))
    ),
    _forbidden(
        "rollout.output",
        {"uri": "/answers"},
        "output is for stage generate, and stage is grpo; remove it",
    ),
    *(
        _forbidden(
            f"reinforcement.{field}", value, f"{field} is a field of stage ppo, and stage is grpo; remove it"
        )
        for field, value in _OF_PPO.items()
    ),
    _grpo(
        "all-answers-overlong",
        {"reinforcement.overlongTokens": 17},
        "reinforcement.overlongTokens: Invalid value: overlongTokens 17 is above rollout.maxTokens 16; lower"
        " it",
    ),
    _forbidden(
        "reinforcement.kl.placement",
        "reward",
        "kl.placement reward is for stage ppo, and stage is grpo; use loss",
    ),
    _grpo(
        "target-of-no-coefficient",
        {"reinforcement.kl.target": 0.5},
        "reinforcement.kl.target: Invalid value: kl.target scales kl.coefficient, which is 0; set that"
        " above 0, or remove target",
    ),
    _grpo(
        "short-horizon",
        {"reinforcement.kl": {"target": 0.5, "coefficient": 0.1, "horizon": 1}},
        "reinforcement.kl.horizon: Invalid value: kl.horizon must be more than a fifth of the 8 answers of"
        " a rollout, or one rollout could reduce kl.coefficient to 0; raise it",
    ),
    _grpo(
        "reference-of-no-coefficient",
        {"reinforcement.reference": {"uri": "/models/one"}},
        "reinforcement.reference: Invalid value: reference has no effect while kl.coefficient is 0; set"
        " that above 0, or remove reference",
    ),
    _forbidden(
        "reinforcement.reference.precomputed",
        True,
        "reference.precomputed is for stage dpo, since a trained model's answers are not known in advance;"
        " remove it",
    ),
    _forbidden(
        "reinforcement.kl.estimator",
        "k1",
        "kl.estimator k1 has no gradient in expectation when the KL is part of the loss; use k2 or k3",
    ),
    _grpo(
        "two-rewards-of-one-name",
        {"reward": {"uri": "/models/judge", "functions": [{"name": "model", "length": {}}]}},
        "reward.functions: Invalid value: a function has the name model, which is the reward model's;"
        " rename it",
    ),
    _forbidden(
        "reward.centering",
        0.5,
        "reward.centering is a field of stage reward, and stage is grpo; remove it",
    ),
    _forbidden(
        "data.masking",
        {"name": "mlm"},
        "stage grpo learns from its own answers, and data.masking hides parts of text; remove it",
    ),
    _forbidden(
        "training.loss",
        {"name": "mse"},
        "stage grpo uses the loss of reinforcement, and training.loss sets another; remove it",
    ),
    _forbidden(
        "validation",
        {"everySteps": 10, "uri": "/data/held-out"},
        "stage grpo has no loss on held-out prompts for validation; remove it",
    ),
)
