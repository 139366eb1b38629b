"""What a run may state beside a folder's model."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.v1alpha1.model import Family, Model
from footplate_planning.model_overrides import apply_overrides
from tests.support.shapes import model_of

FOLDER = model_of(Family.GPT2, context_length=64)


def stated(**fields: Any) -> Model:
    return Model.from_json({"contextLength": 32, **fields})


def test_nothing_but_the_length_need_be_stated() -> None:
    assert apply_overrides(stated(), FOLDER) == model_of(Family.GPT2, context_length=32)


def test_defaults_that_an_api_server_fills_in_are_nobodys_word() -> None:
    folder = model_of(Family.LLAMA, context_length=64, position={"name": "rope", "theta": 5e5})
    stored = Model.from_json(stated().to_json())  # as it comes back, and into a RunConfig

    assert stored.to_json()["position"]["theta"] == 10000.0
    assert apply_overrides(stored, folder).position.theta == 5e5


def test_training_may_be_decided_freely() -> None:
    model = apply_overrides(
        stated(dropout={"hidden": 0.1}, initialization={"standardDeviation": 0.3}), FOLDER
    )

    assert model.dropout.hidden == 0.1
    assert model.layers == 2


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param({"layers": 3}, "layers is 3, in the folder 2", id="size"),
        pytest.param({"tiedEmbeddings": False}, "tiedEmbeddings is false, in the folder true", id="flag"),
        pytest.param(
            {"norm": {"name": "rms"}, "hiddenSize": 64},
            "hiddenSize is 64, in the folder 32; norm.name is rms, in the folder layer",
            id="all-at-once",
        ),
        pytest.param(
            {"attention": {"slidingWindow": 8}},
            "attention.slidingWindow is 8, in the folder absent",
            id="not-in-the-folder",
        ),
        pytest.param({"contextLength": 65}, "contextLength is 65, in the folder at most 64", id="too-long"),
    ],
)
def test_a_disagreement_is_told(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as refused:
        apply_overrides(stated(**fields), FOLDER)

    assert str(refused.value) == complaint


@pytest.mark.parametrize(
    ("vocabulary", "grows"), [pytest.param(99, None, id="as-it-is"), pytest.param(128, True, id="larger")]
)
def test_a_vocabulary_grows_when_asked_to(vocabulary: int, grows: bool | None) -> None:
    model = apply_overrides(stated(vocabularySize=vocabulary, resizeTokenEmbeddings=True), FOLDER)

    assert (model.vocabulary_size, model.resize_token_embeddings) == (vocabulary, grows)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        pytest.param(
            {"vocabularySize": 128},
            "vocabularySize is 128, in the folder 99; resizeTokenEmbeddings adds the rows",
            id="not-asked-to",
        ),
        pytest.param(
            {"vocabularySize": 128, "resizeTokenEmbeddings": False},
            "vocabularySize is 128, in the folder 99; resizeTokenEmbeddings adds the rows",
            id="asked-not-to",
        ),
        pytest.param(
            {"vocabularySize": 98, "resizeTokenEmbeddings": True},
            "vocabularySize is 98, in the folder 99",
            id="smaller",
        ),
        pytest.param(
            {"vocabularySize": 128, "resizeTokenEmbeddings": True, "layers": 3},
            "layers is 3, in the folder 2",
            id="another-field",
        ),
    ],
)
def test_it_does_not_otherwise(fields: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError) as refused:
        apply_overrides(stated(**fields), FOLDER)

    assert str(refused.value) == complaint


def test_stating_what_the_folder_has_is_no_disagreement() -> None:
    assert apply_overrides(stated(family="gpt2", layers=2, bias={"output": True}), FOLDER).layers == 2


def test_relative_positions_have_no_longest() -> None:
    folder = model_of(Family.T5)

    assert apply_overrides(stated(contextLength=500), folder).context_length == 500
