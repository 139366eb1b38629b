"""The table of stages is complete, and a stage that is not in it gets what its record says."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.stages import (
    STAGES,
    Product,
    StageRules,
    stages_giving,
    stages_with,
    usable_products,
)
from footplate_contracts.v1alpha1.preference import PREFERENCE_LOSSES, Preference, PreferenceLoss
from footplate_contracts.v1alpha1.references import ReferenceField
from footplate_contracts.v1alpha1.training import Stage
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_trainer.checkpoint.training_state import Key, determinism_key, key_differences
from footplate_trainer.data.layout import RecordKind
from tests.support.tiny import tiny_config

DISTIL = StageRules(stage="distil", data_format="chat", uses_conversations=True)


@pytest.mark.parametrize("stage", Stage)
def test_each_stage_has_a_record_of_what_exists(stage: Stage) -> None:
    rules = STAGES[stage]
    assert rules.stage == stage
    assert not rules.data_format or RecordKind(rules.data_format)
    for path in rules.fields:
        model = TrainingRunSpec
        for name in path.split("."):
            fields = {field.alias or key: field for key, field in model.model_fields.items()}
            assert name in fields, f"{path} is no field of a spec"
            model = fields[name].annotation


@pytest.mark.parametrize("field", sorted({field for rules in STAGES.values() for field in rules.fields}))
def test_stages_are_listed_in_their_usual_order(field: str) -> None:
    listed = stages_with(field)
    assert listed == tuple(stage for stage in Stage if stage in listed)


@pytest.mark.parametrize("field", ReferenceField)
def test_some_stage_gives_what_a_reference_takes(field: ReferenceField) -> None:
    assert stages_giving(usable_products(field, DISTIL))


def key(bins: bool, rules: StageRules | None) -> Key:
    config: RunConfig = tiny_config(Path("/shards"), Path("/run"))
    made = determinism_key(config, world_size=1, device="cpu", threads=1, data="x", revision="r", rules=rules)
    return made if bins else {name: value for name, value in made.items() if name != "bins"}


def test_a_stage_of_conversations_resumes_with_the_bins_that_it_began_with() -> None:
    assert key(True, DISTIL)["bins"] == 1
    assert "bins" not in key(True, StageRules(stage="distil", data_format="prompts"))
    assert key_differences(key(False, DISTIL), key(True, DISTIL)) != []


def test_its_model_may_be_the_start_of_another_run_and_not_a_reward_model() -> None:
    assert DISTIL.product in usable_products(ReferenceField.INIT_FROM, STAGES[Stage.DPO])
    assert STAGES[Stage.SFT].product in usable_products(ReferenceField.INIT_FROM, DISTIL)
    assert DISTIL.product not in usable_products(ReferenceField.REWARD, STAGES[Stage.PPO])
    assert Product.REWARD_MODEL not in usable_products(ReferenceField.INIT_FROM, DISTIL)


@pytest.mark.parametrize("loss", PreferenceLoss)
def test_each_preference_loss_has_a_record_of_what_exists(loss: PreferenceLoss) -> None:
    rules = PREFERENCE_LOSSES[loss]
    assert RecordKind(rules.data_format)
    assert set(rules.defaults) <= set(Preference.model_fields)
