"""The shapes in which rows keep conversations."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from footplate_trainer.data.chat.assistant_masks import Dialogue
from footplate_trainer.data.chat.row_reader import PlainText, RowReader
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.row_files import BadRow
from tests.support.chat import assistant, user

CHAT, PREFERENCES = RecordKind.CHAT, RecordKind.PREFERENCES
RATINGS, PROMPTS = RecordKind.RATINGS, RecordKind.PROMPTS
TALK = [user("Hi"), assistant("Yo")]
SYSTEM = {"role": "system", "content": "Be kind."}


def told(document: Any) -> Any:
    """A document as plain values: (texts, prompt turns) or (prompt, completion)."""
    if isinstance(document, PlainText):
        return document.prompt, document.completion
    assert isinstance(document, Dialogue)
    return [(m["role"], m.get("content")) for m in document.conversation.messages], document.prompt


HI_YO = [("user", "Hi"), ("assistant", "Yo")]


@pytest.mark.parametrize(
    ("shard_format", "row", "documents"),
    [
        pytest.param(CHAT, {"messages": TALK}, [(HI_YO, 0)], id="messages"),
        pytest.param(
            CHAT,
            {
                "conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Yo"}],
                "system": "S",
            },
            [([("system", "S"), *HI_YO], 0)],
            id="from-value",
        ),
        pytest.param(
            CHAT, {"prompt": TALK[:1], "completion": TALK[1:]}, [(HI_YO, 1)], id="prompt-completion"
        ),
        pytest.param(CHAT, {"prompt": TALK[:1], "completion": "Yo"}, [(HI_YO, 1)], id="turns-and-a-text"),
        pytest.param(CHAT, {"prompt": "Hi", "completion": TALK[1:]}, [(HI_YO, 1)], id="a-text-and-turns"),
        pytest.param(CHAT, {"prompt": "2+2=", "completion": "4"}, [("2+2=", "4")], id="texts"),
        pytest.param(CHAT, {"messages": TALK, "label": None}, [(HI_YO, 0)], id="null-is-absent"),
        pytest.param(
            PREFERENCES,
            {"prompt": TALK[:1], "chosen": TALK[1:], "rejected": [assistant("No")]},
            [(HI_YO, 1), ([HI_YO[0], ("assistant", "No")], 1)],
            id="preference",
        ),
        pytest.param(
            PREFERENCES,
            {"chosen": TALK, "rejected": [TALK[0], assistant("No")]},
            [(HI_YO, 1), ([HI_YO[0], ("assistant", "No")], 1)],
            id="implicit-prompt",
        ),
        pytest.param(
            PREFERENCES,
            {"prompt": "Hi", "chosen": TALK, "rejected": [TALK[0], assistant("No")]},
            [(HI_YO, 1), ([HI_YO[0], ("assistant", "No")], 1)],
            id="prompt-said-twice",
        ),
        pytest.param(
            PREFERENCES,
            {"chosen": "\n\nHuman: Hi\n\nAssistant: I am", "rejected": "\n\nHuman: Hi\n\nAssistant: It is"},
            [("\n\nHuman: Hi\n\nAssistant:", " I am"), ("\n\nHuman: Hi\n\nAssistant:", " It is")],
            id="implicit-prompt-of-texts",
        ),
        pytest.param(
            RATINGS, {"completion": TALK, "label": False}, [(HI_YO, 1)], id="rating-of-a-conversation"
        ),
        pytest.param(
            RATINGS, {"completion": "A text.", "label": 1}, [("", "A text.")], id="rating-of-a-text"
        ),
        pytest.param(RATINGS, {"messages": TALK, "label": -1}, [(HI_YO, 0)], id="rating-of-messages"),
        pytest.param(PROMPTS, {"prompt": TALK[:1], "answer": "4"}, [([("user", "Hi")], 1)], id="prompt"),
        pytest.param(
            PROMPTS,
            {"messages": [SYSTEM, *TALK[:1]]},
            [([("system", "Be kind."), ("user", "Hi")], 2)],
            id="messages-for-a-prompt",
        ),
        pytest.param(PROMPTS, {"prompt": "2+2="}, [("2+2=", "")], id="text-for-a-prompt"),
    ],
)
def test_every_shape_is_read(shard_format: RecordKind, row: dict[str, Any], documents: list[Any]) -> None:
    fields = RowReader(shard_format).read(row)
    assert [told(document) for document in fields.documents] == documents


@pytest.mark.parametrize(
    ("extra", "margin", "raters"),
    [
        pytest.param({}, None, None, id="none"),
        pytest.param({"margin": 2}, 2.0, None, id="a-number"),
        pytest.param({"margin": [3, 0, 0]}, 1.0, 3, id="of-each-rater"),
        pytest.param({"score_chosen": 7.5, "score_rejected": 6}, 1.5, None, id="scores"),
        pytest.param({"score_chosen": [5, 4], "score_rejected": [1, 2]}, 3.0, 2, id="scores-of-each-rater"),
    ],
)
def test_a_margin_is_a_number_or_one_of_each_rater(
    extra: dict[str, Any], margin: float | None, raters: int | None
) -> None:
    fields = RowReader(PREFERENCES).read({"prompt": "a", "chosen": " b", "rejected": " c", **extra})
    assert (fields.value, fields.columns) == (margin, None if raters is None else {"raters": raters})


@pytest.mark.parametrize(("label", "value"), [(True, 1.0), (1, 1.0), (False, -1.0), (0, -1.0), (-1, -1.0)])
def test_a_label_is_good_or_bad(label: Any, value: float) -> None:
    assert RowReader(RATINGS).read({"completion": "a", "label": label}).value == value


def test_what_stands_beside_a_conversation_is_the_templates() -> None:
    row = {
        "messages": TALK,
        "tools": '[{"name": "f"}]',
        "documents": [{"title": "t"}],
        "chat_template_kwargs": {"a": 1},
    }
    [dialogue] = RowReader(CHAT).read(row).documents
    assert isinstance(dialogue, Dialogue)
    conversation = dialogue.conversation
    assert (conversation.tools, conversation.documents) == ([{"name": "f"}], [{"title": "t"}])
    assert conversation.variables == {"a": 1}


def test_a_turn_of_tool_calls_has_no_text() -> None:
    call = {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "f"}}]}
    row = {"messages": [TALK[0], call, {"role": "tool", "content": "4", "name": "f"}, TALK[1]]}
    [dialogue] = RowReader(CHAT).read(row).documents
    assert isinstance(dialogue, Dialogue)
    assert "content" not in dialogue.conversation.messages[1]


def test_a_text_may_come_in_blocks() -> None:
    blocks = [{"type": "text", "text": "Hi"}]
    [dialogue] = RowReader(CHAT).read({"messages": [{"role": "user", "content": blocks}, TALK[1]]}).documents
    assert isinstance(dialogue, Dialogue)
    assert dialogue.conversation.messages[0]["content"] == blocks


def test_fields_can_be_passed_over_in_rows_and_messages() -> None:
    row = {"messages": [{**TALK[0], "weight": 1}, TALK[1]], "source": "web"}
    [document] = RowReader(CHAT, frozenset({"source", "weight"})).read(row).documents
    assert told(document) == (HI_YO, 0)


def test_prompts_keep_every_other_field() -> None:
    row = {"prompt": TALK[:1], "answer": "4", "label": True, "system": "S"}
    assert RowReader(PROMPTS).read(row).columns == {"prompt": TALK[:1], "answer": "4", "label": True}


@pytest.mark.parametrize(
    ("shard_format", "row", "reason", "says"),
    [
        pytest.param(
            CHAT, {"messages": TALK, "id": 7}, "unknown field", "fields id, .*: --ignore id", id="unknown"
        ),
        pytest.param(
            CHAT,
            {"messages": [{**TALK[0], "mood": 1}, TALK[1]]},
            "unknown field",
            r"mood in messages\[0\]; .*--ignore mood",
            id="unknown-in-a-message",
        ),
        pytest.param(
            CHAT,
            {"text": "a"},
            "missing field",
            "has no completion, only the fields text; .* messages, or",
            id="missing",
        ),
        pytest.param(CHAT, {"messages": []}, "shape", r"messages \[\]; must be a list", id="no-messages"),
        pytest.param(
            CHAT,
            {"messages": TALK, "tools": [{"since": date(2026, 1, 31)}]},
            "shape",
            r"datetime\.date\(2026, 1, 31\) in tools, which JSON cannot represent",
            id="a-date-of-parquet",
        ),
        pytest.param(CHAT, {"messages": ["Hi"]}, "shape", r"'Hi' in messages\[0\]", id="no-message"),
        pytest.param(
            CHAT,
            {"messages": [{"role": "cat", "content": "a"}]},
            "role",
            "the role 'cat' .* must be system",
            id="role",
        ),
        pytest.param(
            CHAT, {"messages": TALK[1:]}, "order", r"role assistant first \(turn 1\)", id="assistant-first"
        ),
        pytest.param(
            CHAT,
            {"messages": [TALK[0], TALK[0], TALK[1]]},
            "order",
            r"user after user \(turn 2\)",
            id="twice",
        ),
        pytest.param(
            CHAT, {"messages": [*TALK, SYSTEM]}, "order", "system after assistant", id="late-system"
        ),
        pytest.param(
            CHAT,
            {"messages": TALK[:1]},
            "order",
            "ends messages with role user; it must end with assistant",
            id="unanswered",
        ),
        pytest.param(
            PROMPTS, {"prompt": [SYSTEM]}, "order", "ends messages with role system", id="only-a-system"
        ),
        pytest.param(
            PROMPTS,
            {"messages": TALK[:1], "prompt": "Hi"},
            "shape",
            "has both messages and prompt; .*--ignore prompt",
            id="prompt-twice",
        ),
        pytest.param(
            PROMPTS,
            {"conversations": TALK[:1], "prompt": "Hi"},
            "shape",
            "has both conversations and prompt; .*--ignore prompt",
            id="prompt-twice-by-another-name",
        ),
        pytest.param(
            PROMPTS,
            {"messages": TALK[:1], "conversations": TALK[:1]},
            "shape",
            "has both messages and conversations; .*--ignore conversations",
            id="messages-twice",
        ),
        pytest.param(
            CHAT,
            {"messages": [user(" \n"), TALK[1]]},
            "empty turn",
            r"empty content in messages\[0\]",
            id="empty",
        ),
        pytest.param(
            CHAT, {"prompt": "a", "completion": ""}, "empty turn", "the completion ''", id="empty-text"
        ),
        pytest.param(
            CHAT,
            {"messages": [{"role": "user", "content": [{"type": "image"}]}, TALK[1]]},
            "shape",
            "only text can be",
            id="image",
        ),
        pytest.param(
            CHAT,
            {"prompt": "a", "completion": "b", "tools": [{}]},
            "shape",
            "tools and a text",
            id="tools",
        ),
        pytest.param(
            CHAT,
            {"messages": TALK, "tools": "{"},
            "shape",
            "tools that are not valid JSON",
            id="broken-tools",
        ),
        pytest.param(
            PREFERENCES,
            {"prompt": "a", "chosen": "b", "rejected": "b"},
            "identical",
            "the same text in chosen and rejected, 'b'",
            id="identical",
        ),
        pytest.param(
            PREFERENCES,
            {"chosen": "abc", "rejected": "xyz"},
            "prompt",
            "do not start alike",
            id="no-prompt",
        ),
        pytest.param(
            PREFERENCES,
            {"chosen": TALK, "rejected": TALK[:1]},
            "prompt",
            "do not start alike",
            id="nothing-left",
        ),
        pytest.param(
            PREFERENCES, {"chosen": TALK, "rejected": "b"}, "shape", "a text and a list", id="two-shapes"
        ),
        pytest.param(
            PREFERENCES,
            {"prompt": "a", "chosen": "b", "rejected": "c", "margin": [1, -2]},
            "margin",
            "margin -0.5: .* swap",
            id="negative",
        ),
        pytest.param(
            PREFERENCES,
            {"prompt": "a", "chosen": "b", "rejected": "c", "margin": "x"},
            "margin",
            "the margin 'x'; must be a finite",
            id="no-number",
        ),
        pytest.param(
            RATINGS,
            {"completion": "a", "label": "good"},
            "label",
            "label 'good'; must be true or false",
            id="label",
        ),
        pytest.param(RATINGS, {"completion": "a"}, "label", "label None", id="no-label"),
    ],
)
def test_a_row_that_is_no_sample_is_told(
    shard_format: RecordKind, row: dict[str, Any], reason: str, says: str
) -> None:
    with pytest.raises(BadRow, match=says) as caught:
        RowReader(shard_format).read(row)
    assert caught.value.reason == reason
