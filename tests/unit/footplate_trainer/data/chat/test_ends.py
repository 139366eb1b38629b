"""Which tokens end a text: what files name, and what a chat template writes behind an answer."""

from __future__ import annotations

import pytest

from footplate_trainer.data.chat.renderer import in_process_renderer
from footplate_trainer.data.chat.template import ChatTemplate, ConversationRefused
from footplate_trainer.huggingface.model_end_tokens import EndTokens, find_turn_end, resolve_end_tokens

IDS = {"</s>": 2, "<|im_end|>": 7, "<|far|>": 100}
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
)
MARKED = "{% for m in messages %}{% generation %}{{ m.content }}<|im_end|>{% endgeneration %}\n{% endfor %}"
HEADERS = (
    "{{ bos_token }}{% for m in messages %}{{ '<|head|>' + m.role + '<|/head|>\\n\\n' + m.content | trim }}"
    "<|eot|>{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
PAIRS = (
    "{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} "
    "{{ m.content }} {{ eos_token }}{% endif %}{% endfor %}"
)
TWO = "{% for m in messages %}{{ m.content }}<|end|>\n{% endfor %}<|endoftext|>"


@pytest.mark.parametrize(
    ("said", "names", "ends"),
    [
        pytest.param([2], [], EndTokens(frozenset({2})), id="one"),
        pytest.param([[2, 7], 2], [], EndTokens(frozenset({2, 7})), id="a-list-and-one-of-it"),
        pytest.param([None, []], [], EndTokens(frozenset()), id="none"),
        pytest.param([0], [], EndTokens(frozenset({0})), id="the-first-id"),
        pytest.param([2], ["<|im_end|>"], EndTokens(frozenset({2, 7})), id="a-name-beside"),
        pytest.param([[2, 50, -1]], [], EndTokens(frozenset({2}), ("50", "-1")), id="beyond-the-embedding"),
        pytest.param(
            [],
            ["<|far|>", "<|nowhere|>"],
            EndTokens(frozenset(), ("<|far|>", "<|nowhere|>")),
            id="names-beyond",
        ),
        pytest.param([[50], 50], [], EndTokens(frozenset(), ("50",)), id="told-once"),
        pytest.param([True, "2", 2.0, {"id": 2}], [], EndTokens(frozenset()), id="no-numbers"),
    ],
)
def test_all_that_is_named_ends_a_text(said: list[object], names: list[str], ends: EndTokens) -> None:
    assert resolve_end_tokens(said, names, IDS.get, rows=50) == ends


@pytest.mark.parametrize(
    ("template", "end"),
    [
        pytest.param(CHATML, "<|im_end|>", id="chatml"),
        pytest.param(MARKED, "<|im_end|>", id="generation-marked"),
        pytest.param(HEADERS, "<|eot|>", id="headers"),
        pytest.param(PAIRS, "</s>", id="by-the-variable"),
        pytest.param(TWO, "<|end|>", id="the-first-of-two"),
        pytest.param("{% for m in messages %}{{ m.content }}\n{% endfor %}", None, id="a-line-end"),
        pytest.param("{% for m in messages %}{{ m.content }}{% endfor %}", None, id="nothing"),
        pytest.param("{% for m in messages %}{{ m.content | upper }}</s>{% endfor %}", None, id="not-found"),
    ],
)
def test_a_template_ends_a_turn(template: str, end: str | None) -> None:
    tokens = ["<|im_start|>", "<|im_end|>", "<|eot|>", "<|end|>", "<|endoftext|>", "<|end", "</s>", "<s>", ""]
    read = ChatTemplate(template, "x", {"bos_token": "<s>", "eos_token": "</s>"})

    assert find_turn_end(in_process_renderer(read), tokens) == end


def test_a_template_that_refuses_an_answer_says_why() -> None:
    read = ChatTemplate("{{ raise_exception('system first') }}", "x")

    with pytest.raises(ConversationRefused, match="system first"):
        find_turn_end(in_process_renderer(read), ["</s>"])
