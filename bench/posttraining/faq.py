"""Questions and answers of Perl's FAQ, a tokenizer of its words, and a small Llama as transformers has them.

The texts are those of Debian's package perl-doc, which apt fetches into the cache, once;
nothing of it is committed.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any, Final

import torch
from bench.posttraining.packages import once
from bench.posttraining.stage_runs import command, write_rows
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from cluster.paths import cache_root
from footplate_planning.shape import ModelShape

CONTEXT: Final = 1024
VOCABULARY: Final = 8192
SHAPE: Final = ModelShape(4, 256, 688, 8, 4, 32, vocabulary=VOCABULARY, context=CONTEXT)
_PARTS: Final = 9  # perlfaq1 to perlfaq9
_END: Final = "<|im_end|>"
# It ends with the token that ends a turn: a line end behind it TRL would count to the answer.
_TEMPLATE: Final = (
    "{% for message in messages %}{{ '' if loop.first else '\n' }}"
    "{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}"
    "{% endgeneration %}{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<|im_start|>assistant\n' }}{% endif %}"
)


def questions() -> list[tuple[str, str]]:
    """Each question with its answer, as they follow each other."""
    found = []
    for part in range(1, _PARTS + 1):
        text = (_manual() / f"perlfaq{part}.pod").read_text(encoding="utf-8")
        text = re.split(r"^=head1 AUTHOR", text, flags=re.MULTILINE)[0]
        for section in re.split(r"^=head2 ", text, flags=re.MULTILINE)[1:]:
            question, _, answer = section.partition("\n\n")
            answer = re.split(r"^=head1 ", answer, flags=re.MULTILINE)[0].strip()
            if answer:
                found.append((" ".join(question.split()), answer))
    return found


def chats(tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """Rows of format chat, of those that fit into the context."""
    rows = [{"messages": [_said("user", asked), _said("assistant", told)]} for asked, told in questions()]
    return [row for row in rows if length(tokenizer, row["messages"]) <= CONTEXT]


def pairs(tokenizer: PreTrainedTokenizerFast) -> list[dict[str, Any]]:
    """Rows of format preferences: a question with its answer and the next one's, where both fit together."""
    known, rows = questions(), []
    for (asked, told), (_, other) in zip(known, known[1:] + known[:1], strict=True):
        prompt, answers = [_said("user", asked)], [[_said("assistant", answer)] for answer in (told, other)]
        if sum(length(tokenizer, [*prompt, *answer]) for answer in answers) <= CONTEXT:
            rows.append({"prompt": prompt, "chosen": answers[0], "rejected": answers[1]})
    return rows


def length(tokenizer: PreTrainedTokenizerFast, messages: list[dict[str, str]]) -> int:
    """Tokens of a conversation."""
    return len(tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False))


def packed(folder: Path, name: str, rows: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """`spec.data` of the rows, packed into shards with the model that stands in `folder`."""
    file, shards = write_rows(folder / f"{name}.jsonl", rows), folder / f"{name}-shards"
    command("pack", file, shards, "--format", kind, "--tokenizer", folder / "model",
            "--context-length", CONTEXT)  # fmt: skip
    return {"uri": str(shards)}


def write_model(folder: Path) -> PreTrainedTokenizerFast:
    """A folder of transformers with weights of no meaning; its tokenizer."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    special = ["<|endoftext|>", "<|im_start|>", _END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bare.train_from_iterator((text for pair in questions() for text in pair), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare,
        eos_token=_END,
        pad_token=special[0],
        additional_special_tokens=special[1:2],
        model_max_length=CONTEXT,
    )
    tokenizer.chat_template = _TEMPLATE
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.feed_forward,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.key_value_heads,
        max_position_embeddings=CONTEXT,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(_END),
        pad_token_id=tokenizer.convert_tokens_to_ids(special[0]),
    )
    LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer


def _said(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _manual() -> Path:
    """The folder of perl-doc's texts; CalledProcessError where apt cannot fetch it."""
    home = cache_root() / "sources" / "perl-doc"
    with once("perl-doc"):
        if not list(home.glob("**/perlfaq9.pod")):
            home.mkdir(parents=True, exist_ok=True)
            subprocess.run(
                ["apt-get", "--quiet", "download", "perl-doc"], cwd=home, check=True, capture_output=True
            )
            (archive,) = home.glob("perl-doc_*.deb")
            subprocess.run(["dpkg-deb", "--extract", str(archive), str(home)], check=True)
    return next(iter(home.glob("**/perlfaq9.pod"))).parent
