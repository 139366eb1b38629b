"""Rows for the sections that some stages have; a complaint is one of several, as no stage has them yet."""

from __future__ import annotations

from collections.abc import Iterator

from tests.component.contracts.generate_rows import GENERATE
from tests.component.contracts.grpo_rows import GRPO
from tests.component.contracts.ppo_rows import PPO
from tests.component.contracts.row import UNSUPPORTED, Row


def _row(path: str, section: dict[str, object], complaint: str, name: str = "") -> Row:
    """`section` at `path` leads to `complaint`, which begins with the member that is to blame."""
    return Row(name or f"{path}-{complaint.split(':')[0]}", {path: section}, f"spec.{path}.{complaint}")


def _within(path: str, section: dict[str, object]) -> tuple[str, dict[str, object]]:
    """`section` at `path` as a change of the first section in it: the others are absent in a good run."""
    first, *rest = path.split(".")
    for part in reversed(rest):
        section = {part: section}
    return first, section


def _frozen(path: str) -> Iterator[Row]:
    """What may be wrong with a model that is not trained."""
    for name, model, complaint in (
        (
            "other-host",
            {"uri": "file://host/models"},
            "uri: Invalid value: uri file://host/models names another host; write file:/// and a path on"
            " a mounted volume",
        ),
        (
            "uri-and-run",
            {"uri": "/models/one", "run": {"name": "other"}},
            "uri: Invalid value: uri /models/one and run other are both set; the weights can come from only"
            " one of them",
        ),
        (
            "run-checkpoint",
            {"run": {"name": "other", "checkpoint": "newest"}},
            "run.checkpoint: Invalid value: checkpoint newest is neither latest, best, promoted nor a step",
        ),
        (
            "run-mark",
            {"run": {"name": "other", "promotedName": "good"}},
            "run.promotedName: Forbidden: promotedName is for checkpoint promoted, and checkpoint is"
            " latest; remove it",
        ),
    ):
        first, section = _within(path, dict(model))
        yield Row(f"{path}-{name}", {first: section}, f"spec.{path}.{complaint}")


def _of_other_losses() -> Iterator[Row]:
    """Fields of `preference` that another loss has."""
    for field, value, loss, owners in (
        ("labelSmoothing", 0.1, "hinge", "sigmoid"),
        ("smoothing", "robust", "ipo", "sigmoid"),
        ("logProbabilities", "sum", "kto", "ipo"),
        ("margin", 0.5, "orpo", "simpo"),
        ("desirableWeight", 2.0, "sigmoid", "kto"),
        ("undesirableWeight", 2.0, "sigmoid", "kto"),
        ("reference", {"uri": "/models/one"}, "simpo", "sigmoid and hinge and ipo and kto"),
    ):
        complaint = f"{field}: Forbidden: {field} is a field of {owners}, and loss is {loss}; remove it"
        yield _row("preference", {"loss": loss, field: value}, complaint)


