"""`footplate-trainer generate CHECKPOINT --prompts FILE --output FILE`: answers to all prompts of a file.

Each line of the file is a JSON object with a `prompt`, a text, or with its `tokens`. Each output line is an
answer, in the order of the prompts: its text and its tokens, their log-probabilities, and the reason for its
end. The assignment of answers to ranks, and the number of ranks, change none of that.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from footplate_contracts.json_lines import json_line
from footplate_planning.kv_cache import answer_blocks, blocks_within
from footplate_planning.memory import FP32
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology
from footplate_trainer.data.chat.encoding import ChatEncoder
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import (
    EndReason,
    GeneratedAnswer,
    GenerationRequest,
    StopRule,
    truncate_at_stop,
)
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.parallel.rollout_model import RolloutModel

_CACHE_BYTES: Final = 2**30


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments for a file of prompts to those for a single text."""
    group = parser.add_argument_group("answers to a file of prompts")
    group.add_argument("--prompts", metavar="FILE", help='JSON lines with a "prompt" or its "tokens"')
    group.add_argument("--output", metavar="FILE", help="file to write the answers to, one per line")
    group.add_argument(
        "--num-return-sequences", type=int, default=1, help="answers per prompt (default %(default)s)"
    )
    group.add_argument("--top-p", type=float, default=1.0, help="smallest token set with this probability")
    group.add_argument("--min-p", type=float, default=0.0, help="least probability relative to the top token")
    group.add_argument("--repetition-penalty", type=float, default=1.0, help="above 1: fewer repetitions")
    group.add_argument("--stop", action="append", default=[], metavar="TEXT", help="text that ends an answer")
    group.add_argument(
        "--cache-bytes", type=int, default=_CACHE_BYTES, help="key-value cache size (default %(default)s)"
    )


def sampling_rule(arguments: argparse.Namespace) -> SamplingRule:
    """Return the sampling rule; UserMistake for invalid arguments."""
    if arguments.text is not None or arguments.output is None:
        raise UserMistake("--prompts FILE needs --output FILE, and no text argument")
    if arguments.num_return_sequences < 1:
        raise UserMistake(f"--num-return-sequences {arguments.num_return_sequences} must be at least 1")
    if "" in arguments.stop:
        raise UserMistake("--stop '' would end every answer; pass a text or remove it")
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
    """Return the tokens of each line of `file`; UserMistake for a line that is no prompt."""
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
                f"{file}:{number}: must be an object with a non-empty text `prompt`, or with `tokens`, "
                f"integers from 0 to {vocabulary - 1}"
            )
        prompts.append(tokens)
    if not prompts:
        raise UserMistake(f"{file} has no prompt; write one per line")
    return prompts


@dataclass(frozen=True)
class PromptFileJob:
    """The prompts and the options for answers to a file, with the model's `tokenizer`."""

    arguments: argparse.Namespace
    tokenizer: Tokenizer
    prompts: list[list[int]]
    ends: frozenset[int]
    rule: SamplingRule

    @property
    def requests(self) -> list[GenerationRequest]:
        """All requests, by prompt and number of the answer."""
        return [
            GenerationRequest(number, sibling, tokens, self.arguments.max_new_tokens)
            for number, tokens in enumerate(self.prompts)
            for sibling in range(self.arguments.num_return_sequences)
        ]

    @property
    def stop(self) -> StopRule:
        """The rule that ends an answer."""
        return StopRule(self.ends, tuple(self.arguments.stop), lambda tokens: _text(self.tokenizer, tokens))


@dataclass(frozen=True)
class CopyAnswers:
    """The answers of one copy of the model."""

    answers: list[GeneratedAnswer]
    drawn: int  # tokens
    computed: int


def engine_limits(
    asked: PromptFileJob, requests: Sequence[GenerationRequest], shape: ModelShape, topology: Topology
) -> EngineLimits:
    """Return the engine's size for `requests` on each rank of one copy.

    UserMistake if --cache-bytes is too small. The copies of `topology` are alike.
    """
    size, room = EngineLimits.block_size, asked.arguments.cache_bytes
    blocks = blocks_within(shape, room, size, FP32, topology)
    if blocks < 1:
        raise UserMistake(f"--cache-bytes {room} is less than the keys and values of {size} tokens need")
    lengths = (min(len(request.tokens) + request.most, shape.context) for request in requests)
    return EngineLimits(max(1, min(blocks, answer_blocks(lengths, size))))


def generate_answers(
    model: Decoder | RolloutModel,
    asked: PromptFileJob,
    requests: Sequence[GenerationRequest],
    room: EngineLimits,
) -> CopyAnswers:
    """Generate the answers to `requests`; UserMistake if one exceeds the cache.

    Collective where ranks share `model`.
    """
    engine = Engine(model, room, asked.rule, asked.stop, seed=asked.arguments.seed)
    for request in requests:
        try:
            engine.submit(request)
        except ValueError as error:
            place = f"{asked.arguments.prompts}:{request.prompt + 1}"
            raise UserMistake(f"{place}: {error} (--cache-bytes {asked.arguments.cache_bytes})") from error
    return CopyAnswers(list(engine.answers()), engine.drawn, engine.computed)


def write_answers(asked: PromptFileJob, parts: Sequence[CopyAnswers]) -> str:
    """Write the answers of all copies; return a summary for the user."""
    found = sorted(
        (answer for part in parts for answer in part.answers),
        key=lambda answer: (answer.request.prompt, answer.request.sibling),
    )
    out = asked.arguments.output
    _write(Path(out), (_row(asked.tokenizer, asked.stop, answer) for answer in found))
    return (
        f"{len(found)} answers to {len(asked.prompts)} prompts in {out}: "
        f"{sum(part.drawn for part in parts)} tokens drawn, {sum(part.computed for part in parts)} computed"
    )


def _tokens(line: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a line; none if it is invalid."""
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
    return tokenize_prompt(tokenizer, text)


def tokenize_prompt(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the tokens of a text, after the tokenizer's beginning of text, if any, as `pack` does.

    An empty text has none. Text that merely looks like a special token stays text.
    """
    encoder = ChatEncoder(tokenizer)
    ids: list[int] = encoder.encode_text(text).ids.tolist()
    return [*encoder.begins_with, *ids] if ids else []


def _text(tokenizer: Tokenizer, tokens: Sequence[int]) -> str:
    """Decode all tokens: a stop text may be that of a special token, too."""
    text: str = tokenizer.decode(list(tokens), skip_special_tokens=False)
    return text


def _row(tokenizer: Tokenizer, stop: StopRule, answer: GeneratedAnswer) -> dict[str, Any]:
    """Return a line of the output; its text lacks what ends it, its tokens are all that were drawn."""
    shown = answer.tokens[:-1] if answer.reason is EndReason.END else answer.tokens
    text = _text(tokenizer, shown)
    if answer.reason is EndReason.STOP:
        text = truncate_at_stop(text, stop.texts)
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
    """Write all rows or, after a failure, none."""
    partial = out.with_name(f".{out.name}.partial")
    try:
        with partial.open("w", encoding="utf-8") as file:
            file.writelines(json_line(row) + "\n" for row in rows)
        partial.rename(out)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserMistake(f"--output {out}: cannot be written: {error.strerror}") from error
