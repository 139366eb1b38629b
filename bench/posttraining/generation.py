"""Answers to 64 prompts: the engine against transformers' static batches, and against one prompt at a time.

    .venv/bin/python -m bench.posttraining.generation [--rounds 3] [--threads N]

Prompts of 8 to 128 tokens, answers of as many, of the same small Llama in fp32.
transformers answers 16 prompts at a time, padded on the left, until the longest
answer of a batch is there: tokens that nobody asked for are not counted. All
three take turns in one process, and times are its CPU seconds, as the machine may
do something else. Then 8 answers to each prompt: how many of the prompts' tokens
are computed, over those that there are.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Callable
from statistics import median

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from footplate_planning.shape import ModelShape
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.initialize import initialize_rows

SHAPE = ModelShape(6, 256, 688, 8, 4, 32, vocabulary=4096, context=256)
PROMPTS, STATIC_BATCH, SIBLINGS, TOP_K = 64, 16, 8, 50
BARS = {"static batches": 2.0, "one at a time": 4.0}
SHARED_BAR = 0.2


def prompts() -> tuple[list[list[int]], list[int]]:
    """Tokens of each prompt, and how many are to follow."""
    rng = random.Random(0)
    tokens = [[rng.randrange(SHAPE.vocabulary) for _ in range(rng.randint(8, 128))] for _ in range(PROMPTS)]
    return tokens, [rng.randint(8, 128) for _ in tokens]


def decoder() -> Decoder:
    """The network, with weights of no meaning."""
    model = Decoder(SHAPE).eval()
    for name, parameter in model.named_parameters():
        initialize_rows(parameter, name, 0, seed=1, standard_deviation=0.05)
    return model


def answered(model: Decoder, at_once: int, siblings: int = 1) -> Engine:
    """An engine that has answered all prompts."""
    room = EngineLimits(blocks=PROMPTS * siblings * 16, at_once=at_once)
    engine = Engine(model, room, SamplingRule(top_k=TOP_K), StopRule(), seed=0)
    for number, (tokens, most) in enumerate(zip(*prompts(), strict=True)):
        for sibling in range(siblings):
            engine.submit(GenerationRequest(number, sibling, tokens, most))
    for _ in engine.answers():
        pass
    return engine


@torch.inference_mode()
def static_batches(model: LlamaForCausalLM) -> None:
    """The same by transformers."""
    tokens, most = prompts()
    for first in range(0, PROMPTS, STATIC_BATCH):
        batch = tokens[first : first + STATIC_BATCH]
        longest = max(map(len, batch))
        padding = [[0] * (longest - len(prompt)) for prompt in batch]
        count = max(most[first : first + STATIC_BATCH])
        model.generate(
            torch.tensor([[*pad, *prompt] for pad, prompt in zip(padding, batch, strict=True)]),
            attention_mask=torch.tensor(
                [[*pad, *[1] * len(prompt)] for pad, prompt in zip(padding, batch, strict=True)]
            ),
            max_new_tokens=count,
            do_sample=True,
            top_k=TOP_K,
            pad_token_id=0,
        )


def transformers_llama() -> LlamaForCausalLM:
    """The same network of transformers; it never ends a text."""
    shape = LlamaConfig(  # type: ignore[call-arg]  # hands what it does not name to its base class
        vocab_size=SHAPE.vocabulary,
        hidden_size=SHAPE.hidden,
        intermediate_size=SHAPE.feed_forward,
        num_hidden_layers=SHAPE.layers,
        num_attention_heads=SHAPE.heads,
        num_key_value_heads=SHAPE.key_value_heads,
        max_position_embeddings=SHAPE.context,
        attn_implementation="sdpa",
        eos_token_id=None,
    )
    return LlamaForCausalLM(shape).eval()


def main() -> int:
    """Print the table; 1 when a bar is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="of all three in turns (%(default)s)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ours, theirs = decoder(), transformers_llama()
    contestants: dict[str, Callable[[], object]] = {
        "continuous": lambda: answered(ours, at_once=PROMPTS),
        "static batches": lambda: static_batches(theirs),
        "one at a time": lambda: answered(ours, at_once=1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(arguments.rounds):
        for name in list(contestants)[:: -1 if number % 2 else 1]:
            begun = time.process_time()
            contestants[name]()
            seconds[name].append(time.process_time() - begun)
    missed = False
    asked = sum(prompts()[1])
    for name, took in seconds.items():
        ratio = median(there / here for there, here in zip(took, seconds["continuous"], strict=True))
        missed = missed or ratio < BARS.get(name, 0)
        bar = f"bar {BARS[name]:.0f}" if name in BARS else ""
        print(f"{name:16}{asked / median(took):8.0f} tokens/s{ratio:8.2f}  {bar}")
    engine = answered(ours, at_once=PROMPTS, siblings=SIBLINGS)
    computed = engine.computed - (engine.drawn - SIBLINGS * PROMPTS)  # an answer's last token is not
    shared = computed / (SIBLINGS * sum(map(len, prompts()[0])))
    print(f"{SIBLINGS} answers each: {shared:.3f} of the prompts' tokens computed  bar {SHARED_BAR}")
    return int(missed or shared > SHARED_BAR)


if __name__ == "__main__":
    sys.exit(main())
