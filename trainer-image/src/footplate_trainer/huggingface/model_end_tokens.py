"""The tokens that end a model's answers, from all files beside its weights.

A chat model has several: the end of a turn, the end of a text, sometimes a tool call. Up to four settings
name them, and in no setting is the list complete for all models. The padding token is not used here: it is
often the end of a text as well, and does not show where a text ends.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from tokenizers import Tokenizer

from footplate_trainer.data.chat.model_template import JINJA_FILE
from footplate_trainer.data.chat.renderer import Render, Renderer, RenderRequest
from footplate_trainer.data.chat.template import (
    Conversation,
    ConversationPrefix,
    ConversationRefused,
    TemplateFault,
)
from footplate_trainer.data.layout import ALIASES
from footplate_trainer.huggingface.saved_processors import GENERATION_SETTINGS, SavedProcessors

_ANSWER: Final = "A short answer."
_MESSAGES: Final = (
    {"role": "user", "content": "A short question?"},
    {"role": "assistant", "content": _ANSWER},
)


_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelEndTokens:
    """The tokens that end a model's texts."""

    ids: frozenset[int]  # none where nothing names one
    of_turn: int | None  # the one of `ids` that stands behind an answer in a conversation


def end_token_ids(processors: SavedProcessors, tokenizer: Tokenizer, rows: int) -> frozenset[int]:
    """Return the ids that end a text of a model with `rows` in its embedding; see `find_end_tokens`."""
    return find_end_tokens(processors, tokenizer, rows).ids


def find_end_tokens(
    processors: SavedProcessors, tokenizer: Tokenizer, rows: int, template: str | None = None
) -> ModelEndTokens:
    """Find the ends for a model with `rows` in its embedding, which chats in `template` or else in its own.

    An end outside the embedding is left out, with a warning. If no file names an end, it is the end of a text
    in well-known tokenizers. A turn ends as the chat template writes it, else with the tokenizer's eos_token,
    else with the lowest id.
    """
    said = [
        processors.settings(GENERATION_SETTINGS).get("eos_token_id"),
        processors.token_ids().get("eos_token_id"),
    ]
    found = (template_end(processors, tokenizer, template), processors.special_tokens().get("eos_token"))
    names = [name for name in found if name]
    ends = resolve_end_tokens(said, reversed(names), tokenizer.token_to_id, rows)
    if ends.left_out:
        left_out = ", ".join(ends.left_out)
        _log.warning("skipping end-of-text tokens that this model does not have: %s", left_out)
    if ends.ids:
        named = (tokenizer.token_to_id(name) for name in names)
        return ModelEndTokens(ends.ids, next((end for end in named if end in ends.ids), min(ends.ids)))
    known = next((name for name in ALIASES["eos"] if tokenizer.token_to_id(name) is not None), None)
    ids = resolve_end_tokens((), filter(None, [known]), tokenizer.token_to_id, rows).ids
    return ModelEndTokens(ids, min(ids, default=None))


def with_chat_template(
    processors: SavedProcessors, tokenizer: Tokenizer, rows: int, template: str
) -> SavedProcessors:
    """Return `processors` of a model with `rows` in its embedding that learns to chat in `template`.

    If the model came without a template, this adds it, and the tokens that end an answer.
    """
    if processors.chat_template() is not None:
        return processors
    ends = sorted(find_end_tokens(processors, tokenizer, rows, template).ids)
    settings = processors.settings(GENERATION_SETTINGS) | ({"eos_token_id": ends} if ends else {})
    files = {JINJA_FILE: template.encode(), GENERATION_SETTINGS: json.dumps(settings, indent=2).encode()}
    return SavedProcessors({**processors.files, **files})


def template_end(
    processors: SavedProcessors, tokenizer: Tokenizer, template: str | None = None
) -> str | None:
    """Return the added token that `template`, or the model's own, writes after an answer, or None."""
    template = processors.chat_template() if template is None else template
    if template is None:
        return None
    tokens = tuple(token.content for token in tokenizer.get_added_tokens_decoder().values())
    try:
        return _rendered_end(template, tuple(processors.special_tokens().items()), tokens)
    except (TemplateFault, ConversationRefused) as error:
        _log.warning("the chat template has no end of a turn, as it renders no answer: %s", error)
        return None


@lru_cache(maxsize=16)  # a model and its prompts mostly have one template, which a process renders for each
def _rendered_end(template: str, roles: tuple[tuple[str, str], ...], tokens: tuple[str, ...]) -> str | None:
    with Renderer(template, "of the model", dict(roles)) as renderer:
        return find_turn_end(renderer, tokens)


@dataclass(frozen=True)
class EndTokens:
    """The ids that end a text, and the named ends that the model cannot generate."""

    ids: frozenset[int]
    left_out: tuple[str, ...] = ()  # ids beyond the embedding's rows, and names without an id


def resolve_end_tokens(
    said: Iterable[object], names: Iterable[str], id_of: Callable[[str], int | None], rows: int
) -> EndTokens:
    """Return the ends that a model with `rows` in its embedding can generate.

    `said` are values of `eos_token_id` in files: a number, a list of numbers, or None. `names` are tokens,
    whose ids `id_of` returns.
    """
    ids: set[int] = set()
    left_out: list[str] = []
    for number in _numbers(said):
        if 0 <= number < rows:
            ids.add(number)
        else:
            left_out.append(str(number))
    for name in names:
        known = id_of(name)
        if known is not None and known < rows:
            ids.add(known)
        else:
            left_out.append(name)
    return EndTokens(frozenset(ids), tuple(dict.fromkeys(left_out)))


def find_turn_end(render: Render, tokens: Iterable[str]) -> str | None:
    """Return the one of `tokens` that a chat template writes after an answer, ignoring white space, or None.

    Raises TemplateFault or ConversationRefused if it cannot render a question and its answer.
    """
    [answer] = render([RenderRequest(Conversation(_MESSAGES), [ConversationPrefix(len(_MESSAGES))])])
    if isinstance(answer, ConversationRefused):
        raise answer
    _, found, behind = answer[0].text.rpartition(_ANSWER)
    known = (token for token in tokens if token and behind.lstrip().startswith(token))
    return max(known, key=len, default=None) if found else None


def _numbers(said: Iterable[object]) -> Iterable[int]:
    for value in said:
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and not isinstance(number, bool):
                yield number
