"""Texts, ids and masks are those of transformers, where it is of one mind with itself."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from footplate_contracts.v1alpha1.data import LossMask
from footplate_trainer.data.chat.encoding import ChatEncoder
from footplate_trainer.data.chat.model_template import read_template
from footplate_trainer.data.chat.renderer import in_process_renderer
from footplate_trainer.data.chat.row_reader import RowReader
from footplate_trainer.data.chat.sample_maker import EndOfText, SampleMaker
from footplate_trainer.data.chat.template import ChatTemplate, Conversation, ConversationPrefix, PrefixEnding
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.row_files import DataRow
from footplate_trainer.data.sample_shards import StoredSample
from tests.support.chat import CHATML, LLAMA, MARKED, THINKING, assistant, chatml_model, llama_model, user

WORDS = ("er", "in", "\n\n", " a", "é", "🙂", "  ", "<think>", "\t", "</s>", "x" * 40, "1 + 1")
TOOLS = [
    {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "n": [1, None, "é<"]}}}
]


@pytest.fixture(params=["chatml", "marked", "llama", "thinking"])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "llama":
        return llama_model(tmp_path)
    return chatml_model(tmp_path, {"chatml": CHATML, "marked": MARKED, "thinking": THINKING}[request.param])


def conversations(special: tuple[str, ...] = ()) -> Iterator[list[dict[str, Any]]]:
    """20 of 2 to 6 turns; each begins with text that line ends may merge with."""
    draw = random.Random(7)
    for _ in range(20):
        turns = []
        for role in itertools.islice(itertools.cycle((user, assistant)), draw.choice((2, 4, 6))):
            words = draw.choices(WORDS, k=4)
            if special and draw.random() < 0.5:
                words.insert(draw.randrange(5), draw.choice(special))
            turns.append(role("".join(words) + "."))
        yield turns


def sample_of(
    folder: Path, messages: list[dict[str, Any]], mask: LossMask = LossMask.ASSISTANT, **row: Any
) -> StoredSample:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    template = read_template(folder)
    assert template is not None
    render = in_process_renderer(ChatTemplate(template.source, template.name, template.special))
    making = SampleMaker(RowReader(RecordKind.CHAT), tokenizer, template, render, mask, EndOfText(0, "it"))
    [(_, sample)] = making.make([DataRow("row", {"messages": messages, **row}, 1)])
    assert isinstance(sample, StoredSample), sample
    return sample


def test_ids_are_those_of_apply_chat_template(model: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(model)
    for messages in conversations():
        [document] = sample_of(model, messages, LossMask.ALL).documents
        assert document.tokens.tolist() == theirs.apply_chat_template(messages, return_dict=False)


def test_text_that_spells_a_special_token_is_what_transformers_makes_of_it_when_asked(model: Path) -> None:
    theirs = AutoTokenizer.from_pretrained(model)
    special = tuple(ChatEncoder(Tokenizer.from_file(str(model / "tokenizer.json"))).special.values())
    differing = 0
    for messages in conversations(special):
        [document] = sample_of(model, messages, LossMask.ALL).documents
        as_text = theirs.apply_chat_template(messages, return_dict=False, sanitize_control_tokens=True)
        assert document.tokens.tolist() == as_text
        differing += as_text != theirs.apply_chat_template(messages, return_dict=False)
    assert differing > 10


def test_the_mask_of_generation_blocks_is_transformers(tmp_path: Path) -> None:
    model = chatml_model(tmp_path, MARKED)
    theirs = AutoTokenizer.from_pretrained(model)
    for messages in conversations():
        [document] = sample_of(model, messages).documents
        told = theirs.apply_chat_template(messages, return_assistant_tokens_mask=True, return_dict=True)
        assert document.learnt is not None
        assert document.learnt.astype(int).tolist() == told["assistant_masks"]


def test_generation_blocks_and_turns_give_one_mask(tmp_path: Path) -> None:
    unmarked = MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")
    one, other = chatml_model(tmp_path / "a", MARKED), chatml_model(tmp_path / "b", unmarked)
    for messages, mask in itertools.product(
        conversations(("<|im_end|>",)), (LossMask.ASSISTANT, LossMask.COMPLETION)
    ):
        [marked], [told] = (sample_of(folder, messages, mask).documents for folder in (one, other))
        assert marked.tokens.tolist() == told.tokens.tolist()
        assert np.array_equal(marked.learnt, told.learnt)


@pytest.mark.parametrize(
    ("ending", "asked"),
    [
        pytest.param(PrefixEnding.NONE, {}, id="whole"),
        pytest.param(PrefixEnding.ANSWER, {"add_generation_prompt": True}, id="answer"),
        pytest.param(PrefixEnding.OPEN, {"continue_final_message": True}, id="open"),
    ],
)
def test_texts_are_those_of_transformers(model: Path, ending: PrefixEnding, asked: dict[str, bool]) -> None:
    theirs = AutoTokenizer.from_pretrained(model)
    template = read_template(model)
    assert template is not None
    ours = ChatTemplate(template.source, template.name, template.special)
    for messages in conversations():
        context = {"tools": TOOLS, "documents": [{"title": "t", "text": "x"}]}
        rendered = ours.render(Conversation(messages, **context), ConversationPrefix(len(messages), ending))
        assert rendered.text == theirs.apply_chat_template(messages, tokenize=False, **context, **asked)


def test_what_templates_are_given_is_what_transformers_gives(tmp_path: Path) -> None:
    source = (
        "{{ strftime_now('%Y') }}{{ tools | tojson(indent=2) }}{{ style }}"
        "{{ bos_token }}{{ eos_token }}{{ unk_token }}"
        "{% set n = namespace(x=0) %}{% for m in messages %}{% set n.x = n.x + (m.content | length) %}"
        "{{ m.reasoning_content }}{{ m.thinking }}{{ m.tool_calls is defined }}"
        "{% if n.x > 99 %}{% break %}{% endif %}"
        "{% endfor %}{{ n.x }}{{ dict(a=1) | tojson }}\n  {% if true %}\n x{% endif %}\n"
    )
    model = chatml_model(tmp_path, source)
    theirs = AutoTokenizer.from_pretrained(model)
    template = read_template(model)
    assert template is not None
    ours = ChatTemplate(template.source, template.name, template.special, datetime.now())
    messages = [user("é\n"), {**assistant("a"), "thinking": "hm", "tool_calls": None}]
    rendered = ours.render(Conversation(messages, TOOLS, variables={"style": "terse"}), ConversationPrefix(2))
    assert rendered.text == theirs.apply_chat_template(messages, tools=TOOLS, style="terse", tokenize=False)


def test_a_llama_template_takes_tools_and_one_beginning(tmp_path: Path) -> None:
    model = llama_model(tmp_path, LLAMA)
    theirs = AutoTokenizer.from_pretrained(model)
    messages = [user("2+2?"), assistant("4")]
    [document] = sample_of(model, messages, LossMask.ALL, tools=TOOLS).documents
    assert document.tokens.tolist() == theirs.apply_chat_template(messages, tools=TOOLS, return_dict=False)
    assert document.tokens.tolist().count(theirs.bos_token_id) == 1
