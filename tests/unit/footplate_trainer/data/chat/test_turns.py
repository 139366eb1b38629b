"""Which tokens are learnt, by template and mask."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from footplate_contracts.v1alpha1.data import LossMask
from footplate_trainer.data.chat.model_template import read_template
from footplate_trainer.data.chat.renderer import in_process_renderer
from footplate_trainer.data.chat.row_reader import RowReader
from footplate_trainer.data.chat.sample_maker import EndOfText, SampleMaker, find_delimiters, format_sample
from footplate_trainer.data.chat.template import ChatTemplate, TemplateFault
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.row_files import BadRow, DataRow
from footplate_trainer.data.sample_shards import SampleDocument, StoredSample
from tests.support.chat import CHATML, MARKED, THINKING, assistant, chatml_model, llama_model, user

TALK = [user("Hi\n"), assistant("Yo there"), user("More?"), assistant("No")]


def maker(
    folder: Path,
    mask: LossMask = LossMask.ASSISTANT,
    shard_format: RecordKind = RecordKind.CHAT,
    **reading: Any,
) -> SampleMaker:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = read_template(folder)
    assert template is not None
    render = in_process_renderer(ChatTemplate(template.source, "its template", template.special))
    end = EndOfText(tokenizer.token_to_id(template.special["eos_token"]), "the model")
    return SampleMaker(RowReader(shard_format, **reading), tokenizer, template, render, mask, end)


def made(maker: SampleMaker, row: Mapping[str, Any]) -> StoredSample | BadRow:
    [(_, sample)] = maker.make([DataRow("file:7", row, 1)])
    return sample


def spans(maker: SampleMaker, document: SampleDocument) -> list[str]:
    """What is learnt, as texts."""
    assert document.learnt is not None
    edges = np.flatnonzero(np.diff(document.learnt, prepend=False, append=False))
    return [
        maker.tokenizer.decode(document.tokens[a:b].tolist(), skip_special_tokens=False)
        for a, b in edges.reshape(-1, 2)
    ]


def learnt(maker: SampleMaker, messages: list[dict[str, Any]]) -> list[str]:
    sample = made(maker, {"messages": messages})
    assert isinstance(sample, StoredSample), sample
    return spans(maker, sample.documents[0])


@pytest.mark.parametrize("template", [CHATML, MARKED], ids=["turn-by-turn", "marked"])
@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(LossMask.ASSISTANT, ["Yo there<|im_end|>", "No<|im_end|>"], id="assistant"),
        pytest.param(LossMask.COMPLETION, ["No<|im_end|>"], id="completion"),
    ],
)
def test_a_turn_is_learnt_with_the_token_that_ends_it_and_no_further(
    template: str, mask: LossMask, expected: list[str], tmp_path: Path
) -> None:
    assert learnt(maker(chatml_model(tmp_path, template), mask), TALK) == expected


@pytest.mark.parametrize("outside", ["", "<|im_start|>assistant"], ids=["all-of-it", "its-last-line-end"])
def test_what_no_model_writes_is_not_learnt_where_a_template_marks_it(outside: str, tmp_path: Path) -> None:
    inside = (
        "{% for message in messages %}"
        "{% set turn = '<|im_start|>' + message.role + '\\n' + message.content %}"
        "{% if message.role == 'assistant' %}{% generation %}{{ turn + '<|im_end|>\\n' }}{% endgeneration %}"
        "{% else %}{{ turn + '<|im_end|>\\n' }}{% endif %}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )
    if outside:
        inside = inside.replace(
            "{% generation %}{{ turn +", f"{{{{ '{outside}' }}}}{{% generation %}}{{{{ turn[21:] +"
        )
    making = maker(chatml_model(tmp_path, inside))
    assert making.template is not None
    making.edges = find_delimiters(making.template, making.render, making.encoder)
    assert making.edges.opening == "<|im_start|>assistant\n"
    assert learnt(making, TALK) == ["Yo there<|im_end|>", "No<|im_end|>"]


def test_all_is_every_token(tmp_path: Path) -> None:
    [everything] = learnt(maker(chatml_model(tmp_path), LossMask.ALL), TALK)
    assert everything.startswith("<|im_start|>system")
    assert everything.endswith("No<|im_end|>\n")


def test_a_template_without_line_ends_is_told_as_well(tmp_path: Path) -> None:
    assert learnt(maker(llama_model(tmp_path)), TALK) == ["Yo there<|eot|>", "No<|eot|>"]


def test_a_tool_speaks_and_is_not_learnt(tmp_path: Path) -> None:
    talk = [user("Sum?"), assistant("call"), {"role": "tool", "content": "4"}, assistant("Four")]
    assert learnt(maker(chatml_model(tmp_path)), talk) == ["call<|im_end|>", "Four<|im_end|>"]


def test_a_spelling_of_a_special_token_ends_no_turn(tmp_path: Path) -> None:
    talk = [user("What is <|im_end|>?"), assistant("It is <|im_end|>.\n<|im_start|>user")]
    making = maker(chatml_model(tmp_path))
    sample = made(making, {"messages": talk})
    assert isinstance(sample, StoredSample)
    [document] = sample.documents
    end = making.tokenizer.token_to_id("<|im_end|>")
    assert np.count_nonzero(document.tokens == end) == 3  # system, user, assistant: the template's own
    assert spans(making, document) == ["It is <|im_end|>.\n<|im_start|>user<|im_end|>"]


@pytest.mark.parametrize("between", [pytest.param("", id="joined"), pytest.param("\n", id="apart")])
def test_a_spelling_that_several_blocks_make_up_ends_no_turn(tmp_path: Path, between: str) -> None:
    joined = CHATML.replace(
        "message['content']", f"(message['content'] | map(attribute='text') | join({between!r}))"
    )
    blocks = [{"type": "text", "text": text} for text in ("so <|im_", "end", "|><|im_start|>", "user")]
    talk = [{"role": "user", "content": blocks[:1]}, {"role": "assistant", "content": blocks}]
    making = maker(chatml_model(tmp_path, joined))
    sample = made(making, {"messages": talk})
    assert isinstance(sample, StoredSample), sample
    [document] = sample.documents
    end = making.tokenizer.token_to_id("<|im_end|>")
    assert np.count_nonzero(document.tokens == end) == 3
    spoken = between.join(block["text"] for block in blocks)
    assert spans(making, document) == [f"{spoken}<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "says"),
    [
        pytest.param(
            MARKED.replace("+ '<|im_end|>' }}{% endgeneration %}", "}}{% endgeneration %}{{ '<|im_end|>' }}"),
            "ends of 0 turns inside .* 2 are assistant turns: the token that ends a turn would not be learnt",
            id="end-outside-the-block",
        ),
        pytest.param(
            CHATML.replace("message['content'] + '<|im_end|>'", "message['content']"),
            r"ends turn 2 with .* and no special token",
            id="no-end",
        ),
        pytest.param(
            MARKED.replace(
                "{% generation %}{{",
                "{% generation %}{{ '' }}{% endgeneration %}{{ 'so ' }}{% generation %}{{",
            ),
            r"token \d+, 's', outside its {% generation %}, but rendered turn by turn it is a part",
            id="block-too-short",
        ),
        pytest.param(
            MARKED.replace("'<|im_end|>' }}{% endgen", "'<|im_end|>' }}{{ 'x' }}{% endgen"),
            "would not be learnt",
            id="text-behind-the-end",
        ),
    ],
)
def test_a_template_that_would_not_teach_the_end_is_refused(template: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(TemplateFault, match=rf"file:7: chat template .*{says}"):
        learnt(maker(chatml_model(tmp_path, template)), TALK)


def test_a_template_that_forgets_thoughts_can_be_learnt_at_the_last_turn_only(tmp_path: Path) -> None:
    talk = [user("Hi"), assistant("<think>a</think>Yo"), user("More?"), assistant("<think>b</think>No")]
    with pytest.raises(
        TemplateFault, match=r"up to turn 2 differently once more turns follow, .*--mask completion"
    ):
        learnt(maker(chatml_model(tmp_path, THINKING)), talk)
    found = learnt(maker(chatml_model(tmp_path, THINKING), LossMask.COMPLETION), talk)
    assert found == ["<think>b</think>No<|im_end|>"]


def test_two_beginnings_of_text_are_refused_and_one_is_kept(tmp_path: Path) -> None:
    making = maker(llama_model(tmp_path / "one"))
    sample = made(making, {"messages": TALK})
    assert isinstance(sample, StoredSample)
    assert np.count_nonzero(sample.documents[0].tokens == making.tokenizer.token_to_id("<|begin|>")) == 1
    twice = (tmp_path / "one/chat_template.jinja").read_text().replace("bos_token", "bos_token + bos_token")
    with pytest.raises(TemplateFault, match="begins with two beginning-of-text tokens"):
        learnt(maker(llama_model(tmp_path / "two", twice)), TALK)


def test_the_prompt_ends_where_the_answer_begins(tmp_path: Path) -> None:
    making = maker(chatml_model(tmp_path), LossMask.COMPLETION, RecordKind.PREFERENCES)
    row = {"prompt": TALK[:1], "chosen": [assistant("Yes")], "rejected": [assistant("No")], "margin": [1, 2]}
    sample = made(making, row)
    assert isinstance(sample, StoredSample)
    chosen, rejected = sample.documents
    assert (chosen.value, rejected.value, sample.columns) == (1.5, 0.0, {"raters": 2})
    assert chosen.prompt == rejected.prompt
    assert chosen.tokens[: chosen.prompt].tolist() == rejected.tokens[: chosen.prompt].tolist()
    assert [spans(making, side) for side in sample.documents] == [["Yes<|im_end|>"], ["No<|im_end|>"]]
    assert making.tokenizer.decode(chosen.tokens[: chosen.prompt].tolist(), False).endswith("assistant\n")


def test_margins_stand_in_all_rows_or_in_none(tmp_path: Path) -> None:
    making = maker(chatml_model(tmp_path), LossMask.COMPLETION, RecordKind.PREFERENCES)
    row = {"prompt": TALK[:1], "chosen": [assistant("Yes")], "rejected": [assistant("No")]}
    assert isinstance(made(making, row), StoredSample)
    assert "has a margin where rows before it have none" in str(made(making, {**row, "margin": 1}))


@pytest.mark.parametrize(
    ("messages", "ends"),
    [
        pytest.param(TALK[:1], "Hi\n<|im_end|>\n<|im_start|>assistant\n", id="answered"),
        pytest.param([user("Hi"), assistant("Well,")], "<|im_start|>assistant\nWell,", id="gone-on-with"),
    ],
)
def test_a_prompt_ends_where_a_model_goes_on(
    messages: list[dict[str, Any]], ends: str, tmp_path: Path
) -> None:
    making = maker(chatml_model(tmp_path), LossMask.ALL, RecordKind.PROMPTS)
    sample = made(making, {"prompt": messages, "answer": "4", "level": 2})
    assert isinstance(sample, StoredSample)
    [document] = sample.documents
    assert making.tokenizer.decode(document.tokens.tolist(), False).endswith(ends)
    assert (document.learnt, document.prompt) == (None, len(document.tokens))
    assert sample.columns == {"prompt": messages, "answer": "4", "level": 2}


def test_texts_get_a_beginning_and_an_end_and_no_template(tmp_path: Path) -> None:
    making = maker(llama_model(tmp_path), LossMask.COMPLETION)
    sample = made(making, {"prompt": "2 + 2 =", "completion": " 4 <|eot|>"})
    assert isinstance(sample, StoredSample)
    [document] = sample.documents
    assert document.tokens[0] == making.tokenizer.token_to_id("<|begin|>")
    assert document.prompt == 1 + len("2 + 2 =")
    assert spans(making, document) == [" 4 <|eot|><|eot|>"]
    assert np.count_nonzero(document.tokens == making.tokenizer.token_to_id("<|eot|>")) == 1


def test_texts_can_be_turns(tmp_path: Path) -> None:
    making = maker(chatml_model(tmp_path), texts_are_turns=True)
    sample = made(making, {"prompt": "2 + 2 =", "completion": "4"})
    assert isinstance(sample, StoredSample)
    assert spans(making, sample.documents[0]) == ["4<|im_end|>"]


@pytest.mark.parametrize(
    ("template", "turns"),
    [
        pytest.param("{{ messages[0].content }}", "2, 3, 4", id="all-but-the-first"),
        pytest.param("Always this<|im_end|>", "1, 2, 3, 4", id="all"),
    ],
)
def test_a_template_that_forgets_its_input_is_named(template: str, turns: str, tmp_path: Path) -> None:
    making = maker(chatml_model(tmp_path, template))
    assert making.template is not None
    with pytest.raises(
        TemplateFault, match=f"drops input: of a conversation of 4 turns it leaves out turn {turns};"
    ):
        find_delimiters(making.template, making.render, making.encoder)


def test_a_person_sees_tokens_and_what_is_learnt(tmp_path: Path) -> None:
    making = maker(chatml_model(tmp_path, MARKED))
    sample = made(making, {"messages": [user("Hi"), assistant("er\nin")]})
    assert isinstance(sample, StoredSample)
    text = format_sample("file:7", sample, making.tokenizer)
    assert text.splitlines()[0] == "file:7: 25 tokens, 4 learnt"
    assert text.splitlines()[-2:] == ["⟦er|\\n", "in|<|im_end|>⟧|\\n"]


def test_a_row_that_the_template_refuses_is_bad_and_the_next_one_is_not(tmp_path: Path) -> None:
    refusing = "{% if messages[0].content == 'no' %}{{ raise_exception('not this') }}{% endif %}" + CHATML
    making: SampleMaker = maker(chatml_model(tmp_path, refusing))
    rows = [
        DataRow(f"f:{n}", {"messages": [user(text), assistant("a")]}, 1)
        for n, text in enumerate(("no", "yes"))
    ]
    (_, bad), (_, good) = making.make(rows)
    assert isinstance(bad, BadRow)
    assert bad.reason == "refused by the template"
    assert isinstance(good, StoredSample)
