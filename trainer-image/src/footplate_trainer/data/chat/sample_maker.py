"""Builds samples from rows: renders and encodes their conversations, and masks the learnt tokens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from footplate_contracts.v1alpha1.data import LossMask
from footplate_trainer.data.chat.assistant_masks import (
    ASSISTANT,
    Dialogue,
    TurnPlan,
    assistant_mask,
    check_agreement,
    plan_turns,
)
from footplate_trainer.data.chat.encoding import ChatEncoder, EncodedText
from footplate_trainer.data.chat.model_template import ModelTemplate
from footplate_trainer.data.chat.renderer import Render, RenderRequest
from footplate_trainer.data.chat.row_reader import PlainText, RowReader, SampleFields
from footplate_trainer.data.chat.template import (
    Conversation,
    ConversationPrefix,
    ConversationRefused,
    PrefixEnding,
    RenderedText,
    TemplateFault,
    has_generation_tags,
)
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.row_files import BadRow, DataRow
from footplate_trainer.data.sample_shards import SampleDocument, StoredSample

# Of so many conversations `{% generation %}` is compared with the turns themselves.
_COMPARED: Final = 64
_PROBE: Final = ("amber", "basalt", "copper", "dolomite")

Made = StoredSample | BadRow


@dataclass(frozen=True)
class EndOfText:
    """The id that ends a text to which no template is applied."""

    id: int | None
    name: str  # where a person would name it


@dataclass(frozen=True)
class AnswerDelimiters:
    """The text and ids that a template writes around an answer."""

    opening: str = ""  # before it
    turn_end: Sequence[int] | None = None  # ids behind it; None where the template refused to show


@dataclass
class SampleMaker:
    """A builder of samples, a batch of rows at a time."""

    reader: RowReader
    tokenizer: Tokenizer
    template: ModelTemplate | None
    render: Render
    mask: LossMask
    end_of_text: EndOfText
    edges: AnswerDelimiters = AnswerDelimiters()  # of an answer
    encoder: ChatEncoder = field(init=False)
    _compared: int = field(default=0, init=False)
    _margins: bool | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.encoder = ChatEncoder(self.tokenizer)
        bos = self.template.special.get("bos_token") if self.template else None
        self._bos = None if bos is None else self.tokenizer.token_to_id(bos)
        self._marked = self.template is not None and has_generation_tags(self.template.source)

    def make(self, rows: Sequence[DataRow]) -> Iterator[tuple[DataRow, Made]]:
        """Yield each row with its sample or BadRow; TemplateFault if the template is unusable."""
        read = [(row, self._read(row)) for row in rows]
        dialogues = [
            (row, document)
            for row, fields in read
            if isinstance(fields, SampleFields)
            for document in fields.documents
            if isinstance(document, Dialogue)
        ]
        documents = iter(self._documents(dialogues))
        for row, fields in read:
            if isinstance(fields, BadRow):
                yield row, fields
                continue
            made = [
                next(documents) if isinstance(document, Dialogue) else self._of_text(document)
                for document in fields.documents
            ]
            yield row, self._sample(fields, made)

    def _read(self, row: DataRow) -> SampleFields | BadRow:
        if isinstance(row.content, BadRow):
            return row.content
        try:
            fields = self.reader.read(row.content)
            if self.reader.format is RecordKind.PREFERENCES:
                self._check_margins(fields)
        except BadRow as bad:
            return bad
        return fields

    def _check_margins(self, fields: SampleFields) -> None:
        given = fields.value is not None
        if self._margins is None:
            self._margins = given
        if given != self._margins:
            has = (
                "a margin where rows before it have none"
                if given
                else "no margin where rows before it have one"
            )
            raise BadRow("margin", f"has {has}; set it in all rows, or ignore it (--ignore margin)")

    def _sample(self, fields: SampleFields, made: Sequence[SampleDocument | BadRow]) -> Made:
        documents = []
        for side, document in enumerate(made):
            if isinstance(document, BadRow):
                return document
            value = fields.value
            if value is not None and side:
                value = 0.0  # a margin is told once, with what was chosen
            documents.append(replace(document, value=value))
        if len(documents) == 2 and np.array_equal(documents[0].tokens, documents[1].tokens):
            return BadRow("identical", "has chosen and rejected that render to the same text; remove the row")
        return StoredSample(tuple(documents), fields.columns)

    # -- conversations

    def _documents(self, dialogues: Sequence[tuple[DataRow, Dialogue]]) -> Iterator[SampleDocument | BadRow]:
        """Yield a document for each dialogue, in order."""
        if not dialogues:
            return
        template = self._needed_template(dialogues)
        plans = [
            plan_turns(
                dialogue, self.mask, template=template.name, marked=self._marked, opening=self.edges.opening
            )
            for _, dialogue in dialogues
        ]
        protected = [self.encoder.escape_special_tokens(dialogue.conversation) for _, dialogue in dialogues]
        requests = [
            RenderRequest(conversation, self._parts(plan, conversation))
            for plan, (conversation, _) in zip(plans, protected, strict=True)
        ]
        answers = list(self._rendered([row for row, _ in dialogues], requests))
        whole = [answer[0].text if isinstance(answer, list) else "" for answer in answers]
        encoded = self.encoder.encode(whole, [marks for _, marks in protected])
        around = self._around(requests, plans)
        for (row, _), plan, answer, beside, tokens in zip(
            dialogues, plans, answers, around, encoded, strict=True
        ):
            try:
                yield self._of_dialogue(plan, answer, beside, tokens)
            except TemplateFault as fault:
                raise TemplateFault(f"{row.place}: {fault}") from None

    def _parts(self, plan: TurnPlan, conversation: Conversation) -> list[ConversationPrefix]:
        if self.reader.format is RecordKind.PROMPTS:
            answered = conversation.messages[-1]["role"] == ASSISTANT
            return [ConversationPrefix(plan.turns, PrefixEnding.OPEN if answered else PrefixEnding.ANSWER)]
        return plan.parts

    def _around(
        self, requests: Sequence[RenderRequest], plans: Sequence[TurnPlan]
    ) -> list[list[RenderedText] | None]:
        """Render the first conversations turn by turn as well, if the template marks answers itself.

        A conversation whose parts the template refuses is not compared; that does not refuse the whole.
        """
        more = _COMPARED - self._compared if self._marked and self.mask is not LossMask.ALL else 0
        if self.reader.format is RecordKind.PROMPTS:
            more = 0
        asked = [
            RenderRequest(request.conversation, plan.boundary_prefixes)
            for request, plan in zip(requests[:more], plans[:more], strict=True)
        ]
        self._compared += len(asked)
        answers = [answer if isinstance(answer, list) else None for answer in self.render(asked)]
        return [*answers, *[None] * (len(plans) - len(answers))]

    def _rendered(
        self, rows: Sequence[DataRow], requests: Sequence[RenderRequest]
    ) -> Iterator[list[RenderedText] | BadRow]:
        answers = self.render(requests)
        for row in rows:
            try:
                answer = next(answers)
            except TemplateFault as fault:
                raise TemplateFault(f"{row.place}: {fault}") from None
            if isinstance(answer, ConversationRefused):
                yield BadRow("refused by the template", f"is rejected: {answer}")
            else:
                yield answer

    def _of_dialogue(
        self,
        plan: TurnPlan,
        answer: list[RenderedText] | BadRow,
        around: list[RenderedText] | None,
        tokens: EncodedText,
    ) -> SampleDocument | BadRow:
        if isinstance(answer, BadRow):
            return answer
        if self._bos is not None and tokens.ids[:2].tolist() == [self._bos] * 2:
            raise TemplateFault(
                f"chat template {plan.template} begins with two beginning-of-text tokens; write one"
            )
        if self.reader.format is RecordKind.PROMPTS:
            return SampleDocument(tokens.ids, None, len(tokens.ids))
        learnt = assistant_mask(plan, answer, tokens)
        if around is not None:
            check_agreement(plan, learnt, around, tokens)
        if not learnt.any():
            return BadRow("nothing learnt", "has no token to train on; add an assistant turn")
        return SampleDocument(tokens.ids, learnt, int(learnt.argmax()))

    def _needed_template(self, dialogues: Sequence[tuple[DataRow, Dialogue]]) -> ModelTemplate:
        row, _ = dialogues[0]
        if self.template is None:
            raise ValueError(
                f"{row.place} has messages, but the tokenizer has no chat template (chat_template.jinja, "
                "tokenizer_config.json); pass one as --chat-template"
            )
        if self.template.other_for_tools:
            for row, dialogue in dialogues:
                if dialogue.conversation.tools is not None:
                    raise ValueError(
                        f"{row.place} has tools, and {self.template.name} has its own template for them "
                        "(tool_use); write that to a file and pass it as --chat-template"
                    )
        return self.template

    # -- texts

    def _of_text(self, text: PlainText) -> SampleDocument | BadRow:
        """Encode a text without a template, between the tokenizer's beginning of text and the end of text."""
        tokens = self.encoder.encode_text(text.prompt + text.completion)
        before = np.array(self.encoder.begins_with, dtype=np.uint32)
        if self.reader.format is RecordKind.PROMPTS:
            ids = np.concatenate([before, tokens.ids])
            return SampleDocument(ids, None, len(ids))
        if self.end_of_text.id is None:
            raise ValueError(
                f"{self.end_of_text.name} has no end of text; pass --special-token eos=TOKEN, or messages"
            )
        start = 0 if self.mask is LossMask.ALL else len(text.prompt)
        learnt = tokens.within(start, len(tokens.text))
        if not learnt.any():
            return BadRow("nothing learnt", "has no token to train on; add a completion")
        ids = np.concatenate([before, tokens.ids, np.array([self.end_of_text.id], dtype=np.uint32)])
        learnt = np.concatenate([np.full(len(before), self.mask is LossMask.ALL), learnt, [True]])
        return SampleDocument(ids, learnt, int(learnt.argmax()))


