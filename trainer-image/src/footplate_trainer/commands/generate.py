"""`footplate-trainer generate`: continues a text with a trained model, or answers a file of prompts.

A checkpoint directory is complete: it holds the run's shape and tokenizer beside the weights, so a folder
that was copied to a laptop is enough.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import torch
from tokenizers import Tokenizer
from torch import Tensor

from footplate_contracts.names import Backend, ExitCode
from footplate_contracts.v1alpha1.model import Architecture
from footplate_contracts.v1alpha1.rollout import RolloutParallelism
from footplate_planning.compatibility import find_rollout_problems
from footplate_planning.config import model_shape
from footplate_planning.shape import ModelShape
from footplate_planning.topology import Topology
from footplate_trainer.checkpoint import layout, state_tensors
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.tensor_reader import load_tensors as load_tensors
from footplate_trainer.commands import prompt_file
from footplate_trainer.commands.local_ranks import run_local_ranks
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.errors import UserMistake
from footplate_trainer.generation.requests import partition_requests
from footplate_trainer.generation.sampler import COLDEST, SamplingRule
from footplate_trainer.huggingface.model_end_tokens import end_token_ids
from footplate_trainer.huggingface.saved_processors import checkpoint_processors
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.local_shard import local_shard
from footplate_trainer.parallel.mesh import Grid
from footplate_trainer.parallel.rollout_model import (
    RolloutModel,
    assign_parameters,
    empty_network,
    open_replica,
)
from footplate_trainer.parallel.world import DistributedContext, init_distributed, read_environment

MOST_RANKS: Final = 1024


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `footplate-trainer generate`."""
    parser.add_argument("checkpoint", help="a run's checkpoint folder, or one step directory in it")
    parser.add_argument("text", nargs="?", help="text to continue")
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, help="maximum tokens to generate (default %(default)s)"
    )
    parser.add_argument(
        "--temperature",
        type=float,
        default=SamplingOptions.temperature,
        help="sampling temperature; 0: most likely token (default %(default)s)",
    )
    parser.add_argument(
        "--top-k",
        type=int,
        default=SamplingOptions.top_k,
        help="number of most likely tokens to sample from; 0, the default: all, as in a rollout",
    )
    parser.add_argument("--seed", type=int, default=SamplingOptions.seed)
    prompt_file.add_arguments(parser)
    group = parser.add_argument_group("several ranks for a file of prompts, on CPUs")
    group.add_argument("--ranks", type=int, metavar="N", help="ranks to start here; not under torchrun")
    group.add_argument("--tensor", type=int, default=1, help="tensor parallel ranks (%(default)s)")
    group.add_argument("--pipeline", type=int, default=1, help="pipeline parallel ranks (%(default)s)")


def run(arguments: argparse.Namespace) -> ExitCode:
    """Print the text and its continuation by the model, or write the answers."""
    _check(arguments)
    rule = None if arguments.prompts is None else prompt_file.sampling_rule(arguments)
    checkpoint = find_newest_whole(arguments.checkpoint)
    if rule is None:
        _go_on(checkpoint, arguments)
        return ExitCode.SUCCESS
    place = read_environment(os.environ)
    ranks = arguments.ranks or place.world_size
    asked = _asked(checkpoint, arguments, rule, ranks)
    if place.world_size > 1:
        told = answer_on_rank(arguments, rule)
    elif ranks > 1:
        told = run_local_ranks(answer_on_rank, ranks, arguments, rule)
    else:
        (model, _), requests = load(checkpoint), asked.requests
        room = prompt_file.engine_limits(asked, requests, model.shape, Topology())
        told = prompt_file.write_answers(asked, [prompt_file.generate_answers(model, asked, requests, room)])
    if place.rank == 0:
        print(told)
    return ExitCode.SUCCESS


def answer_on_rank(arguments: argparse.Namespace, rule: SamplingRule) -> str:
    """Generate on one rank of several; rank 0 writes the answers and returns a summary, others ""."""
    checkpoint = find_newest_whole(arguments.checkpoint)
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        asked = _asked(checkpoint, arguments, rule, world.size)
        shape = _decoder_shape(checkpoint)
        copy = open_replica(_degrees(arguments), world)
        model, topology = RolloutModel(_load_part(checkpoint, copy.grid, world), copy), copy.grid.topology
        mine = partition_requests(asked.requests, topology.data)[copy.number]
        part = prompt_file.generate_answers(
            model, asked, mine, prompt_file.engine_limits(asked, mine, shape, topology)
        )
        parts = object_collectives.gather_to_rank_0(part if copy.is_leader else None, world.background)
        return prompt_file.write_answers(asked, [part for part in parts if part is not None]) if parts else ""


def _load_part(checkpoint: StepCheckpoint, grid: Grid, world: DistributedContext) -> Decoder:
    network = empty_network(_decoder_shape(checkpoint), grid).to_empty(device=world.device)
    network.reset_tables(world.device)
    load_tensors(checkpoint, state_tensors.model_tensors(network), world.background)
    parts = {name: local_shard(parameter).local for name, parameter in network.named_parameters()}
    assign_parameters(network, parts)
    return network


def _go_on(checkpoint: StepCheckpoint, arguments: argparse.Namespace) -> None:
    model, tokenizer = load(checkpoint)
    prompt = prompt_file.tokenize_prompt(tokenizer, arguments.text)
    if not prompt:
        raise UserMistake("the text has no token to continue from; pass at least one character")
    sampling = SamplingOptions(arguments.temperature, arguments.top_k, arguments.seed)
    ends = end_token_ids(checkpoint_processors(checkpoint), tokenizer, model.shape.vocabulary)
    added = list(generate_tokens(model, prompt, arguments.max_new_tokens, sampling, ends))
    print(tokenizer.decode(prompt + added))


