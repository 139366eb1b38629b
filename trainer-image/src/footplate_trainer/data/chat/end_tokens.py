"""The tokens with which a model ends a text.

A chat model has several: the end of a turn, the end of a text, sometimes a tool call. Up to four settings
name them, and in no setting is the list complete for all models. The padding token is not used here: it is
often the end of a text as well, and does not show where a text ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from footplate_trainer.data.chat.renderer import Render, RenderRequest
from footplate_trainer.data.chat.template import Conversation, ConversationPrefix, ConversationRefused

_ANSWER: Final = "A short answer."
_MESSAGES: Final = (
    {"role": "user", "content": "A short question?"},
    {"role": "assistant", "content": _ANSWER},
)


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