def find_delimiters(template: ModelTemplate, render: Render, encoder: ChatEncoder) -> AnswerDelimiters:
    """Return the text and ids around an answer; TemplateFault if the template leaves out a turn's text."""
    roles = ("user", ASSISTANT)
    probe = Conversation([{"role": roles[n % 2], "content": word} for n, word in enumerate(_PROBE)])
    parts = [
        ConversationPrefix(len(_PROBE)),
        ConversationPrefix(1),
        ConversationPrefix(1, PrefixEnding.ANSWER),
    ]
    [answer] = render([RenderRequest(probe, parts)])
    if isinstance(answer, ConversationRefused):
        return AnswerDelimiters()  # it wants more than messages; each row will show
    whole, asked, answering = (part.text for part in answer)
    if missing := [word for word in _PROBE if word not in whole]:
        turns = ", ".join(str(_PROBE.index(word) + 1) for word in missing)
        raise TemplateFault(
            f"chat template {template.name} drops input: of a conversation of {len(_PROBE)} turns it leaves "
            f"out turn {turns}; pass another one as --chat-template"
        )
    opening = answering.removeprefix(asked) if answering.startswith(asked) else ""
    return AnswerDelimiters(opening, _turn_end(whole, _PROBE[-1], encoder))


def _turn_end(whole: str, answer: str, encoder: ChatEncoder) -> list[int]:
    """Return the ids of `whole` from the added token that ends its last turn, the `answer`, to its end.

    Returns [] if there is no such token. A template may write more after it, such as a line end, which no
    model writes. Added tokens of white space end nothing, and whether a file calls a token special is not
    decisive.
    """
    [tokens] = encoder.encode([whole], [None])
    behind = whole.rindex(answer) + len(answer)
    marks = np.flatnonzero(np.isin(tokens.ids, encoder.visible_token_ids) & (tokens.starts >= behind))
    return [int(number) for number in tokens.ids[marks[0] :]] if marks.size else []