STAGES: tuple[Row, ...] = (
    *(
        Row(
            f"{field}-of-pretrain",
            {field: value},
            f"spec.{field}: Forbidden: {field} is a field of stage {stages}, and stage is pretrain; remove"
            " it",
        )
        for field, value, stages in (
            ("data.mask", "all", "sft and dpo"),
            ("data.overlong", "drop", "sft and reward and dpo"),
            ("training.neftune", 5.0, "sft"),
            ("preference", {}, "dpo"),
            ("reward", {}, "reward and ppo and grpo and generate"),
            ("rollout", {"maxTokens": 16}, "ppo and grpo and generate"),
        )
    ),
    *(
        Row(
            f"reward.{field}-of-reward",
            {"stage": "reward", "reward": {"uri": "/models/one", field: value}},
            f"spec.reward.{field}: Forbidden: reward.{field} is for stages that reward answers, and stage is"
            " reward; remove it",
        )
        for field, value in (
            ("uri", "/models/one"),
            ("run", {"name": "other"}),
            ("weight", 2.0),
            ("normalization", "running"),
            ("functions", [{"name": "a", "length": {}}]),
            ("maxMissingRewardRatio", 0.5),
        )
    ),
    Row(
        "reward-of-cut-answers",
        {"stage": "reward", "data.overlong": "cut"},
        "spec.data.overlong: Invalid value: data.overlong cut would compare answers without their ends; use"
        " refuse or drop",
    ),
    *(
        Row(
            f"reward-by-{field}",
            {"stage": "reward", "training.loss": {field: value}},
            "spec.training.loss: Forbidden: stage reward compares scores, and training.loss is a loss of"
            " tokens; remove it",
        )
        for field, value in (("name", "mse"), ("zLoss", 0.1), ("labelSmoothing", 0.1))
    ),
    Row(
        "reward-of-an-encoder",
        {"stage": "reward", "model.architecture": "encoder"},
        "spec.stage: Invalid value: stage reward trains decoders, and model.architecture is encoder; change"
        " one of them",
    ),
    Row(
        "reward-with-masking",
        {"stage": "reward", "data.masking": {"name": "mlm"}},
        "spec.data.masking: Forbidden: stage reward uses samples as packed, and data.masking hides parts of"
        " text; remove it",
    ),
    Row(
        "dpo-with-noise",
        {"stage": "dpo", "training.neftune": 5.0},
        "spec.training.neftune: Forbidden: training.neftune is a field of stage sft, and stage is dpo; remove"
        " it",
    ),
    Row(
        "dpo-with-a-mask",
        {"stage": "dpo", "data.mask": "all"},
        "spec.data.mask: Forbidden: in stage dpo, data.mask is for loss orpo only: all, or completion as"
        " packed; remove data.mask all",
    ),
    Row(
        "dpo-of-cut-answers",
        {"stage": "dpo", "data.overlong": "cut"},
        "spec.data.overlong: Forbidden: data.overlong cut is for stage sft, since compared answers must be"
        " whole; use refuse or drop",
    ),
    Row(
        "dpo-of-an-encoder",
        {"stage": "dpo", "model.architecture": "encoder"},
        "spec.stage: Invalid value: stage dpo trains decoders, and model.architecture is encoder; change one"
        " of them",
    ),
    Row(
        "dpo-by-another-loss",
        {"stage": "dpo", "training.loss": {"name": "mse"}},
        "spec.training.loss: Forbidden: stage dpo uses samples as packed, with crossEntropy, and"
        " training.loss is mse; remove it",
    ),
    Row(
        "kto-computed-beforehand",
        {"stage": "dpo", "preference": {"loss": "kto", "reference": {"precomputed": True}}},
        "spec.preference.reference.precomputed: Forbidden: precomputed does not work with loss kto, which"
        " pairs prompts and answers differently in each epoch; remove it",
    ),
    Row(
        "kto-of-one",
        {
            "stage": "dpo",
            "preference": {"loss": "kto"},
            "training.globalBatchSize": 1,
            "training.microBatchSize": 1,
        },
        "spec.training.globalBatchSize: Invalid value: globalBatchSize 1 has no second sample for the"
        " mismatched answers of loss kto; use 2 or more",
    ),
    Row(
        "reinforcement-of-pretrain",
        {"reinforcement": {}},
        "spec.reinforcement: Forbidden: reinforcement is for stages ppo and grpo, and stage is pretrain;"
        " remove it",
    ),
    *GRPO,
    *PPO,
    *GENERATE,
    Row(
        "sft-of-an-encoder",
        {"stage": "sft", "model.architecture": "encoder"},
        "spec.stage: Invalid value: stage sft trains decoders, and model.architecture is encoder; change one"
        " of them",
    ),
    Row(
        "sft-with-masking",
        {"stage": "sft", "data.masking": {"name": "mlm"}},
        "spec.data.masking: Forbidden: stage sft uses samples as packed, and data.masking hides parts of"
        " text; remove it",
    ),
    Row(
        "sft-across-samples",
        {"stage": "sft", "data.packing": {"crossDocumentAttention": True}},
        "spec.data.packing: Forbidden: stage sft uses samples as packed, which must not attend to each"
        " other; remove data.packing.crossDocumentAttention",
    ),
    Row(
        "sft-by-another-loss",
        {"stage": "sft", "training.loss": {"name": "mse"}},
        "spec.training.loss: Forbidden: stage sft uses samples as packed, with crossEntropy, and"
        " training.loss is mse; remove it",
    ),
    *(
        row
        for path in ("preference.reference", "reward", "reinforcement.reference", "reinforcement.value")
        for row in _frozen(path)
    ),
    *_of_other_losses(),
    _row("preference", {"beta": 0.0}, "beta: Invalid value: beta must be above 0, not 0"),
    _row(
        "preference",
        {"labelSmoothing": 0.5},
        "labelSmoothing: Invalid value: labelSmoothing must be below 0.5, not 0.5: more would reverse"
        " preferences",
        "preference-half-smoothed",
    ),
    *(
        _row(
            "reward",
            {field: value},
            f"{field}: Forbidden: {field} belongs to the reward model, and neither uri nor run is set;"
            " remove it",
        )
        for field, value in (("weight", 2.0), ("normalization", "running"))
    ),
    _row(
        "reward",
        {"functions": [{"name": "a", "length": {}}, {"name": "a", "mathVerify": {}}]},
        "functions: Invalid value: two functions have the same name; metrics need distinct names",
    ),
    *(
        _row(
            "reward",
            {"functions": [{"name": "a", **kinds}]},
            "functions[0].name: Invalid value: reward a must set exactly one of function, number,"
            " mathVerify, regularExpression, jsonSchema, length",
            f"reward-of-{len(kinds)}-kinds",
        )
        for kinds in ({}, {"length": {}, "mathVerify": {}})
    ),
    _row(
        "reward",
        {"functions": [{"name": "a", "function": {"name": "score"}}]},
        "functions[0].function.name: Invalid value: name score is not of the form package.module:function",
    ),
    _row(
        "reward",
        {"functions": [{"name": "a", "programTests": {}}]},
        f"functions[0].programTests: Forbidden: programTests {UNSUPPORTED}; remove it",
    ),
    _row(
        "reinforcement",
        {"kl": {"target": 0.0}},
        "kl.target: Invalid value: target must be above 0, not 0",
    ),
    _row(
        "reinforcement",
        {"kl": {"horizon": 100}},
        "kl.horizon: Invalid value: horizon needs target, which is absent; set target, or remove it",
    ),
    _row(
        "reinforcement",
        {"kl": {"target": 0.1, "coefficient": 0.0}},
        "kl.coefficient: Invalid value: coefficient 0 stays 0 when target scales it; set it above 0, or"
        " remove target",
    ),
    _row(
        "reinforcement",
        {"value": {"fromPolicy": True, "uri": "/models/one"}},
        "value.fromPolicy: Invalid value: fromPolicy and uri or run are both set; the weights can come from"
        " only one of them",
    ),
    _row(
        "rollout",
        {"maxTokens": 16, "generationBatchSize": 12, "numGenerations": 8},
        "generationBatchSize: Invalid value: generationBatchSize 12 is not a multiple of numGenerations 8;"
        " each prompt of a rollout gets numGenerations answers",
    ),
    _row(
        "rollout",
        {"maxTokens": 16, "sampling": {"topP": 0.0}},
        "sampling.topP: Invalid value: topP must be above 0, not 0",
    ),
    _row(
        "rollout",
        {"maxTokens": 16, "output": {"uri": "file://host/answers"}},
        "output.uri: Invalid value: uri file://host/answers names another host; write file:/// and a path on"
        " a mounted volume",
    ),
)
