"""Numbers and paths that follow from a RunConfig."""

from __future__ import annotations

from pathlib import Path

from footplate_planning.config import model_shape, total_steps
from tests.support.tiny import VOCABULARY, tiny_config


def test_the_shape_has_every_default_filled_in(tmp_path: Path) -> None:
    shape = model_shape(tiny_config(Path("/data"), tmp_path))

    assert (shape.hidden, shape.heads, shape.key_value_heads, shape.head_size) == (32, 4, 2, 8)
    assert (shape.feed_forward, shape.vocabulary, shape.context) == (96, VOCABULARY, 32)


def test_a_reward_model_has_one_score_and_nothing_tied(tmp_path: Path) -> None:
    tied = ("model.tiedEmbeddings=true",)
    reward = model_shape(tiny_config(Path("/data"), tmp_path, ("stage=reward", *tied)))
    plain = model_shape(tiny_config(Path("/data"), tmp_path, tied))

    assert (reward.labels, reward.tied_embeddings) == (1, False)
    assert reward.parameters == plain.parameters + 32
    assert reward.embedding_parameters == plain.embedding_parameters


def test_steps_cover_the_tokens(tmp_path: Path) -> None:
    config = tiny_config(Path("/data"), tmp_path, ["training.steps=null", "training.tokens=1025"])

    assert total_steps(config) == 5, "8 sequences of 32 tokens a step"
