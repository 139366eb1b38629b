"""The tokens with which a model ends a text.

A chat model names several: the end of a turn, the end of a text, sometimes a call of a tool. They are
found in up to four places, of which none is complete in all models. Padding is none of these places: its
token is often the end of a text as well, and says nothing of where one ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from footplate_trainer.data.chat.renderer import Render, RenderRequest
from footplate_trainer.data.chat.template import Conversation, ConversationRefused, Part

_ANSWER: Final = "A short answer."
_MESSAGES: Final = (
    {"role": "user", "content": "A short question?"},
    {"role": "assistant", "content": _ANSWER},
)


@dataclass(frozen=True)
class Ends:
    """The ids that end a text, and what was named and can be none of them."""

    ids: frozenset[int]
    left_out: tuple[str, ...] = ()  # ids beyond the embedding's rows, and names without an id


def ends_of(
    said: Iterable[object], names: Iterable[str], id_of: Callable[[str], int | None], rows: int
) -> Ends:
    """The ends that a model with `rows` of its embedding can say.

    `said` are values of `eos_token_id` as files have them: a number, a list of numbers, or None. `names` are
    tokens, of which `id_of` knows the ids.
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
    return Ends(frozenset(ids), tuple(dict.fromkeys(left_out)))


def turn_end(render: Render, tokens: Iterable[str]) -> str | None:
    """That of `tokens` which a chat template writes behind an answer, white space aside; None for no one.

    Raises TemplateFault or ConversationRefused where it does not render a question and its answer.
    """
    [answer] = render([RenderRequest(Conversation(_MESSAGES), [Part(len(_MESSAGES))])])
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
