"""Templates in a process of their own, which ends where they do not."""

from __future__ import annotations

from datetime import datetime

import pytest

from footplate_trainer.data.chat.renderer import Renderer, RenderRequest
from footplate_trainer.data.chat.template import (
    Conversation,
    ConversationPrefix,
    ConversationRefused,
    PrefixEnding,
    RenderedText,
    TemplateFault,
)
from tests.support.chat import MARKED, assistant, user

TALK = Conversation(
    [user("Hé\ud83d\ude42".encode("utf-16", "surrogatepass").decode("utf-16")), assistant("Yo")]
)
BOTH = [ConversationPrefix(2), ConversationPrefix(1, PrefixEnding.ANSWER)]
LOOP = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"


def test_it_renders_what_it_would_here() -> None:
    with Renderer(MARKED, "t.jinja", {}, datetime(2026, 1, 1)) as render:
        [whole, before] = next(render([RenderRequest(TALK, BOTH)]))
    assert whole == RenderedText(
        "<|im_start|>user\nHé🙂<|im_end|>\n<|im_start|>assistant\nYo<|im_end|>\n", ((53, 65),)
    )
    assert before.text.endswith("assistant\n")


def test_a_refused_conversation_is_one_of_many() -> None:
    source = (
        "{% if messages | length == 1 %}{{ raise_exception('too short') }}{% endif %}{{ strftime_now('%Y') }}"
    )
    short = Conversation([user("Hi")])
    with Renderer(source, "t.jinja", now=datetime(1999, 1, 1)) as render:
        answers = list(
            render(
                [RenderRequest(short, [ConversationPrefix(1)]), RenderRequest(TALK, [ConversationPrefix(2)])]
            )
        )
    assert isinstance(answers[0], ConversationRefused)
    assert answers[1] == [RenderedText("1999")]


def test_one_that_loops_is_ended_and_named_and_the_next_conversation_is_rendered() -> None:
    source = f"{{% if messages | length == 2 %}}{LOOP}{{% endif %}}done"
    with Renderer(source, "t.jinja", seconds=1) as render:
        with pytest.raises(
            TemplateFault, match=r"t\.jinja takes more than 1 seconds for one text, probably in a loop"
        ):
            list(render([RenderRequest(TALK, [ConversationPrefix(2)])]))
        assert list(render([RenderRequest(TALK, [ConversationPrefix(1)])])) == [[RenderedText("done")]]


def test_a_conversation_of_too_many_turns_is_refused_and_the_template_is_not() -> None:
    source = "{% for message in messages %}{{ message.content }}{% endfor %}"
    turns = [user("x" * 8192), assistant("y" * 8192)] * 40
    long = Conversation(turns)
    parts = [
        ConversationPrefix(len(turns)),
        *(ConversationPrefix(turn) for turn in range(len(turns)) for _ in range(2)),
    ]
    with Renderer(source, "t.jinja") as render:
        once, turn_by_turn, after = render(
            [
                RenderRequest(long, parts[:1]),
                RenderRequest(long, parts * 2),
                RenderRequest(TALK, [ConversationPrefix(1)]),
            ]
        )
    assert isinstance(once, list) and isinstance(after, list)
    assert isinstance(turn_by_turn, ConversationRefused)
    assert "its 80 turns must be rendered one by one, as chat template t.jinja has no" in str(turn_by_turn)
    assert "has more than 33,554,432 characters; cut the conversation" in str(turn_by_turn)


def test_parts_that_take_long_together_are_no_loop() -> None:
    source = "{% for a in range(99999) %}{% for b in range(12) %}{% endfor %}{% endfor %}done"
    with Renderer(source, "t.jinja", seconds=1) as render:
        long, short = render(
            [RenderRequest(TALK, [ConversationPrefix(2)] * 200), RenderRequest(TALK, [ConversationPrefix(2)])]
        )
    assert isinstance(long, ConversationRefused) and "takes more than 1 seconds; cut the" in str(long)
    assert short == [RenderedText("done")]


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param("{% if x", "t.jinja, line 1: ", id="syntax"),
        pytest.param("{{ messages[0].content * 900000000 }}", "too much memory", id="memory"),
        pytest.param("{% include '/etc/passwd' %}", "needs another file", id="file"),
    ],
)
def test_what_no_template_may_do_is_told_as_here(source: str, says: str) -> None:
    with pytest.raises(TemplateFault, match=says), Renderer(source, "t.jinja") as render:
        list(render([RenderRequest(TALK, [ConversationPrefix(1)])]))


def test_a_template_sees_nothing_of_its_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/nowhere")  # the process would not start with such a one in force
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with Renderer("{{ 1 + 1 }}", "t.jinja") as render:
        assert next(render([RenderRequest(TALK, [ConversationPrefix(1)])])) == [RenderedText("2")]
