"""Rows for adapters, and for the fields of loss, optimizer and schedule that some of their kinds have."""

from __future__ import annotations

from tests.component.contracts.row import Row

LEARNING: tuple[Row, ...] = (
    Row(
        "loss-of-no-name",
        {"training.loss.name": "hinge"},
        "spec.training.loss.name: Invalid value: name hinge is neither crossEntropy, mse, contrastive "
        "nor of the form package.module:function",
    ),
    *(
        Row(
            f"{field}-with-{name}",
            {"training.loss.name": name, f"training.loss.{field}": value},
            f"spec.training.loss.{field}: Forbidden: {field} is a field of {owner}, "
            f"and name is {name}; remove it",
        )
        for field, value, name, owner in (
            ("labelSmoothing", 0.1, "mse", "crossEntropy"),
            ("zLoss", 0.1, "my.losses:one", "crossEntropy"),
            ("temperature", 0.1, "crossEntropy", "contrastive"),
        )
    ),
    Row(
        "temperature-of-zero",
        {"training.loss.name": "contrastive", "training.loss.temperature": 0.0},
        "spec.training.loss.temperature: Invalid value: temperature must be above 0, not 0",
    ),
    *(
        Row(
            f"{field}-with-{name}",
            {"training.optimizer.name": name, f"training.optimizer.{field}": value},
            f"spec.training.optimizer.{field}: Forbidden: {field} is a field of {owners}, "
            f"and name is {name}; remove it",
        )
        for field, value, name, owners in (
            ("betas", [0.9, 0.99], "sgd", "adam and adamw"),
            ("epsilon", 1e-6, "adafactor", "adam and adamw"),
            ("momentum", 0.9, "adamw", "sgd"),
            ("nesterov", True, "adam", "sgd"),
        )
    ),
    Row(
        "nesterov-without-momentum",
        {"training.optimizer.name": "sgd", "training.optimizer.nesterov": True},
        "spec.training.optimizer.nesterov: Invalid value: nesterov needs a momentum above 0; set momentum,"
        " or remove nesterov",
    ),
    Row(
        "beta-of-one",
        {"training.optimizer.betas": [0.9, 1.0]},
        "spec.training.optimizer.betas: Invalid value: betas 0.9 and 1 must be below 1: at 1 a moment never"
        " changes",
    ),
    Row(
        "decay-share-with-cosine",
        {"training.schedule.decayShare": 0.1},
        "spec.training.schedule.decayShare: Forbidden: decayShare is a field of wsd, "
        "and name is cosine; remove it",
    ),
    Row(
        "adapter-without-weight",
        {"model.adapter": {"alpha": 0}},
        "spec.model.adapter.alpha: Invalid value: alpha must be above 0, not 0",
    ),
    Row(
        "adapter-that-reads-nothing",
        {"model.adapter": {"dropout": 1}},
        "spec.model.adapter.dropout: Invalid value: dropout must be below 1, not 1",
    ),
    Row(
        "adapter-of-full-rank",
        {"model.adapter": {"rank": 200}},
        "spec.model.adapter.rank: Invalid value: adapter.rank 200 is above hiddenSize 64; lower it, since"
        " only low ranks save memory",
    ),
)
