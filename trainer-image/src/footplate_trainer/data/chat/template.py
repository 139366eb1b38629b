"""A chat template, which renders a conversation as the text that a model was trained on.

It is a Jinja program that came with a model, so code of others. It runs in the sandbox, with the functions
and the data that transformers passes to it, so that both render the same text. It can do little: it has no
files, and sees no objects but plain JSON. `renderer` limits its time and its memory.

A template may mark the parts that the model writes by `{% generation %}`. Most do not. Source of names and
rules: transformers 5.24, utils/chat_template_utils.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from jinja2 import TemplateError, TemplateSyntaxError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

Message = Mapping[str, Any]

MOST_CHARACTERS: Final = 16 << 20  # of one rendered text
_MARKED: Final = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")
_CONTINUED: Final = "CONTINUE_FINAL_MESSAGE_TAG "
# What a message's reasoning is called; templates read the first of them, or the second.
_REASONING: Final = ("reasoning_content", "thinking", "reasoning")


class TemplateFault(ValueError):
    """The template is unusable for any conversation."""


class ConversationRefused(ValueError):
    """The template refuses this conversation, with a reason."""


class PrefixEnding(StrEnum):
    """The text after the last turn."""

    NONE = "none"
    ANSWER = "answer"  # what comes before an answer (add_generation_prompt)
    OPEN = "open"  # the last turn itself has no end, and is gone on with (continue_final_message)


@dataclass(frozen=True)
class ConversationPrefix:
    """The first `turns` of a conversation, and the text after them."""

    turns: int
    ending: PrefixEnding = PrefixEnding.NONE


@dataclass(frozen=True)
class Conversation:
    """The input of a template; plain JSON throughout."""

    messages: Sequence[Message]
    tools: Sequence[Any] | None = None
    documents: Sequence[Any] | None = None
    variables: Mapping[str, Any] | None = None  # further ones of the template's own


@dataclass(frozen=True)
class RenderedText:
    """A rendered text, and [start, end) of each part within `{% generation %}`."""

    text: str
    generated: tuple[tuple[int, int], ...] = ()


class ChatTemplate:
    """A parsed template; TemplateFault if it cannot be parsed."""

    def __init__(
        self, source: str, name: str, special: Mapping[str, Any] | None = None, now: datetime | None = None
    ) -> None:
        """Parse `source`; `name` identifies it in messages, `special` are tokens by name (bos_token, …).

        `strftime_now` formats `now`: packing on different days can then render the same text.
        """
        self.name = name
        self._special = dict(special or {})
        self._environment = _environment(now or datetime.now())
        try:
            self._template = self._environment.from_string(source)
        except TemplateSyntaxError as error:
            raise TemplateFault(f"chat template {name}, line {error.lineno}: {error.message}") from None
        except (TemplateError, RecursionError, MemoryError) as error:
            raise TemplateFault(f"cannot read chat template {name}: {_said(error)}") from None
        self._source = source

    def render(self, conversation: Conversation, part: ConversationPrefix) -> RenderedText:
        """Return the text of `part`.

        ConversationRefused where the template raises an error about this conversation, TemplateFault where it
        does something that no template may.
        """
        messages = [_without_none(message) for message in conversation.messages[: part.turns]]
        messages = [_reasoning_by_all_names(message) for message in messages]
        if part.ending is PrefixEnding.OPEN:
            self._open_last(messages)
        tracked: list[tuple[int, int]] = []
        blocks: list[str] = []
        length = 0
        self._environment.tracked, self._environment.blocks = tracked, blocks
        try:
            for block in self._template.generate(
                **{**self._special, **(conversation.variables or {})},
                messages=messages,
                tools=conversation.tools,
                documents=conversation.documents,
                add_generation_prompt=part.ending is PrefixEnding.ANSWER,
            ):
                blocks.append(block)
                length += len(block)
                if length > MOST_CHARACTERS:
                    raise self._fault(f"writes more than {MOST_CHARACTERS:,} characters for one conversation")
        except TemplateFault:
            raise
        except (SecurityError, OverflowError) as error:  # the sandbox bounds range() by the latter
            raise self._fault(f"does what the sandbox forbids: {_said(error)}") from None
        except (MemoryError, RecursionError) as error:
            raise self._fault(f"takes too much memory ({type(error).__name__})") from None
        except Exception as error:  # noqa: BLE001 - a template may raise anything that Python can
            if "no loader for this environment" in str(error):
                raise self._fault("needs another file (include, import or extends)") from None
            raise ConversationRefused(f"chat template {self.name} raised: {_said(error)}") from None
        text = "".join(blocks)
        return RenderedText(
            self._cut_open(text) if part.ending is PrefixEnding.OPEN else text, tuple(tracked)
        )

    def _open_last(self, messages: list[dict[str, Any]]) -> None:
        content = messages[-1].get("content") if messages else None
        if isinstance(content, str):
            messages[-1]["content"] = content + _CONTINUED
            return
        blocks = [dict(block) for block in content or ()]
        last = next((block for block in reversed(blocks) if "text" in block), None)
        if last is None:
            raise ConversationRefused("the last turn has no text to continue")
        last["text"] += _CONTINUED
        messages[-1]["content"] = blocks

    def _cut_open(self, text: str) -> str:
        place = text.rfind(_CONTINUED.strip())
        if place < 0:
            raise self._fault("leaves out the end of the last turn, so that it cannot be continued")
        whole = text[place : place + len(_CONTINUED)] == _CONTINUED
        # A template that trims a turn has trimmed ours, too.
        return text[:place] if whole else text[:place].rstrip()

    def _fault(self, what: str) -> TemplateFault:
        return TemplateFault(f"chat template {self.name} {what}; pass another one as --chat-template")


def has_generation_tags(source: str) -> bool:
    """Return whether a template itself marks the text that the model writes, by `{% generation %}`."""
    return _MARKED.search(source) is not None


class _Sandbox(ImmutableSandboxedEnvironment):
    """The Jinja environment, with the state of the current rendering."""

    tracked: list[tuple[int, int]]
    blocks: list[str]


class _Generation(Extension):
    """The Jinja tag `{% generation %} … {% endgeneration %}`."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_noted"), [], [], body).set_lineno(line)

    def _noted(self, caller: Macro) -> str:
        text = str(caller())
        environment = self.environment
        assert isinstance(environment, _Sandbox)
        start = sum(map(len, environment.blocks))
        environment.tracked.append((start, start + len(text)))
        return text


