"""A model that scores sequences, in transformers: …ForSequenceClassification with one label. Pure.

Programs pad a batch, and transformers reads the score at the last token that is not padding, which it finds
by its id. In a text that ends with that id it would read the score of another token. So an export names an id
that no text ends with, if the tokenizer has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenizers import Tokenizer

from footplate_trainer.checkpoint.training_state import HeldOutScores
from footplate_trainer.data.layout import ALIASES

CLASS: Final = "ForSequenceClassification"
_LANGUAGE_MODEL: Final = re.compile(r"(ForCausalLM|LMHeadModel)$")
_USUAL_LABELS: Final = 2  # of a config.json that says nothing of them
# What held-out scores are, as OpenRLHF keeps them beside the shape.
_MEAN: Final = "mean"
_DEVIATION: Final = "std"


@dataclass(frozen=True)
class PaddingToken:
    """The token that fills up a batch."""

    token: str
    id: int
    ends_texts: bool = False  # then transformers reads scores of texts that end with it elsewhere


@dataclass(frozen=True)
class SequenceClassification:
    """The settings beside the weights of a model that scores sequences."""

    padding: PaddingToken | None  # None: its tokenizer has no special token at all
    scores: HeldOutScores | None

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Return the differences from `config`, which is that of a language model of the same family."""
        (language_model,) = config["architectures"]
        said: dict[str, Any] = {
            "architectures": [_LANGUAGE_MODEL.sub(CLASS, language_model)],
            "id2label": {"0": "LABEL_0"},  # as transformers writes that there is one
            "label2id": {"LABEL_0": 0},
            "problem_type": "regression",
            "pad_token_id": None if self.padding is None else self.padding.id,
        }
        if self.scores is not None:
            said |= {_MEAN: self.scores.mean, _DEVIATION: self.scores.deviation}
        return said


def label_count(config: Mapping[str, Any]) -> int:
    """Return the number of scores per sequence of a config.json's model; 0 for a language model."""
    classes = config.get("architectures")
    if not isinstance(classes, list) or not any(str(name).endswith(CLASS) for name in classes):
        return 0
    named = config.get("id2label")
    return len(named) if isinstance(named, dict) else int(config.get("num_labels", _USUAL_LABELS))


def read_held_out_scores(config: Mapping[str, Any]) -> HeldOutScores | None:
    """Return the statistics of held-out scores in a config.json, or None."""
    mean, deviation = config.get(_MEAN), config.get(_DEVIATION)
    if not isinstance(mean, int | float) or not isinstance(deviation, int | float):
        return None
    return HeldOutScores(mean=mean, deviation=deviation)


def find_padding_token(
    said: Iterable[str | int | None], tokenizer: Tokenizer, ends: frozenset[int], rows: int
) -> PaddingToken | None:
    """Return the padding of a model with `rows` in its embedding, whose texts end with the ids `ends`.

    It is the first that ends no text of: the tokens in `said`, the well-known names, and all special tokens;
    else the first of these; None if there is none.
    """
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    asked = [*said, *ALIASES["pad"], *ALIASES["unk"], *special]
    found = [padding for name in asked if (padding := _known(name, tokenizer, ends)) and padding.id < rows]
    return next((padding for padding in found if not padding.ends_texts), next(iter(found), None))


def _known(asked: str | int | None, tokenizer: Tokenizer, ends: frozenset[int]) -> PaddingToken | None:
    number = tokenizer.token_to_id(asked) if isinstance(asked, str) else asked
    token = None if number is None else tokenizer.id_to_token(number)
    return None if token is None or number is None else PaddingToken(token, number, number in ends)
