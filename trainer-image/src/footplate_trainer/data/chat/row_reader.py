"""The shapes in which data sets store conversations, preferences, ratings and prompts.

    chat           messages (or conversations); or prompt, completion
    preferences    prompt, chosen, rejected; without prompt it is their common beginning
                   margin, or score_chosen and score_rejected: a number, or a list with one of each rater
    ratings        prompt, completion, label; or messages, label
    prompts        prompt (or messages), and any further fields, for rewards

messages are {"role", "content"} or {"from", "value"}. A prompt or completion is a list of
messages, or a text, which no template is applied to. Rows with messages may also have tools,
documents, chat_template_kwargs and system.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Final

from footplate_trainer.data.chat.assistant_masks import Dialogue
from footplate_trainer.data.chat.template import Conversation, Message
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.row_files import BadRow

_ROLES: Final = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
}
_OF_A_MESSAGE: Final = frozenset(
    ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "thinking", "reasoning")
)
_FIRST: Final = ("system", "developer")
# Who may speak behind whom; nobody before the first turn.
_BEHIND: Final = {
    None: ("system", "developer", "user"),
    "system": ("user", "developer"),
    "developer": ("user",),
    "user": ("assistant",),
    "assistant": ("user", "tool"),
    "tool": ("assistant", "tool", "user"),
}
_SHAPES: Final = {
    RecordKind.CHAT: "messages, or prompt and completion",
    RecordKind.PREFERENCES: "chosen and rejected, with or without prompt",
    RecordKind.RATINGS: "completion and label, with or without prompt, or messages and label",
    RecordKind.PROMPTS: "prompt, or messages",
}
_LABELS: Final = {1: 1.0, 0: -1.0, -1: -1.0}  # true is 1, and false is 0


_CONVERSATIONS: Final = ("messages", "conversations")  # two names for one thing
# What a template gets of a row; parquet may hold times and numbers there that JSON has not.
_OF_TEMPLATES: Final = frozenset(
    (
        *("messages", "conversations", "prompt", "completion", "chosen", "rejected"),
        *("system", "tools", "documents", "chat_template_kwargs"),
    )
)


@dataclass(frozen=True)
class PlainText:
    """A text in two parts, to which no template is applied."""

    prompt: str
    completion: str


Spoken = Dialogue | PlainText


@dataclass(frozen=True)
class SampleFields:
    """The documents of a row: of a preference two, chosen and rejected, else one."""

    documents: tuple[Spoken, ...]
    value: float | None = None  # the label of a rating, 1 or -1; the margin of a preference
    columns: Mapping[str, Any] | None = None  # what else is kept, as plain JSON


@dataclass(frozen=True)
class RowReader:
    """A reader that turns rows into samples; raises BadRow."""

    format: RecordKind
    ignored: frozenset[str] = frozenset()  # fields of rows and messages that are passed over
    texts_are_turns: bool = False  # a text is what a user says, or the answer to it

    def read(self, row: Mapping[str, Any]) -> SampleFields:
        """Return the sample of `row`."""
        # Parquet has a null where a line of JSON has no field.
        fields = {
            name: value for name, value in row.items() if value is not None and name not in self.ignored
        }
        for name in _OF_TEMPLATES.intersection(fields):
            if (foreign := next(_no_json(fields[name]), None)) is not None:
                raise BadRow(
                    "shape", f"has {_short(foreign)} in {name}, which JSON cannot represent; use a text"
                )
        context = _Context.taken(fields)
        found = {
            RecordKind.CHAT: self._chat,
            RecordKind.PREFERENCES: self._preference,
            RecordKind.RATINGS: self._rating,
            RecordKind.PROMPTS: self._prompt,
        }[self.format](fields, context)
        if fields:
            raise BadRow(
                "unknown field",
                f"has the fields {', '.join(sorted(fields))}, which --format {self.format} does not support; "
                f"it reads {_SHAPES[self.format]}; remove or ignore them: "
                + " ".join(f"--ignore {name}" for name in sorted(fields)),
            )
        return found

    def _chat(self, fields: dict[str, Any], context: _Context) -> SampleFields:
        return SampleFields((self._answered(fields, context),))

    def _answered(self, fields: dict[str, Any], context: _Context) -> Spoken:
        """Read messages, or prompt and completion."""
        if (whole := self._take_messages(fields)) is not None:
            return context.dialogue(whole, 0, ends_with="assistant")
        completion = self._part(fields, "completion", "assistant")
        prompt = self._part(fields, "prompt", "user") if "prompt" in fields else None
        return self._joined(prompt, completion, "completion", context)

    def _joined(
        self, prompt: str | list[Message] | None, answer: str | list[Message], name: str, context: _Context
    ) -> Spoken:
        if isinstance(answer, str):
            if isinstance(prompt, list):
                answer = [{"role": "assistant", "content": answer}]
            else:
                context.none_of_a_text()
                return PlainText(prompt or "", answer)
        if isinstance(prompt, str):
            prompt = [{"role": "user", "content": prompt}]
        if prompt is None:
            # The turns before the last answer are what it answers.
            prompt, answer = answer[:-1], answer[-1:]
        elif len(answer) > len(prompt) and list(answer[: len(prompt)]) == list(prompt):
            answer = answer[len(prompt) :]  # the conversation as a whole, prompt and all
        return context.dialogue([*prompt, *answer], len(prompt), ends_with="assistant", last=name)

    def _preference(self, fields: dict[str, Any], context: _Context) -> SampleFields:
        sides = [self._part(fields, name, "assistant") for name in ("chosen", "rejected")]
        prompt = self._part(fields, "prompt", "user") if "prompt" in fields else None
        if type(sides[0]) is not type(sides[1]):
            raise BadRow("shape", "has a text and a list in chosen and rejected; use the same type for both")
        if sides[0] == sides[1]:
            raise BadRow(
                "identical", f"has the same text in chosen and rejected, {_short(sides[0])}; remove the row"
            )
        if prompt is None:
            prompt, *sides = _common_beginning(*sides)
        both = [
            self._joined(prompt, side, name, context)
            for name, side in zip(("chosen", "rejected"), sides, strict=True)
        ]
        margin, raters = _margin(fields)
        return SampleFields(tuple(both), margin, None if raters is None else {"raters": raters})

    def _rating(self, fields: dict[str, Any], context: _Context) -> SampleFields:
        label = fields.pop("label", None)
        if not isinstance(label, bool | int) or label not in _LABELS:
            raise BadRow("label", f"has label {_short(label)}; must be true or false (or 1, 0, -1)")
        return SampleFields((self._answered(fields, context),), _LABELS[label])

    def _prompt(self, fields: dict[str, Any], context: _Context) -> SampleFields:
        asked = [name for name in (*_CONVERSATIONS, "prompt") if name in fields]
        if len(asked) > 1:
            raise BadRow(
                "shape",
                f"has both {asked[0]} and {asked[1]}; remove one of them, or ignore it: --ignore {asked[1]}",
            )
        messages = self._take_messages(fields)
        prompt = self._part(fields, "prompt", "user") if messages is None else messages
        columns = {"prompt": prompt, **fields}
        fields.clear()
        if isinstance(prompt, str):
            context.none_of_a_text()
            return SampleFields((PlainText(prompt, ""),), columns=columns)
        return SampleFields((context.dialogue(prompt, len(prompt)),), columns=columns)

    def _take_messages(self, fields: dict[str, Any]) -> list[Message] | None:
        name = next((name for name in _CONVERSATIONS if name in fields), None)
        return None if name is None else self._messages(fields.pop(name), name)

    def _part(self, fields: dict[str, Any], name: str, role: str) -> str | list[Message]:
        if name not in fields:
            raise BadRow(
                "missing field",
                f"has no {name}, only the fields {', '.join(sorted(fields)) or 'none'}; --format "
                f"{self.format} reads {_SHAPES[self.format]}",
            )
        value = fields.pop(name)
        if not isinstance(value, str):
            return self._messages(value, name)
        if not value.strip():
            raise BadRow("empty turn", f"has the {name} {value!r}; must be a text; set one or remove the row")
        return [{"role": role, "content": value}] if self.texts_are_turns else value

    def _messages(self, value: Any, name: str) -> list[Message]:
        if not isinstance(value, list) or not value:
            raise BadRow("shape", f"has the {name} {_short(value)}; must be a list of messages, or a text")
        return [self._message(message, f"{name}[{place}]") for place, message in enumerate(value)]

    def _message(self, value: Any, place: str) -> Message:
        if not isinstance(value, dict):
            raise BadRow("shape", f"has {_short(value)} in {place}; a message must have role and content")
        message = {
            name: part for name, part in value.items() if part is not None and name not in self.ignored
        }
        if "from" in message:
            message = {"role": message.pop("from"), "content": message.pop("value", None), **message}
        role = message.get("role")
        if not isinstance(role, str) or role not in _ROLES:
            raise BadRow("role", f"has the role {_short(role)} in {place}; must be {', '.join(_ROLES)}")
        if unknown := sorted(message.keys() - _OF_A_MESSAGE):
            raise BadRow(
                "unknown field",
                f"has the fields {', '.join(unknown)} in {place}; remove or ignore them: "
                + " ".join(f"--ignore {name}" for name in unknown),
            )
        _check_content(message, place)
        return {**message, "role": _ROLES[role]}


@dataclass(frozen=True)
class _Context:
    """The fields beside messages that a template reads."""

    system: str | None
    tools: list[Any] | None
    documents: list[Any] | None
    variables: dict[str, Any] | None

    @classmethod
    def taken(cls, fields: dict[str, Any]) -> _Context:
        system = fields.pop("system", None)
        if system is not None and not isinstance(system, str):
            raise BadRow("shape", f"has the system {_short(system)}; must be a text")
        tools = fields.pop("tools", None)
        if isinstance(tools, str):  # as many data sets keep them, since tools differ in shape
            try:
                tools = json.loads(tools) if tools.strip() else None
            except ValueError as error:
                raise BadRow("shape", f"has tools that are not valid JSON: {error}") from None
        documents, variables = fields.pop("documents", None), fields.pop("chat_template_kwargs", None)
        for name, value, kind in (("tools", tools, list), ("documents", documents, list)):
            if value is not None and not isinstance(value, kind):
                raise BadRow("shape", f"has the {name} {_short(value)}; must be a list")
        if variables is not None and not isinstance(variables, dict):
            raise BadRow("shape", f"has the chat_template_kwargs {_short(variables)}; must be an object")
        return cls(system or None, tools or None, documents or None, variables)

    def dialogue(
        self,
        messages: Sequence[Message],
        prompt: int,
        *,
        ends_with: str | None = None,
        last: str = "messages",
    ) -> Dialogue:
        """Return the conversation; BadRow if its roles are not in order."""
        if self.system is not None:
            messages, prompt = [{"role": "system", "content": self.system}, *messages], prompt + bool(prompt)
        before: str | None = None
        for place, message in enumerate(messages):
            role = message["role"]
            if role not in _BEHIND[before]:
                where = f"after {before}" if before else "first"
                raise BadRow(
                    "order",
                    f"has role {role} {where} (turn {place + 1}); must be {', '.join(_BEHIND[before])}",
                )
            before = role
        if before in _FIRST or (ends_with and before != ends_with):
            raise BadRow(
                "order", f"ends {last} with role {before}; it must end with {ends_with or 'a user or a tool'}"
            )
        return Dialogue(Conversation(messages, self.tools, self.documents, self.variables), prompt)

    def none_of_a_text(self) -> None:
        for name in ("system", "tools", "documents"):
            if getattr(self, name) is not None:
                raise BadRow(
                    "shape", f"has {name} and a text; no template is applied to a text; use messages"
                )


def _check_content(message: Mapping[str, Any], place: str) -> None:
    content = message.get("content")
    if isinstance(content, list):
        for block in content:
            if not isinstance(block, dict) or not isinstance(block.get("text"), str):
                raise BadRow("shape", f"has content {_short(block)} in {place}; only text can be trained on")
        content = "".join(block["text"] for block in content)
    if content is not None and not isinstance(content, str):
        raise BadRow("shape", f"has content {_short(content)} in {place}; must be a text")
    if not (content and content.strip()) and not message.get("tool_calls"):
        raise BadRow("empty turn", f"has an empty content in {place}; write a text or remove the turn")


def _common_beginning(
    chosen: str | list[Message], rejected: str | list[Message]
) -> tuple[str | list[Message], str | list[Message], str | list[Message]]:
    """Return the common beginning, and the rest of each: whole turns, or words."""
    same = next(
        (place for place, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b),
        min(len(chosen), len(rejected)),
    )
    if isinstance(chosen, str) and isinstance(rejected, str):
        # Not within a word, of which no token would be the prompt's; the space is the answer's.
        words = chosen[:same].rstrip().rfind(" ") if same and not chosen[same - 1].isspace() else same - 1
        same = max(words, chosen.rfind("\n", 0, same), 0)
    if not same or len(chosen) == same or len(rejected) == same:
        raise BadRow("prompt", "has no prompt, and chosen and rejected do not start alike; add prompt")
    return chosen[:same], chosen[same:], rejected[same:]


def _margin(fields: dict[str, Any]) -> tuple[float | None, int | None]:
    """Return how much better chosen is, and the number of raters if the row lists their scores."""
    if "margin" in fields:
        values = fields.pop("margin")
        raters = len(values) if isinstance(values, list) else None
        margin = _mean(values, "margin")
    elif "score_chosen" in fields and "score_rejected" in fields:
        scores = [fields.pop("score_chosen"), fields.pop("score_rejected")]
        raters = len(scores[0]) if isinstance(scores[0], list) else None
        margin = _mean(scores[0], "score_chosen") - _mean(scores[1], "score_rejected")
    else:
        return None, None
    if margin < 0:
        raise BadRow("margin", f"has the margin {margin:g}: rejected is better than chosen; swap the two")
    return margin, raters


def _mean(values: Any, name: str) -> float:
    numbers = values if isinstance(values, list) else [values]
    if not numbers or not all(
        isinstance(number, int | float) and not isinstance(number, bool) and math.isfinite(number)
        for number in numbers
    ):
        raise BadRow("margin", f"has the {name} {_short(values)}; must be a finite number, or one per rater")
    return fmean(numbers)


def _no_json(value: Any) -> Iterator[Any]:
    """Yield the parts of `value` that JSON cannot express."""
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _no_json(item)
    elif isinstance(value, list):
        for item in value:
            yield from _no_json(item)
    elif value is not None and not isinstance(value, str | bool | int | float):
        yield value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