def _asked(
    checkpoint: StepCheckpoint, arguments: argparse.Namespace, rule: SamplingRule, ranks: int
) -> prompt_file.PromptFileJob:
    """Read the prompts of the file; UserMistake if it is invalid, or if `ranks` cannot form the layout."""
    shape = _decoder_shape(checkpoint)
    problems = find_rollout_problems(shape, _degrees(arguments), ranks, of="--")
    if problems:
        raise UserMistake("\n".join(problems))
    tokenizer = _tokenizer(checkpoint)
    ends = end_token_ids(checkpoint_processors(checkpoint), tokenizer, shape.vocabulary)
    prompts = prompt_file.read_prompts(arguments.prompts, tokenizer, shape.vocabulary)
    return prompt_file.PromptFileJob(arguments, tokenizer, prompts, ends, rule)


def _degrees(arguments: argparse.Namespace) -> RolloutParallelism:
    return RolloutParallelism(tensor=arguments.tensor, pipeline=arguments.pipeline)


def _check(arguments: argparse.Namespace) -> None:
    """Raise UserMistake for numbers out of range, and for an invalid text."""
    if arguments.max_new_tokens < 1 or arguments.top_k < 0:
        raise UserMistake("--max-new-tokens must be at least 1, --top-k at least 0")
    temperature = arguments.temperature
    if temperature != 0 and not COLDEST <= temperature < math.inf:
        raise UserMistake(f"--temperature {temperature:g} must be 0, or at least {COLDEST:g}")
    if not -(1 << 63) <= arguments.seed < 1 << 64:
        raise UserMistake(f"--seed {arguments.seed} must be a 64-bit integer")
    for name in ("ranks", "tensor", "pipeline"):
        degree = getattr(arguments, name)
        if degree is not None and not 1 <= degree <= MOST_RANKS:
            raise UserMistake(f"--{name} {degree} must be 1 to {MOST_RANKS}")
    if arguments.ranks is not None and read_environment(os.environ).world_size > 1:
        raise UserMistake("--ranks starts its own ranks; remove it under torchrun")
    if arguments.prompts is not None:
        return
    if (arguments.ranks, arguments.tensor, arguments.pipeline) != (None, 1, 1):
        raise UserMistake("--ranks, --tensor and --pipeline need a file of prompts; pass --prompts")
    if arguments.text is None:
        raise UserMistake("nothing to continue; pass a text, or a file as --prompts")
    try:
        arguments.text.encode()
    except UnicodeEncodeError as error:
        raise UserMistake("the text is not UTF-8; pass UTF-8") from error


def load(checkpoint: StepCheckpoint) -> tuple[Decoder, Tokenizer]:
    """Load the model, on the CPU in fp32, and the tokenizer of a step directory."""
    model = build_network(_decoder_shape(checkpoint)).eval()
    assert isinstance(model, Decoder)
    load_tensors(checkpoint, state_tensors.model_tensors(model))
    return model, _tokenizer(checkpoint)


def _decoder_shape(checkpoint: StepCheckpoint) -> ModelShape:
    shape = model_shape(checkpoint.config())
    if shape.architecture is not Architecture.DECODER:
        raise UserMistake(
            f"{checkpoint.directory} is an {shape.architecture}; only a decoder continues a text"
        )
    if shape.labels:
        raise UserMistake(f"{checkpoint.directory} is a reward model, which only scores texts")
    return shape


def _tokenizer(checkpoint: StepCheckpoint) -> Tokenizer:
    return parse_tokenizer(checkpoint.read_bytes(layout.TOKENIZER_FILE))


@dataclass(frozen=True)
class SamplingOptions:
    """Parameters of sampling; temperature 0 selects the most likely token."""

    temperature: float = 0.8
    top_k: int = 0  # 0: all, as a rollout does unless it is told otherwise
    seed: int = 0


@torch.inference_mode()
def generate_tokens(
    model: Decoder, prompt: list[int], tokens: int, sampling: SamplingOptions, ends: Collection[int] = ()
) -> Iterator[int]:
    """Yield at most `tokens` ids after `prompt`; stop before any of `ends` and at the end of the context.

    A prompt longer than the context loses its beginning.
    """
    context = model.shape.context
    generator = torch.Generator().manual_seed(sampling.seed)
    fed = torch.tensor([prompt[-context:]])
    caches = model.new_caches(batch=1, length=context)
    for _ in range(tokens):
        if caches[0].filled + fed.shape[1] > context:
            return
        logits = model(fed, caches=caches)[0, -1]
        token = sample_token(logits, sampling, generator)
        if token in ends:
            return
        yield token
        fed = torch.tensor([[token]])


def sample_token(logits: Tensor, sampling: SamplingOptions, generator: torch.Generator) -> int:
    """Sample an id from `logits` [vocabulary]."""
    if sampling.temperature == 0:
        return int(logits.argmax())
    if sampling.top_k and sampling.top_k < logits.numel():
        least = logits.topk(sampling.top_k).values[-1]
        logits = logits.masked_fill(logits < least, -torch.inf)
    shares = torch.softmax(logits / sampling.temperature, dim=-1)
    return int(torch.multinomial(shares, 1, generator=generator))
