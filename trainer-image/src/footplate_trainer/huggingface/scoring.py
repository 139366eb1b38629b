"""A model that scores sequences as transformers keeps one: …ForSequenceClassification with one label. Pure.

Whoever opens it pads a batch, and transformers reads the score at the last token that is not padding, which
it finds by its id. Of a text that ends with that id it would read the score of another token. So an export
names an id that no text ends with, if the tokenizer has one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from tokenizers import Tokenizer

from footplate_trainer.checkpoint.record import HeldOutScores
from footplate_trainer.data.special_names import ALIASES

CLASS: Final = "ForSequenceClassification"
_LANGUAGE_MODEL: Final = re.compile(r"(ForCausalLM|LMHeadModel)$")
_USUAL_LABELS: Final = 2  # of a config.json that says nothing of them
# What held-out scores are, as OpenRLHF keeps them beside the shape.
_MEAN: Final = "mean"
_DEVIATION: Final = "std"


@dataclass(frozen=True)
class Padding:
    """The token that fills a batch up."""

    token: str
    id: int
    ends_texts: bool = False  # then transformers reads scores of texts that end with it elsewhere


@dataclass(frozen=True)
class Scoring:
    """What stands beside the weights of a model that scores sequences."""

    padding: Padding | None  # None: its tokenizer has no special token at all
    scores: HeldOutScores | None

    def settings(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What `config`, a language model's of the same family, has otherwise."""
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


def labels_of(config: Mapping[str, Any]) -> int:
    """How many scores the model of a config.json gives a sequence; 0 where it gives none."""
    classes = config.get("architectures")
    if not isinstance(classes, list) or not any(str(name).endswith(CLASS) for name in classes):
        return 0
    named = config.get("id2label")
    return len(named) if isinstance(named, dict) else int(config.get("num_labels", _USUAL_LABELS))


def scores_in(config: Mapping[str, Any]) -> HeldOutScores | None:
    """What a config.json says of held-out scores; None where it says nothing."""
    mean, deviation = config.get(_MEAN), config.get(_DEVIATION)
    if not isinstance(mean, int | float) or not isinstance(deviation, int | float):
        return None
    return HeldOutScores(mean=mean, deviation=deviation)


def padding_of(
    said: Iterable[str | int | None], tokenizer: Tokenizer, ends: frozenset[int], rows: int
) -> Padding | None:
    """The padding of a model with `rows` of its embedding, whose texts end with the ids `ends`.

    It is the first of what is `said` of it, of well-known names, and of all special tokens, that ends no
    text; else the first of them; None where there is none.
    """
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    asked = [*said, *ALIASES["pad"], *ALIASES["unk"], *special]
    found = [padding for name in asked if (padding := _known(name, tokenizer, ends)) and padding.id < rows]
    return next((padding for padding in found if not padding.ends_texts), next(iter(found), None))


def _known(asked: str | int | None, tokenizer: Tokenizer, ends: frozenset[int]) -> Padding | None:
    number = tokenizer.token_to_id(asked) if isinstance(asked, str) else asked
    token = None if number is None else tokenizer.id_to_token(number)
    return None if token is None or number is None else Padding(token, number, number in ends)
