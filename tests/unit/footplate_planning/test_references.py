"""Which model a trained one is kept near, and what a plan counts of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_planning.config import model_shape
from footplate_planning.memory import MemoryEstimate, MemoryKind
from footplate_planning.plan import build_plan
from footplate_planning.references import ReferenceKind, holds_reference, reference_kind
from tests.support.tiny import tiny_config

ADAPTER = "model.adapter={rank: 4, alpha: 8}"


def config(*overrides: str) -> RunConfig:
    return tiny_config(Path("/data"), Path("/run"), overrides)


@pytest.mark.parametrize(
    ("overrides", "kind", "held"),
    [
        pytest.param((), ReferenceKind.NONE, False, id="pretrain"),
        pytest.param(("stage=dpo",), ReferenceKind.START, True, id="dpo"),
        pytest.param(("stage=dpo", ADAPTER), ReferenceKind.ADAPTERS_OFF, False, id="adapters"),
        pytest.param(
            ("stage=dpo", "preference.reference={uri: /models/one}"),
            ReferenceKind.ELSEWHERE,
            True,
            id="folder",
        ),
        pytest.param(
            ("stage=dpo", ADAPTER, "preference.reference={uri: /models/one}"),
            ReferenceKind.ELSEWHERE,
            True,
            id="folder-beside-adapters",
        ),
        pytest.param(
            ("stage=dpo", "preference.reference={precomputed: true}"),
            ReferenceKind.START,
            False,
            id="precomputed",
        ),
        pytest.param(("stage=dpo", "preference.loss=kto"), ReferenceKind.START, True, id="kto"),
        pytest.param(("stage=dpo", "preference.loss=orpo"), ReferenceKind.NONE, False, id="orpo"),
        pytest.param(("stage=dpo", "preference.loss=simpo"), ReferenceKind.NONE, False, id="simpo"),
    ],
)
def test_where_the_weights_are(overrides: tuple[str, ...], kind: ReferenceKind, held: bool) -> None:
    asked = config(*overrides)
    assert (reference_kind(asked), holds_reference(asked)) == (kind, held)


def test_a_plan_has_the_shards_of_a_frozen_model() -> None:
    asked = config("stage=dpo", "parallelism={tensor: 2, pipeline: 2}", "training.microBatchSize=1")
    alone, beside = build_plan(asked, 8, "cpu"), build_plan(asked, 8, "cpu", [model_shape(asked)])
    for before, after in zip(alone.ranks, beside.ranks, strict=True):
        held = after.memory.bytes[MemoryKind.FROZEN]
        assert held == before.memory.bytes[MemoryKind.PARAMETERS] == 4 * -(-before.parameters // 2)
        assert after.memory.peak == before.memory.peak + held
        assert MemoryKind.FROZEN not in before.memory.bytes
        assert after.memory.offloaded().bytes[MemoryKind.FROZEN] == 0


def test_what_two_models_hold_at_the_same_moment_counts_whatever_its_kind() -> None:
    held = MemoryEstimate({MemoryKind.PARAMETERS: 1}).at_once(
        {MemoryKind.PARAMETERS: 2, MemoryKind.ACTIVATIONS: 4}
    )
    assert (held.peak, held.resident) == (7, 3)
