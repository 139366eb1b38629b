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
        "spec.rollout: Required value: rollout is required: how the answers are drawn that stage grpo learns"
        " from",
    ),
    Row(
        "grpo-without-rewards",
        {"stage": "grpo", "rollout.maxTokens": 16},
        "spec.reward: Required value: reward is required: stage grpo learns what a reward model (uri or"
        " run), functions, or both say of its answers",
    ),
    _grpo(
        "functions-that-outlast-a-hang",
        {
            "reward.functions": [
                {"name": "judge", "timeoutSeconds": 360, "function": {"name": "house.judge:score"}}
            ]
        },
        "reward.functions: Invalid value: timeoutSeconds 360 of judge may pass 10 times before an answer is"
        " told, and ranks that tell none for resilience.hang.scoringSeconds 3600 are taken to hang; lower"
        " timeoutSeconds, or set scoringSeconds above 3600",
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
        " told, and ranks that tell none for resilience.hang.scoringSeconds 90 are taken to hang; lower"
        " timeoutSeconds, or set scoringSeconds above 90",
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
        " numGenerations 8; each prompt of a rollout has all answers of its group",
    ),
    *(
        _forbidden(
            f"model.{field}",
            value,
            "stage grpo compares its model with itself as it answered, when nothing is dropped, and"
            f" model.{told} is 0.1; remove it",
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
        "rollout.numGenerations: Invalid value: numGenerations 1 compares an answer with nothing; give at"
        " least 2",
    ),
    _grpo(
        "steps-that-do-not-divide-a-rollout",
        {"rollout.generationBatchSize": 24, "training.globalBatchSize": 16, "training.microBatchSize": 1},
        "rollout.generationBatchSize: Invalid value: generationBatchSize 24 x numIterations 1 cannot be cut"
        " into steps of globalBatchSize 16 answers; change one of them",
    ),
    _grpo(
        "answers-as-long-as-the-context",
        {"rollout.maxTokens": 4096, "model.contextLength": 4096},
        "rollout.maxTokens: Invalid value: maxTokens 4096 leaves a prompt no room in model.contextLength"
        " 4096; lower it",
    ),
    _grpo(
        "without-chance",
        {"rollout.sampling": {"temperature": 0.0}},
        "rollout.sampling.temperature: Invalid value: temperature 0 draws the same answer for all of a group;"
        " give one above 0",
    ),
    *(
        _grpo(
            f"reward-whose-name-is-no-row's-{kind}",
            {"reward.functions": [{"name": name, "length": {}}]},
            f"reward.functions[0].name: Invalid value: name {name} must be at most 55 letters, digits and"
            " _ . / -; rows call it rewards/name",
        )
        for kind, name in (("blank", "my reward"), ("length", "n" * 56))
    ),
    _forbidden(
        "rollout.output",
        {"uri": "/answers"},
        "output is where stage generate leaves its answers, and stage is grpo; remove it",
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
        "kl.placement reward is of stage ppo, and stage is grpo; use loss",
    ),
    _grpo(
        "target-of-no-coefficient",
        {"reinforcement.kl.target": 0.5},
        "reinforcement.kl.target: Invalid value: kl.target moves kl.coefficient, which is 0; state one above"
        " 0, or remove target",
    ),
    _grpo(
        "short-horizon",
        {"reinforcement.kl": {"target": 0.5, "coefficient": 0.1, "horizon": 1}},
        "reinforcement.kl.horizon: Invalid value: kl.horizon must be more than a fifth of the 8 answers of a"
        " rollout, or one rollout could take all of kl.coefficient; raise it",
    ),
    _grpo(
        "reference-of-no-coefficient",
        {"reinforcement.reference": {"uri": "/models/one"}},
        "reinforcement.reference: Invalid value: reference is what kl.coefficient keeps the model near, and"
        " that is 0; state one above 0, or remove reference",
    ),
    _forbidden(
        "reinforcement.reference.precomputed",
        True,
        "reference.precomputed is of stage dpo: nobody knows beforehand what a model answers; remove it",
    ),
    _forbidden(
        "reinforcement.kl.estimator",
        "k1",
        "kl.estimator k1 has no gradient in expectation where the KL is a part of the loss; use k2 or k3",
    ),
    _grpo(
        "two-rewards-of-one-name",
        {"reward": {"uri": "/models/judge", "functions": [{"name": "model", "length": {}}]}},
        "reward.functions: Invalid value: a function is called model, as the reward model is; give it another"
        " name",
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
        "stage grpo minimises what reinforcement says, and training.loss says something else; remove it",
    ),
    _forbidden(
        "validation",
        {"everySteps": 10, "uri": "/data/held-out"},
        "stage grpo has no loss on held-out prompts, which validation asks for; remove it",
    ),
)