def format_sample(place: str, sample: StoredSample, tokenizer: Tokenizer) -> str:
    """Format a sample for a person: tokens separated by |, learnt ones within ⟦ ⟧."""
    lines = []
    for side, document in enumerate(sample.documents):
        count = 0 if document.learnt is None else int(document.learnt.sum())
        name = f", {('chosen', 'rejected')[side]}" if len(sample.documents) > 1 else ""
        value = "" if document.value is None else f", value {document.value:g}"
        lines.append(f"{place}{name}: {len(document.tokens)} tokens, {count} learnt{value}")
        lines.append(_with_mask(document, tokenizer))
    if sample.columns:
        lines.append(f"columns: {', '.join(sample.columns)}")
    return "\n".join(lines)


def _with_mask(document: SampleDocument, tokenizer: Tokenizer) -> str:
    names = [tokenizer.decode([int(token)], skip_special_tokens=False) for token in document.tokens]
    learnt = [False] * len(names) if document.learnt is None else document.learnt.tolist()
    parts = []
    for place, name in enumerate(names):
        before, behind = place and learnt[place - 1], place + 1 < len(names) and learnt[place + 1]
        text = name.replace("\n", "\\n")
        opened = "⟦" if learnt[place] and not before else ""
        closed = "⟧" if learnt[place] and not behind else ""
        parts.append(f"{opened}{text}{closed}" + ("\n" if name.endswith("\n") else ""))
    return "|".join(parts).replace("\n|", "\n").rstrip("\n")
