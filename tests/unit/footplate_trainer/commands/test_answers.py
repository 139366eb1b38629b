"""Answers to a file of prompts, by a model that is not trained."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

from footplate_contracts.v1alpha1.model import Family
from footplate_planning.topology import Topology
from footplate_trainer.commands import generate, prompt_file
from footplate_trainer.commands.generate import SamplingOptions, generate_tokens
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.huggingface.initial import complete_config
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.rollout.settings import RolloutSettings
from tests.support.chat import chat_tokenizer
from tests.support.reinforced import generate_config
from tests.support.shapes import fill, shape_like


@pytest.fixture(scope="module")
def model() -> Decoder:
    built = Decoder(shape_like(Family.LLAMA))
    fill(built)
    return built.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Words w0 … w98."""
    words = Tokenizer(WordLevel({f"w{token}": token for token in range(99)}, unk_token="w0"))
    words.pre_tokenizer = WhitespaceSplit()
    return words


def asked(folder: Path, lines: list[str], *more: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("text", nargs="?")
    for name, kind, default in (
        ("max-new-tokens", int, 6),
        ("temperature", float, 0),
        ("top-k", int, 0),
        ("seed", int, 1),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default)
    prompt_file.add_arguments(parser)
    prompts = folder / "prompts.jsonl"
    prompts.write_text("".join(f"{line}\n" for line in lines))
    return parser.parse_args(["--prompts", str(prompts), "--output", str(folder / "out.jsonl"), *more])


def written(
    model: Decoder, tokenizer: Tokenizer, arguments: argparse.Namespace, ends: frozenset[int] = frozenset()
) -> list[dict[str, Any]]:
    prompts = prompt_file.read_prompts(arguments.prompts, tokenizer, model.shape.vocabulary)
    asked = prompt_file.PromptFileJob(
        arguments, tokenizer, prompts, ends, prompt_file.sampling_rule(arguments)
    )
    room = prompt_file.engine_limits(asked, asked.requests, model.shape, Topology())
    prompt_file.write_answers(asked, [prompt_file.generate_answers(model, asked, asked.requests, room)])
    return [json.loads(line) for line in Path(arguments.output).read_text().splitlines()]


def test_each_prompt_gets_its_answers_in_order(model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    arguments = asked(
        tmp_path, ['{"prompt": "w7 w8"}', '{"tokens": [9], "id": 3}'], "--num-return-sequences", "2"
    )

    rows = written(model, tokenizer, arguments)

    assert [(row["line"], row["answer"]) for row in rows] == [(1, 1), (1, 2), (2, 1), (2, 2)]
    for row, prompt in zip(rows, ([7, 8], [7, 8], [9], [9]), strict=True):
        assert row["tokens"] == list(generate_tokens(model, prompt, 6, SamplingOptions(temperature=0)))
        assert row["text"].split() == [f"w{token}" for token in row["tokens"]]
        assert row["reason"] == "length"
        assert row["sampledLogProbabilities"] == [0.0] * 6
        assert all(logarithm < 0 for logarithm in row["logProbabilities"])


def test_a_text_stands_behind_the_beginning_of_text_and_tokens_as_they_are(tmp_path: Path) -> None:
    begins = chat_tokenizer(("<end>", "<begin>"), begins_with="<begin>")
    arguments = asked(tmp_path, ['{"prompt": "hi"}', '{"tokens": [7, 8]}', '{"prompt": "<begin>"}'])
    hi = [begins.token_to_id("h"), begins.token_to_id("i")]

    prompts = prompt_file.read_prompts(arguments.prompts, begins, begins.get_vocab_size())

    assert prompts[:2] == [[1, *hi], [7, 8]]
    assert prompts[2][0] == 1 and 1 not in prompts[2][1:]  # what spells it is text
    assert begins.decode(prompts[2][1:]) == "<begin>"


def test_an_answer_ends_at_a_token_or_a_text_that_its_text_does_not_show(
    model: Decoder, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    lines = ['{"prompt": "w7 w8"}']
    hot = ("--temperature", "1")
    (whole,) = written(model, tokenizer, asked(tmp_path, lines, *hot))
    third, fourth = whole["tokens"][2:4]

    (ended,) = written(model, tokenizer, asked(tmp_path, lines, *hot), frozenset({third}))
    (stopped,) = written(model, tokenizer, asked(tmp_path, lines, *hot, "--stop", f"w{third} w{fourth}"))

    assert (ended["reason"], ended["tokens"]) == ("end", whole["tokens"][:3])
    assert (stopped["reason"], stopped["tokens"]) == ("stop", whole["tokens"][:4])
    shown = " ".join(f"w{token}" for token in whole["tokens"][:2])
    assert ended["text"] == stopped["text"].rstrip() == shown


def test_little_memory_gives_the_same(model: Decoder, tokenizer: Tokenizer, tmp_path: Path) -> None:
    lines = [json.dumps({"tokens": [number, 1, 2]}) for number in range(8)]
    more = ("--num-return-sequences", "2", "--temperature", "1", "--max-new-tokens", "10")

    rows = written(model, tokenizer, asked(tmp_path, lines, *more))

    least = written(model, tokenizer, asked(tmp_path, lines, *more, "--cache-bytes", str(2**14)))
    assert [row["tokens"] for row in least] == [row["tokens"] for row in rows]
    assert len({tuple(row["tokens"]) for row in rows}) == 16


@pytest.mark.parametrize(
    ("line", "more", "text"),
    [
        pytest.param(
            "{", (), "prompts.jsonl:2: must be an object with a non-empty text `prompt`", id="no-json"
        ),
        pytest.param("[1]", (), "prompts.jsonl:2: must be", id="no-object"),
        pytest.param('{"prompt": ""}', (), "prompts.jsonl:2: must be", id="empty"),
        pytest.param('{"prompt": 3}', (), "prompts.jsonl:2: must be", id="no-text"),
        pytest.param('{"prompt": "w1", "tokens": [1]}', (), "prompts.jsonl:2: must be", id="both"),
        pytest.param('{"tokens": [1, true]}', (), "prompts.jsonl:2: must be", id="no-number"),
        pytest.param('{"tokens": [99]}', (), "integers from 0 to 98", id="outside-the-vocabulary"),
        pytest.param(
            json.dumps({"tokens": [1] * 24}), (), "prompts.jsonl:2: prompt 1 has 24 tokens", id="long"
        ),
        pytest.param(
            '{"tokens": [1]}',
            ("--cache-bytes", "8192", "--max-new-tokens", "17"),
            r"prompts.jsonl:1: .* the cache has 1 \(--cache-bytes 8192\)",
            id="little-memory",
        ),
        pytest.param(
            '{"tokens": [1]}', ("--cache-bytes", "9"), "--cache-bytes 9 is less than", id="no-memory"
        ),
        pytest.param(
            '{"tokens": [1]}',
            ("--num-return-sequences", "0"),
            "--num-return-sequences 0 must be at least 1",
            id="no-answers",
        ),
        pytest.param('{"tokens": [1]}', ("--top-p", "2"), "topP is 2; it must be above 0", id="rule"),
        pytest.param('{"tokens": [1]}', ("--stop", ""), "would end every answer", id="stop"),
        pytest.param('{"tokens": [1]}', ("text",), "and no text argument", id="text-too"),
        pytest.param(
            '{"tokens": [1]}', ("--output", "/nowhere/x"), "/nowhere/x: cannot be written", id="out"
        ),
        pytest.param('{"tokens": [1]}', ("--prompts", "/nowhere/x"), "/nowhere/x: cannot be read", id="file"),
    ],
)
def test_a_mistake_names_its_place(
    model: Decoder, tokenizer: Tokenizer, tmp_path: Path, line: str, more: tuple[str, ...], text: str
) -> None:
    arguments = asked(tmp_path, ['{"prompt": "w7"}', line], *more)

    with pytest.raises(UserMistake, match=text):
        written(model, tokenizer, arguments)
    assert not [path.name for path in tmp_path.iterdir() if path.name != "prompts.jsonl"]


def test_what_is_drawn_from_by_default_is_what_a_rollout_draws_from(tmp_path: Path) -> None:
    parser = argparse.ArgumentParser()
    generate.add_arguments(parser)
    alike = ["checkpoint", "--prompts", "prompts.jsonl", "--output", "out.jsonl", "--temperature", "1"]
    rollout = RolloutSettings.for_generation(complete_config(generate_config(tmp_path, tmp_path), None))
    assert prompt_file.sampling_rule(parser.parse_args(alike)) == rollout.rule


def test_the_rule_is_what_was_asked_for(tmp_path: Path) -> None:
    more = ("--repetition-penalty", "1.2", "--temperature", "0.7", "--top-k", "9", "--top-p", "0.9")

    assert prompt_file.sampling_rule(asked(tmp_path, [], *more, "--min-p", "0.1")) == SamplingRule(
        1.2, 0.7, 9, 0.9, 0.1
    )
