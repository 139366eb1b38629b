"""Masks of the learnt tokens in a rendered conversation.

A model writes its own turns: from after the text before an answer up to the token that ends the turn, from
which it learns to stop. No rendered text shows where a turn begins and ends. A template with `{% generation
%}` marks it itself; with any other the conversation is rendered up to before the turn, as for an answer, and
up to its end: the text between them is the turn. That is correct only if the template renders the beginning
of a conversation as the conversation's beginning. Where both methods work they must agree.

An unclear turn, and a turn whose end the model would not learn, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from footplate_contracts.v1alpha1.data import LossMask
from footplate_trainer.data.chat.encoding import EncodedText
from footplate_trainer.data.chat.template import (
    Conversation,
    ConversationPrefix,
    PrefixEnding,
    RenderedText,
    TemplateFault,
)

Bools = NDArray[np.bool_]
ASSISTANT: Final = "assistant"


@dataclass(frozen=True)
class Dialogue:
    """A conversation whose first `prompt` turns were not written for this sample."""

    conversation: Conversation
    prompt: int = 0


@dataclass(frozen=True)
class TurnPlan:
    """The parts to render for the mask of learnt tokens."""

    template: str  # its name
    mask: LossMask
    marked: bool  # whether the template has `{% generation %}`
    turns: int
    spoken: tuple[int, ...]  # which turns the assistant wrote
    learnt: tuple[int, ...]  # and which of them are learnt
    opening: str = ""  # what the template writes before an answer

    @property
    def parts(self) -> list[ConversationPrefix]:
        """The whole, then for each turn the text before it and, except for the last turn, up to its end."""
        whole = ConversationPrefix(self.turns)
        if self.mask is LossMask.ALL or self.marked:
            return [whole]
        return [whole, *self.boundary_prefixes]

    @property
    def boundary_prefixes(self) -> list[ConversationPrefix]:
        """The parts that delimit each learnt turn of a template without `{% generation %}`."""
        found = []
        for turn in self.learnt:
            found.append(ConversationPrefix(turn, PrefixEnding.ANSWER))
            if turn + 1 < self.turns:
                found.append(ConversationPrefix(turn + 1))
        return found


def plan_turns(
    dialogue: Dialogue, mask: LossMask, *, template: str, marked: bool, opening: str = ""
) -> TurnPlan:
    """Return the plan of the parts to render of `dialogue`."""
    messages = dialogue.conversation.messages
    spoken = tuple(turn for turn, message in enumerate(messages) if message["role"] == ASSISTANT)
    first = dialogue.prompt if mask is LossMask.COMPLETION else 0
    if mask is LossMask.COMPLETION and not dialogue.prompt:
        first = len(messages) - 1
    learnt = tuple(turn for turn in spoken if turn >= first)
    return TurnPlan(template, mask, marked, len(messages), spoken, learnt, opening)


def assistant_mask(plan: TurnPlan, rendered: Sequence[RenderedText], tokens: EncodedText) -> Bools:
    """Return the mask of the learnt tokens in the whole conversation: bool [tokens].

    `rendered` are the parts of `plan`. Raises TemplateFault if the mask does not follow from them.
    """
    if plan.mask is LossMask.ALL:
        return np.ones(len(tokens.ids), dtype=bool)
    if plan.marked:
        turns = _marked_turns(plan, rendered[0], tokens)
    else:
        turns = find_turn_spans(plan, rendered[0], rendered[1:], tokens)
    learnt = np.zeros(len(tokens.ids), dtype=bool)
    for start, end in turns:
        learnt |= tokens.within(start, end)
    return learnt


def check_agreement(
    plan: TurnPlan, learnt: Bools, around: Sequence[RenderedText], tokens: EncodedText
) -> None:
    """Raise TemplateFault if the tokens of `{% generation %}` differ from the turns that `around` delimits.

    Does nothing if those parts do not delimit the turns.
    """
    try:
        turns = find_turn_spans(plan, RenderedText(tokens.text), around, tokens)
    except TemplateFault:
        return
    told = np.zeros_like(learnt)
    for start, end in turns:
        told |= tokens.within(start, end)
    if (different := np.flatnonzero(told != learnt)).size:
        place = int(different[0])
        shown = tokens.text[int(tokens.starts[place]) : int(tokens.ends[place])]
        outside = "outside" if told[place] else "inside"
        raise TemplateFault(
            f"chat template {plan.template} has token {place}, {shown!r}, {outside} its {{% generation %}}, "
            f"but rendered turn by turn it is {'a' if told[place] else 'no'} part of the answer; fix the "
            "template and pass it as --chat-template"
        )


def find_turn_spans(
    plan: TurnPlan, whole: RenderedText, around: Sequence[RenderedText], tokens: EncodedText
) -> list[tuple[int, int]]:
    """Return [start, end) in characters of each learnt turn, from the text before it and up to its end."""
    found = []
    parts = iter(around)
    for turn in plan.learnt:
        before = next(parts).text
        after = next(parts).text if turn + 1 < plan.turns else whole.text
        if not (whole.text.startswith(before) and whole.text.startswith(after)):
            raise TemplateFault(
                f"chat template {plan.template} renders the conversation up to turn {turn + 1} differently "
                "once more turns follow, so that the model's part cannot be found; "
                "pass a template with {% generation %} as --chat-template"
                + (
                    ""
                    if plan.mask is LossMask.COMPLETION
                    else ", or train on the last turn only (--mask completion)"
                )
            )
        found.append((len(before), _end_of_turn(plan, turn, len(before), len(after), tokens)))
    return found


def _marked_turns(plan: TurnPlan, whole: RenderedText, tokens: EncodedText) -> list[tuple[int, int]]:
    """Return [start, end) of the learnt text, by `{% generation %}`; a turn may consist of several parts."""
    blocks: list[tuple[int, int]] = []
    for start, end in whole.generated:
        if blocks and blocks[-1][1] == start:
            blocks[-1] = (blocks[-1][0], end)
        elif end > start:
            blocks.append((start, end))
    turns: list[list[tuple[int, int]]] = [[]]
    for start, end in blocks:
        last = _end_mark(start, end, tokens)
        if not turns[-1]:
            start = _behind_opening(plan.opening, start, tokens.text)
        turns[-1].append((start, last or end))
        if last is not None:
            turns.append([])
    if turns.pop() or len(turns) != len(plan.spoken):
        raise TemplateFault(
            f"chat template {plan.template} has the ends of {len(turns)} turns inside {{% generation %}}, "
            f"and {len(plan.spoken)} are assistant turns: the token that ends a turn would not be "
            "learnt; move it before {% endgeneration %} and pass the template as --chat-template"
        )
    return [
        part for turn, parts in zip(plan.spoken, turns, strict=True) if turn in plan.learnt for part in parts
    ]


def _behind_opening(opening: str, start: int, text: str) -> int:
    """Return the start of an answer whose block begins at `start`.

    Many templates have some of the text before an answer inside the block, which no model writes.
    """
    found = text.find(opening, max(start - len(opening), 0), start + len(opening)) if opening else -1
    return found + len(opening) if 0 <= found <= start else start


def _end_of_turn(plan: TurnPlan, turn: int, start: int, end: int, tokens: EncodedText) -> int:
    last = _end_mark(start, end, tokens)
    if last is None:
        raise TemplateFault(
            f"chat template {plan.template} ends turn {turn + 1} with {tokens.text[start:end][-20:]!r} and "
            "no special token, so that the model would not learn to stop; write the end of text after each "
            "answer and pass the template as --chat-template"
        )
    return last


def _end_mark(start: int, end: int, tokens: EncodedText) -> int | None:
    """Return the end of the special token that [start, end) ends with, apart from white space; else None."""
    marks = np.flatnonzero(tokens.special & (tokens.starts >= start) & (tokens.ends <= end))
    if not marks.size:
        return None
    last = int(tokens.ends[marks[-1]])
    return last if not tokens.text[last:end].strip() else None
