"""What decides the bits of a step, and what is told when it changed."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.names import Env
from footplate_trainer.checkpoint.training_state import (
    StateBuilder,
    code_revision,
    determinism_key,
    key_differences,
)
from tests.support.tiny import tiny_config


def key(folder: Path, *overrides: str, threads: int = 1) -> dict[str, object]:
    config = tiny_config(folder / "shards", folder, overrides)
    return dict(
        determinism_key(config, world_size=2, device="cpu AVX2", threads=threads, data="ab12", revision="r1")
    )


def test_the_key_names_what_decides_the_bits(tmp_path: Path) -> None:
    found = key(tmp_path)

    assert found["training.seed"] == 0
    assert found["data.seed"] == 3
    assert found["data.shards"] == "ab12"
    assert found["training.optimizer.learningRate"] == 0.01
    assert found["parallelism.sharding"] == "full"
    assert (found["worldSize"], found["device"], found["threads"]) == (2, "cpu AVX2", 1)
    assert {"versions.torch", "versions.python", "versions.numpy", "revision"} < found.keys()


def test_values_are_told_apart_where_there_are_any(tmp_path: Path) -> None:
    config = tiny_config(tmp_path / "shards", tmp_path)
    keys = [
        determinism_key(
            config, world_size=1, device="cpu", threads=1, data="ab12", revision="r1", values=values
        )
        for values in (None, "cd34", "ef56")
    ]
    assert "data.values" not in keys[0]
    assert key_differences(keys[1], keys[2]) == ["data.values was cd34, is ef56"]


@pytest.mark.parametrize(
    "override",
    [
        pytest.param("training.logEverySteps=7", id="log"),
        pytest.param("data.uri=/elsewhere", id="moved-data"),
        pytest.param("checkpoint.everySteps=3", id="checkpoints"),
    ],
)
def test_what_changes_no_bit_is_not_in_the_key(tmp_path: Path, override: str) -> None:
    assert key(tmp_path, override) == key(tmp_path)


@pytest.mark.parametrize(
    ("override", "text"),
    [
        pytest.param(
            "training.optimizer.learningRate=0.5",
            "training.optimizer.learningRate was 0.01, is 0.5",
            id="hyper-parameter",
        ),
        pytest.param("data.seed=4", "data.seed was 3, is 4", id="order"),
        pytest.param("parallelism.sharding=none", "parallelism.sharding was full, is none", id="layout"),
    ],
)
def test_a_difference_names_field_and_both_values(tmp_path: Path, override: str, text: str) -> None:
    before, now = key(tmp_path), key(tmp_path, override)

    assert key_differences(before, now) == [text]


@pytest.mark.parametrize("field", ["reward.uri", "reinforcement.reference.uri", "preference.reference.uri"])
def test_a_model_that_moved_is_no_difference_as_its_weights_are_known(field: str) -> None:
    assert key_differences({field: "/before"}, {field: "/now"}) == []


def test_learned_positions_of_before_they_began_with_each_document_are_told(tmp_path: Path) -> None:
    settings = ("model.family=gpt2", "model.keyValueHeads=null")
    gpt2 = key(tmp_path, *settings)
    of_an_earlier_release = {name: value for name, value in gpt2.items() if name != "places"}

    assert key_differences(of_an_earlier_release, gpt2) == ["places was absent, is document"]
    assert "places" not in key(tmp_path)
    assert "places" not in key(tmp_path, *settings, "data.packing.crossDocumentAttention=true")
    assert "places" not in key(tmp_path, *settings, "data.packing.enabled=false")


def test_what_one_key_does_not_have_is_absent() -> None:
    assert key_differences({"a": 1}, {"b": 2}) == ["a was 1, is absent", "b was absent, is 2"]


def test_the_revision_is_the_image_s_or_the_package_s() -> None:
    assert code_revision({Env.REVISION: "0123abc"}) == "0123abc"
    assert code_revision({}).count(".") == 2


def test_updates_count_on_from_the_run_that_was_started_from() -> None:
    described = StateBuilder(
        parameters=7, world_size=2, global_batch_size=8, earlier_updates=100, key={}
    ).build(step=5, tokens=60)

    assert (described.step, described.samples, described.updates) == (5, 40, 105)


def test_how_conversations_share_sequences_is_told_where_they_do(tmp_path: Path) -> None:
    assert key(tmp_path, "stage=sft")["bins"] == 1
    assert "bins" not in key(tmp_path)
    assert "bins" not in key(tmp_path, "stage=sft", "data.packing.enabled=false")


def test_a_mixture_is_told_by_names_and_weights_and_not_by_places(tmp_path: Path) -> None:
    def mixture(weight: float, folder: str) -> dict[str, object]:
        sources = f"[{{name: a, uri: {folder}, weight: 1}}, {{name: b, uri: {folder}, weight: {weight}}}]"
        return key(tmp_path, "data.uri=null", f"data.sources={sources}")

    before, moved, changed = mixture(2, "/here"), mixture(2, "/there"), mixture(3, "/here")
    assert before == moved
    assert key_differences(before, changed) == ["data.sources.b.weight was 2.0, is 3.0"]
