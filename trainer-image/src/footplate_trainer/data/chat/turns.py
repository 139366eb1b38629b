"""Which tokens of a rendered conversation are learnt.

What a model writes is its turns: from behind what is put before an answer up to
the token that ends the turn, which is how it learns to stop. Where a turn begins
and ends, no rendered text says. A template that has `{% generation %}` says it
itself; of any other the conversation is rendered up to before the turn, as for an
answer, and up to behind it: what lies between is the turn. That holds only where
a template renders the beginning of a conversation as the conversation's beginning.
Where both can be told they must agree.

What cannot be told, and a turn whose end the model would not learn, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from footplate_contracts.v1alpha1.data import Mask
from footplate_trainer.data.chat.encoding import EncodedText
from footplate_trainer.data.chat.template import (
    Conversation,
    Ending,
    Part,
    Rendered,
    TemplateFault,
)

Bools = NDArray[np.bool_]
ASSISTANT: Final = "assistant"


@dataclass(frozen=True)
class Dialogue:
    """A conversation, of which the first `prompt` turns were not written for this sample."""

    conversation: Conversation
    prompt: int = 0


@dataclass(frozen=True)
class TurnPlan:
    """What has to be rendered to know what is learnt."""

    template: str  # its name
    mask: Mask
    marked: bool  # whether the template has `{% generation %}`
    turns: int
    spoken: tuple[int, ...]  # which turns the assistant wrote
    learnt: tuple[int, ...]  # and which of them are learnt
    opening: str = ""  # what the template writes before an answer

    @property
    def parts(self) -> list[Part]:
        """First the whole; then for each turn what comes before and, but for the last turn, up to its end."""
        whole = Part(self.turns)
        if self.mask is Mask.ALL or self.marked:
            return [whole]
        return [whole, *self.around]

    @property
    def around(self) -> list[Part]:
        """What tells the turns of a template without `{% generation %}`."""
        found = []
        for turn in self.learnt:
            found.append(Part(turn, Ending.ANSWER))
            if turn + 1 < self.turns:
                found.append(Part(turn + 1))
        return found


def plan_turns(dialogue: Dialogue, mask: Mask, *, template: str, marked: bool, opening: str = "") -> TurnPlan:
    """What is to be rendered of `dialogue`."""
    messages = dialogue.conversation.messages
    spoken = tuple(turn for turn, message in enumerate(messages) if message["role"] == ASSISTANT)
    first = dialogue.prompt if mask is Mask.COMPLETION else 0
    if mask is Mask.COMPLETION and not dialogue.prompt:
        first = len(messages) - 1
    learnt = tuple(turn for turn in spoken if turn >= first)
    return TurnPlan(template, mask, marked, len(messages), spoken, learnt, opening)


def learnt_tokens(plan: TurnPlan, rendered: Sequence[Rendered], tokens: EncodedText) -> Bools:
    """Which tokens of the whole conversation are learnt: bool [tokens].

    `rendered` are the parts of `plan`. Raises TemplateFault where the template
    does not let it be told.
    """
    if plan.mask is Mask.ALL:
        return np.ones(len(tokens.ids), dtype=bool)
    if plan.marked:
        turns = _marked_turns(plan, rendered[0], tokens)
    else:
        turns = turns_around(plan, rendered[0], rendered[1:], tokens)
    learnt = np.zeros(len(tokens.ids), dtype=bool)
    for start, end in turns:
        learnt |= tokens.within(start, end)
    return learnt


def check_agreement(plan: TurnPlan, learnt: Bools, around: Sequence[Rendered], tokens: EncodedText) -> None:
    """TemplateFault where `{% generation %}` and the turns told by `around` are not the same tokens.

    Nothing is said where the turns cannot be told without it.
    """
    try:
        turns = turns_around(plan, Rendered(tokens.text), around, tokens)
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
            f"but rendered turn by turn it is {'a' if told[place] else 'no'} part of the answer; mend the "
            "template and give it with --chat-template"
        )


def turns_around(
    plan: TurnPlan, whole: Rendered, around: Sequence[Rendered], tokens: EncodedText
) -> list[tuple[int, int]]:
    """[start, end) in characters of each learnt turn, by what is rendered before it and up to its end."""
    found = []
    parts = iter(around)
    for turn in plan.learnt:
        before = next(parts).text
        after = next(parts).text if turn + 1 < plan.turns else whole.text
        if not (whole.text.startswith(before) and whole.text.startswith(after)):
            raise TemplateFault(
                f"chat template {plan.template} renders the beginning of the conversation, up to turn "
                f"{turn + 1}, otherwise once more follows, so that what the model writes cannot be told; "
                "give a template that has {% generation %} with --chat-template"
                + (
                    ""
                    if plan.mask is Mask.COMPLETION
                    else ", or learn the last turn only (--mask completion)"
                )
            )
        found.append((len(before), _end_of_turn(plan, turn, len(before), len(after), tokens)))
    return found


def _marked_turns(plan: TurnPlan, whole: Rendered, tokens: EncodedText) -> list[tuple[int, int]]:
    """[start, end) of what is learnt, by `{% generation %}`; a turn may consist of several parts."""
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
            f"and {len(plan.spoken)} are the assistant's: the token that ends a turn would not be "
            "learnt; move it before {% endgeneration %} and give the template with --chat-template"
        )
    return [
        part for turn, parts in zip(plan.spoken, turns, strict=True) if turn in plan.learnt for part in parts
    ]


def _behind_opening(opening: str, start: int, text: str) -> int:
    """Where an answer begins whose block begins at `start`.

    Many templates have some of what comes before an answer inside, which no model writes.
    """
    found = text.find(opening, max(start - len(opening), 0), start + len(opening)) if opening else -1
    return found + len(opening) if 0 <= found <= start else start


def _end_of_turn(plan: TurnPlan, turn: int, start: int, end: int, tokens: EncodedText) -> int:
    last = _end_mark(start, end, tokens)
    if last is None:
        raise TemplateFault(
            f"chat template {plan.template} ends turn {turn + 1} with {tokens.text[start:end][-20:]!r} and "
            "no special token, so that the model would not learn to stop; write the end of text behind each "
            "answer and give the template with --chat-template"
        )
    return last


def _end_mark(start: int, end: int, tokens: EncodedText) -> int | None:
    """Where the special token ends that [start, end) ends with; behind it may be white space only."""
    marks = np.flatnonzero(tokens.special & (tokens.starts >= start) & (tokens.ends <= end))
    if not marks.size:
        return None
    last = int(tokens.ends[marks[-1]])
    return last if not tokens.text[last:end].strip() else None
