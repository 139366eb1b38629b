"""What templates render, and what they may not do. That it is transformers' text, an oracle tells."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from footplate_trainer.data.chat.template import (
    ChatTemplate,
    Conversation,
    ConversationPrefix,
    ConversationRefused,
    PrefixEnding,
    TemplateFault,
)
from tests.support.chat import CHATML, LLAMA, MARKED, assistant, user

TALK = [user("Hi"), assistant("Yo"), user("Bye"), assistant("So long")]


def text(source: str, part: ConversationPrefix | None = None, **context: Any) -> str:
    messages = context.pop("messages", TALK)
    template = ChatTemplate(source, "t.jinja", {"bos_token": "<s>"}, datetime(2026, 11, 30))
    return template.render(Conversation(messages, **context), part or ConversationPrefix(len(messages))).text


@pytest.mark.parametrize(
    ("part", "ends"),
    [
        pytest.param(ConversationPrefix(2), "assistant\nYo<|im_end|>\n", id="first-turns"),
        pytest.param(
            ConversationPrefix(1, PrefixEnding.ANSWER), "Hi<|im_end|>\n<|im_start|>assistant\n", id="answer"
        ),
        pytest.param(ConversationPrefix(4, PrefixEnding.OPEN), "<|im_start|>assistant\nSo long", id="open"),
    ],
)
def test_a_part_is_the_first_turns_and_an_ending(part: ConversationPrefix, ends: str) -> None:
    assert text(CHATML, part).endswith(ends)


def test_an_open_turn_that_a_template_trims_is_cut_there() -> None:
    assert text(
        LLAMA, ConversationPrefix(2, PrefixEnding.OPEN), messages=[user("Hi"), assistant("Yo ")]
    ).endswith("<|stop|>Yo")


def test_what_stands_in_generation_blocks_is_told_by_place() -> None:
    template = ChatTemplate(MARKED, "t.jinja")
    rendered = template.render(Conversation(TALK), ConversationPrefix(4))
    assert [rendered.text[a:b] for a, b in rendered.generated] == ["Yo<|im_end|>", "So long<|im_end|>"]
    # The next conversation begins anew.
    assert len(template.render(Conversation(TALK), ConversationPrefix(2)).generated) == 1


@pytest.mark.parametrize(
    ("source", "rendered"),
    [
        pytest.param("{{ messages[0] | tojson }}", '{"role": "user", "content": "Hi"}', id="tojson"),
        pytest.param("{{ '<é>' | tojson }}", '"<é>"', id="tojson-escapes-nothing"),
        pytest.param("{{ strftime_now('%d %b %Y') }}", "30 Nov 2026", id="date"),
        pytest.param("{{ bos_token }}{{ eos_token }}", "<s>", id="special-tokens"),
        pytest.param(
            "{% set n = namespace(x=1) %}{% for m in messages %}{% set n.x = n.x + 1 %}"
            "{% if loop.index == 2 %}{% break %}{% endif %}{% endfor %}{{ n.x }}",
            "3",
            id="namespace-and-break",
        ),
        pytest.param("  {% if true %}\na{% endif %}", "a", id="trimmed-blocks"),
        pytest.param("{{ tools is none }}{{ dict(a=1).a }}", "True1", id="no-tools"),
    ],
)
def test_templates_have_what_transformers_gives_them(source: str, rendered: str) -> None:
    assert text(source) == rendered


def test_variables_and_documents_are_the_templates() -> None:
    source = "{{ documents[0].title }} {{ style }} {{ tools[0].name }}"
    context = {"documents": [{"title": "D"}], "tools": [{"name": "f"}], "variables": {"style": "terse"}}
    assert text(source, **context) == "D terse f"


def test_a_message_without_content_has_no_none_and_reasoning_has_all_its_names() -> None:
    messages = [{"role": "user", "content": None, "reasoning": "hm"}]
    source = "{{ 'content' in messages[0] }} {{ messages[0].thinking }} {{ messages[0].reasoning_content }}"
    assert text(source, messages=messages) == "False hm hm"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("{% if x", "t.jinja, line 1: unexpected end of template", id="syntax"),
        pytest.param("{% include '/etc/passwd' %}", "t.jinja needs another file", id="file"),
        pytest.param("{{ ''.__class__.__mro__ }}", "what the sandbox forbids: .*__class__", id="python"),
        pytest.param("{% set n = namespace(_x=1) %}", "what the sandbox forbids: .*_x", id="namespace"),
        pytest.param(
            "{{ messages.append(1) }}", "what the sandbox forbids: .*append", id="changes-its-input"
        ),
        pytest.param("{{ range(999999) | list }}", "what the sandbox forbids: Range too big", id="range"),
        pytest.param("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "too much memory", id="recursion"),
        pytest.param(
            "{% for n in range(20) %}{{ 'a' * 1000000 }}{% endfor %}", "more than 16,777,216", id="output"
        ),
    ],
)
def test_a_template_that_does_what_none_may_is_named(source: str, says: str) -> None:
    with pytest.raises(TemplateFault, match=says):
        text(source)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param(
            "{{ raise_exception('No system role') }}", "t.jinja raised: No system role", id="its-own"
        ),
        pytest.param("{{ messages[9].role }}", "t.jinja raised: list object has no element 9", id="missing"),
    ],
)
def test_a_conversation_may_be_refused(source: str, says: str) -> None:
    with pytest.raises(ConversationRefused, match=says):
        text(source)


def test_an_open_turn_must_be_there() -> None:
    with pytest.raises(TemplateFault, match=r"t\.jinja leaves out the end of the last turn"):
        text("{{ messages[0].content }}", ConversationPrefix(4, PrefixEnding.OPEN))
    with pytest.raises(ConversationRefused, match="has no text to continue"):
        text(
            CHATML,
            ConversationPrefix(1, PrefixEnding.OPEN),
            messages=[{"role": "assistant", "tool_calls": []}],
        )
