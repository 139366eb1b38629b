"""What specs alone say about whether one run can give another one what that asks for: a table."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.lineage import run_references
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.trainingrun.policies.reference_check import find_mismatch
from footplate_operator.trainingrun.policies.reference_resolution import resolve
from footplate_operator.trainingrun.run import Run, decode
from tests.support.operator_fakes import run_manifest

NOON = "2026-01-31T12:00:00Z"
BASE = {"name": "base"}
BEST = {"initFrom": {"run": BASE | {"checkpoint": "best"}}}
WEIGHTS: dict[str, Any] = {"initFrom": {"run": BASE}}
REFERENCE = {"stage": "dpo", "preference": {"reference": {"run": BASE}}}
KL = {"stage": "ppo", "reinforcement": {"reference": {"run": BASE}}}
REWARD = {"stage": "grpo", "reward": {"run": BASE}}
ANSWERS = {"stage": "sft", "data": {"run": BASE}}
GENERATE = {"stage": "generate", "rollout": {"maxTokens": 8, "output": {"uri": "/answers"}}}
SIZES = run_manifest()["spec"]["model"]
BERT = {"model": SIZES | {"family": "bert"}}
T5 = {"model": SIZES | {"architecture": "encoder-decoder"}}
SHARED = {"checkpoint": {"uri": "/shared/checkpoints"}}
LOCAL = {"checkpoint": {"uri": "file:///shared/checkpoints/"}}
BELOW = {"checkpoint": {"uri": "/shared/checkpoints/base"}}


def run(name: str, spec: dict[str, Any], **status: Any) -> Run:
    body = run_manifest(name, **{"checkpoint": {"uri": f"/{name}"}, **spec})
    body["metadata"] |= {"uid": f"uid-{name}", "creationTimestamp": NOON}
    return decode(body | {"status": status})


@pytest.mark.parametrize(
    ("spec", "other", "says"),
    [
        pytest.param(WEIGHTS | {"stage": "sft"}, BERT, "an encoder, but stage sft", id="sft-of-an-encoder"),
        pytest.param(
            WEIGHTS | {"stage": "reward"}, T5, "encoder-decoder, but stage reward", id="reward-of-t5"
        ),
        pytest.param(WEIGHTS | {"stage": "generate"}, BERT, "but stage generate needs a", id="generate"),
        pytest.param(REFERENCE, BERT, "an encoder, but preference.reference needs a decoder", id="reference"),
        pytest.param(KL, T5, "but reinforcement.reference needs a decoder", id="reference-of-ppo"),
        pytest.param(WEIGHTS, BERT, "", id="an-encoder-is-pretrained-on"),
        pytest.param(
            WEIGHTS | {"stage": "sft"}, BERT | {"initFrom": {"uri": "/weights"}}, "", id="a-folder-may-differ"
        ),
        pytest.param(
            BEST,
            {"stage": "ppo"},
            "of stage ppo computes no validation loss, so it has no best",
            id="best-of-ppo",
        ),
        pytest.param(
            BEST, {"stage": "grpo"}, "of stage grpo computes no validation loss, so", id="best-of-grpo"
        ),
        pytest.param(WEIGHTS, {"stage": "ppo"}, "", id="latest-of-ppo"),
        pytest.param(BEST, {"stage": "dpo"}, "", id="best-of-dpo-which-may-be-given-validation"),
        pytest.param(
            WEIGHTS | SHARED, SHARED, "both have checkpoint.uri /shared/checkpoints; each", id="one-folder"
        ),
        pytest.param(
            REWARD | SHARED, {"stage": "reward"} | LOCAL, "both have checkpoint.uri", id="of-two-spellings"
        ),
        pytest.param(WEIGHTS | SHARED, BELOW, "", id="a-folder-in-it"),
        pytest.param(ANSWERS | SHARED, GENERATE | SHARED, "", id="answers-lie-elsewhere"),
    ],
)
def test_what_can_never_be_is_seen_in_the_specs(
    spec: dict[str, Any], other: dict[str, Any], says: str
) -> None:
    naming = run("next", spec)
    ((field, reference),) = run_references(naming.spec).items()
    found = find_mismatch(naming, field, reference, run("base", other))
    assert says in found and bool(found) is bool(says)


@pytest.mark.parametrize(
    ("status", "waiting", "says"),
    [
        pytest.param(
            {"phase": "Running"},
            True,
            "which is Running; it has no validation, so none of its checkpoints would be the best: set"
            " validation while it is suspended",
            id="trains",
        ),
        pytest.param(
            {
                "phase": "Succeeded",
                "progress": {"step": 30, "totalSteps": 30},
                "checkpoint": {"latestStep": 30, "uri": "/base/step-30.e1g1", "lastCommittedTime": NOON},
            },
            False,
            "the run has no checkpoint with a validation loss: it has no validation; recreate this run",
            id="has-ended",
        ),
    ],
)
def test_the_best_of_a_run_without_validation(status: dict[str, Any], waiting: bool, says: str) -> None:
    naming = run("next", BEST)
    ((field, reference),) = run_references(naming.spec).items()
    found = resolve(naming, field, reference, run("base", {}, **status))
    assert isinstance(found, ReconcileProblem) and found.waiting is waiting and says in found.message
