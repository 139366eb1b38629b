"""With which tokens a model's answers end, by all that came with its weights."""

from __future__ import annotations

import logging

from tokenizers import Tokenizer

from footplate_trainer.data.chat.ends import ends_of, turn_end
from footplate_trainer.data.chat.renderer import Renderer
from footplate_trainer.data.chat.template import ConversationRefused, TemplateFault
from footplate_trainer.data.special_names import ALIASES
from footplate_trainer.huggingface.companions import GENERATION_SETTINGS, Companions

_log = logging.getLogger(__name__)


def model_ends(companions: Companions, tokenizer: Tokenizer, rows: int) -> frozenset[int]:
    """The ids that end a text of a model with `rows` of its embedding; none where nothing names one.

    That which lies outside is left out, with a warning. Without any other word it is the end of a text as
    well-known tokenizers call it.
    """
    said = [
        companions.settings(GENERATION_SETTINGS).get("eos_token_id"),
        companions.token_ids().get("eos_token_id"),
    ]
    names = [companions.roles().get("eos_token"), _turn_end(companions, tokenizer)]
    ends = ends_of(said, filter(None, names), tokenizer.token_to_id, rows)
    if ends.left_out:
        left_out = ", ".join(ends.left_out)
        _log.warning("ends of a text that are no tokens of this model are left out: %s", left_out)
    if ends.ids:
        return ends.ids
    known = next((name for name in ALIASES["eos"] if tokenizer.token_to_id(name) is not None), None)
    return ends_of((), filter(None, [known]), tokenizer.token_to_id, rows).ids


def _turn_end(companions: Companions, tokenizer: Tokenizer) -> str | None:
    template = companions.template()
    if template is None:
        return None
    tokens = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    try:
        with Renderer(template, "of the model", dict(companions.roles())) as renderer:
            return turn_end(renderer, tokens)
    except (TemplateFault, ConversationRefused) as error:
        _log.warning("the chat template names no end of a turn, as it renders no answer: %s", error)
        return None