class _Dict:
    """The `dict` of templates; the type itself would give access to other types."""

    def __call__(self, *arguments: Any, **named: Any) -> dict[Any, Any]:
        return dict(*arguments, **named)

    def fromkeys(self, *arguments: Any) -> dict[Any, Any]:
        """Return dict.fromkeys of the arguments."""
        return dict.fromkeys(*arguments)


class _Namespace(Namespace):
    """The `namespace` of templates, without the names that give access to Python."""

    def __init__(*arguments: Any, **named: Any) -> None:  # as the base's, which takes a name `self`, too
        self, *rest = arguments
        values = dict(*rest, **named)
        for name in values:
            _check_public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _check_public(name)
        super().__setitem__(name, value)


def _check_public(name: object) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise SecurityError(f"a namespace has no attribute {name!r}")


def _environment(now: datetime) -> _Sandbox:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])

    def tojson(
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        # Jinja's own writes < as <, for pages.
        return json.dumps(
            value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    environment.filters["tojson"] = tojson
    environment.globals.update(
        {
            "raise_exception": raise_exception,
            "strftime_now": now.strftime,
            "dict": _Dict(),
            "namespace": _Namespace,
        }
    )
    return environment


def _without_none(message: Message) -> dict[str, Any]:
    """Remove members that are None: many templates write "None" for tool_calls, and handle a missing key."""
    return {name: value for name, value in message.items() if value is not None}


def _reasoning_by_all_names(message: dict[str, Any]) -> dict[str, Any]:
    given = next((message[name] for name in _REASONING if message.get(name) is not None), None)
    return message if given is None else {"thinking": given, **message, "reasoning_content": given}


def _said(error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return "it takes too much memory"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:500]
