"""`footplate-trainer generate CHECKPOINT --prompts FILE --out FILE`: answers to all prompts of a file.

Each line of the file is a JSON object with a `prompt`, a text, or with its
`tokens`. Each line that is written is an answer, in the order of the prompts: its
text and its tokens, how likely each of them was, and why it ends.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from footplate_planning.generation import blocks_within
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.passes import EngineRoom
from footplate_trainer.generation.requests import Answer, EndReason, Request, StopRule
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.transformer import Decoder

_CACHE_BYTES: Final = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What a file of prompts takes beside what a single text does."""
    group = parser.add_argument_group("answers to a file of prompts")
    group.add_argument("--prompts", metavar="FILE", help='JSON lines with a "prompt" or its "tokens"')
    group.add_argument("--out", metavar="FILE", help="where the answers go, one a line")
    group.add_argument("--answers", type=int, default=1, help="to each prompt (default %(default)s)")
    group.add_argument("--top-p", type=float, default=1.0, help="the fewest tokens that have this share")
    group.add_argument("--min-p", type=float, default=0.0, help="none below this share of the likeliest one")
    group.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: fewer repetitions")
    group.add_argument(
        "--stop", action="append", default=[], metavar="TEXT", help="a text that ends an answer"
    )
    group.add_argument(
        "--cache-bytes", type=int, default=_CACHE_BYTES, help="for keys and values (default %(default)s)"
    )


def rule_of(arguments: argparse.Namespace) -> SamplingRule:
    """How tokens are drawn; UserMistake for arguments that choose nothing."""
    if arguments.text is not None or arguments.out is None:
        raise UserMistake("--prompts FILE takes --out FILE for the answers, and no text beside it")
    if arguments.answers < 1:
        raise UserMistake(f"--answers {arguments.answers} must be at least 1")
    if "" in arguments.stop:
        raise UserMistake("--stop '' would end every answer; give a text or leave it out")
    try:
        return SamplingRule(
            repetition_penalty=arguments.repetition_penalty,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            top_p=arguments.top_p,
            min_p=arguments.min_p,
        )
    except ValueError as error:
        raise UserMistake(str(error)) from error


def read_prompts(file: str, tokenizer: Tokenizer, vocabulary: int) -> list[list[int]]:
    """The tokens of each line of `file`."""
    try:
        text = Path(file).read_text(encoding="utf-8")
    except OSError as error:
        raise UserMistake(f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserMistake(f"{file}: is not UTF-8") from error
    prompts = []
    for number, line in enumerate(text.split("\n"), 1):  # other ends of lines may stand in a JSON text
        if not line.strip():
            continue
        tokens = _tokens(line, tokenizer)
        if not tokens or not all(0 <= token < vocabulary for token in tokens):
            raise UserMistake(
                f"{file}:{number}: must be an object with a text as `prompt`, not empty, or with `tokens`, "
                f"numbers from 0 to {vocabulary - 1}"
            )
        prompts.append(tokens)
    if not prompts:
        raise UserMistake(f"{file} holds no prompt; give one a line")
    return prompts


def answer_all(
    model: Decoder,
    tokenizer: Tokenizer,
    ends: frozenset[int],
    arguments: argparse.Namespace,
    rule: SamplingRule,
) -> str:
    """Write the answers; returns what to tell of it."""
    shape, size, room = model.shape, EngineRoom.block_size, arguments.cache_bytes
    prompts = read_prompts(arguments.prompts, tokenizer, shape.vocabulary)
    stop = StopRule(ends, tuple(arguments.stop), lambda tokens: _text(tokenizer, tokens))
    blocks = blocks_within(shape, room, size, next(model.parameters()).element_size())
    if blocks < 1:
        raise UserMistake(f"--cache-bytes {room} is less than the keys and values of {size} tokens take")
    longest = [min(len(tokens) + arguments.tokens, shape.context) for tokens in prompts]
    needed = arguments.answers * sum(-(-length // size) for length in longest)
    engine = Engine(model, EngineRoom(min(blocks, needed)), rule, stop, seed=arguments.seed)
    for number, tokens in enumerate(prompts):
        for sibling in range(arguments.answers):
            try:
                engine.submit(Request(number, sibling, tokens, arguments.tokens))
            except ValueError as error:
                raise UserMistake(
                    f"{arguments.prompts}:{number + 1}: {error} (--cache-bytes {room})"
                ) from error
    answers = sorted(engine.answers(), key=lambda answer: (answer.request.prompt, answer.request.sibling))
    _write(Path(arguments.out), (_row(tokenizer, stop, answer) for answer in answers))
    return (
        f"{len(answers)} answers to {len(prompts)} prompts in {arguments.out}: {engine.drawn} tokens drawn, "
        f"{engine.computed} computed"
    )


def _tokens(line: str, tokenizer: Tokenizer) -> list[int]:
    """Those of a line; none where it is not what it should be."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return []
    if not isinstance(row, dict) or ("prompt" in row) == ("tokens" in row):
        return []
    if "tokens" in row:
        listed = row["tokens"]
        whole = isinstance(listed, list) and all(type(token) is int for token in listed)
        return listed if whole else []
    text = row["prompt"]
    try:
        text.encode()
    except (AttributeError, UnicodeEncodeError):
        return []
    ids: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return ids


def _text(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Of all tokens: the text of a special one can be looked for, too."""
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=False)
    return text


def _row(tokenizer: Tokenizer, stop: StopRule, answer: Answer) -> dict[str, Any]:
    """A line of the answers; its text is without what ends it, its tokens are all that were drawn."""
    shown = answer.tokens[:-1] if answer.reason is EndReason.END else answer.tokens
    text = _text(tokenizer, shown)
    if answer.reason is EndReason.STOP:
        text = text[: min(place for place in map(text.find, stop.texts) if place >= 0)]
    return {
        "line": answer.request.prompt + 1,
        "answer": answer.request.sibling + 1,
        "text": text,
        "reason": answer.reason,
        "tokens": answer.tokens,
        "logProbabilities": answer.full,
        "sampledLogProbabilities": answer.sampled,
    }


def _write(out: Path, rows: Iterable[dict[str, Any]]) -> None:
    """All of them or, after a failure, none."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        partial.rename(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserMistake(f"--out {out}: cannot be written: {error.strerror}") from error
