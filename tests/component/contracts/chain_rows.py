"""Rows for what a run names of other runs."""

from __future__ import annotations

from tests.component.contracts.manifests import ABSENT
from tests.component.contracts.row import Row

CHAINS = (
    Row(
        "weights-of-nobody",
        {"initFrom": {"format": "huggingface"}},
        "spec.initFrom.uri: Required value: uri is required: a folder with config.json and *.safetensors;"
        " or run, for a checkpoint of another run",
    ),
    Row(
        "weights-of-a-folder-and-a-run",
        {"initFrom": {"uri": "/models/one", "run": {"name": "base"}}},
        "spec.initFrom.uri: Invalid value: uri /models/one and run base are both set; the weights can come"
        " from only one of them",
    ),
    Row(
        "weights-from-two",
        {"initFrom": {"uri": "/models/one"}, "resumeFrom": {"uri": "/shared/checkpoints/other"}},
        "spec.initFrom: Invalid value: initFrom /models/one and resumeFrom are both set; the weights can"
        " come from only one of them",
    ),
    Row(
        "weights-of-a-run-and-a-warm-start",
        {"initFrom": {"run": {"name": "base"}}, "resumeFrom": {"uri": "/shared/checkpoints/other"}},
        "spec.initFrom: Invalid value: initFrom base and resumeFrom are both set; the weights can come from"
        " only one of them",
    ),
    Row(
        "weights-of-another-checkpoint",
        {"initFrom": {"run": {"name": "base", "checkpoint": "007"}}},
        "spec.initFrom.run.checkpoint: Invalid value: checkpoint 007 is neither latest, best, promoted nor a"
        " step",
    ),
    Row(
        "mark-of-a-step",
        {"initFrom": {"run": {"name": "base", "checkpoint": "7", "promotedName": "good"}}},
        "spec.initFrom.run.promotedName: Forbidden: promotedName is for checkpoint promoted, and checkpoint"
        " is 7; remove it",
    ),
    Row(
        "answers-for-another-stage",
        {"data.run": {"name": "answers"}, "data.uri": ABSENT},
        "spec.data.run: Forbidden: data.run is a field of stage sft, and stage is pretrain; remove it",
    ),
    Row(
        "answers-beside-folders",
        {"data.run": {"name": "answers"}, "data.uri": "/shared/data"},
        "spec.data.run: Invalid value: run answers is set together with uri or sources; use one of them",
    ),
    *(
        Row(
            f"itself-as-{field}",
            {first: {**nested, "run": {"name": "good"}} if not rest else {rest: {"run": {"name": "good"}}}},
            f"spec.{field}.run: Invalid value: {field}.run names the run itself, good; name another one",
        )
        for field, first, rest, nested in (
            ("initFrom", "initFrom", "", {}),
            ("preference.reference", "preference", "reference", {}),
            ("reward", "reward", "", {}),
            ("reinforcement.reference", "reinforcement", "reference", {}),
            ("reinforcement.value", "reinforcement", "value", {}),
            ("data", "data", "", {"uri": "/shared/data"}),
        )
    ),
)
