"""`footplate-trainer generate`: a text that a trained model goes on with, or answers to a file of prompts.

A checkpoint directory stands alone: it holds the run's shape and tokenizer
beside the weights, so a folder that was copied to a laptop is enough.
"""

from __future__ import annotations

import argparse
import math

from tokenizers import Tokenizer

from footplate_contracts.names import ExitCode
from footplate_contracts.v1alpha1.model import Architecture
from footplate_planning.config import model_shape
from footplate_trainer.checkpoint import layout, state
from footplate_trainer.checkpoint.place import newest_whole
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.tensors import load as load_tensors
from footplate_trainer.commands import answers
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.sampler import COLDEST
from footplate_trainer.huggingface.companions import companions_in
from footplate_trainer.huggingface.ends import model_ends
from footplate_trainer.model.build import build
from footplate_trainer.model.generate import Sampling, continuation
from footplate_trainer.model.transformer import Decoder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `footplate-trainer generate`."""
    parser.add_argument("checkpoint", help="a run's checkpoint folder, or one step directory in it")
    parser.add_argument("text", nargs="?", help="what the model goes on from")
    parser.add_argument("--tokens", type=int, default=64, help="how many to add (default %(default)s)")
    parser.add_argument(
        "--temperature", type=float, default=Sampling.temperature, help="0: most likely token"
    )
    parser.add_argument("--top-k", type=int, default=Sampling.top_k, help="choose among so many; 0: all")
    parser.add_argument("--seed", type=int, default=Sampling.seed)
    answers.add_arguments(parser)


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print the text and what the model adds to it, or write the answers."""
    _check(arguments)
    rule = None if arguments.prompts is None else answers.rule_of(arguments)
    checkpoint = newest_whole(arguments.checkpoint)
    model, tokenizer = load(checkpoint)
    ends = model_ends(companions_in(checkpoint), tokenizer, model.shape.vocabulary)
    tokenizer.encode_special_tokens = True  # text that merely looks like a special token is text
    if rule is not None:
        print(answers.answer_all(model, tokenizer, ends, arguments, rule))
        return ExitCode.SUCCESS
    prompt = tokenizer.encode(arguments.text, add_special_tokens=False).ids
    if not prompt:
        raise UserMistake("the text holds no token to go on from; give at least one character")
    sampling = Sampling(arguments.temperature, arguments.top_k, arguments.seed)
    added = list(continuation(model, prompt, arguments.tokens, sampling, ends))
    print(tokenizer.decode(prompt + added))
    return ExitCode.SUCCESS


def _check(arguments: argparse.Namespace) -> None:
    """UserMistake for numbers that choose nothing, and for text that is none."""
    if arguments.tokens < 1 or arguments.top_k < 0:
        raise UserMistake("--tokens must be at least 1, --top-k at least 0")
    temperature = arguments.temperature
    if temperature != 0 and not COLDEST <= temperature < math.inf:
        raise UserMistake(f"--temperature {temperature:g} must be 0, or a number from {COLDEST:g} on")
    if not -(1 << 63) <= arguments.seed < 1 << 64:
        raise UserMistake(f"--seed {arguments.seed} must be a number of 64 bits")
    if arguments.prompts is not None:
        return
    if arguments.text is None:
        raise UserMistake("nothing to go on from; give a text, or a file as --prompts")
    try:
        arguments.text.encode()
    except UnicodeEncodeError as error:
        raise UserMistake("the text is not UTF-8; give it in that encoding") from error


def load(checkpoint: StepCheckpoint) -> tuple[Decoder, Tokenizer]:
    """Model, on the CPU in fp32, and tokenizer of a step directory."""
    config = checkpoint.config()
    shape = model_shape(config)
    if shape.architecture is not Architecture.DECODER:
        raise UserMistake(
            f"{checkpoint.directory} holds an {shape.architecture}; only a decoder goes on from a text"
        )
    model = build(shape).eval()
    assert isinstance(model, Decoder)
    load_tensors(checkpoint, state.model_tensors(model))
    tokenizer = checkpoint.content(layout.TOKENIZER_FILE)
    return model, Tokenizer.from_str(tokenizer.decode())
