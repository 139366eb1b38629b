"""A sample is its own: bit by bit the same in any batch, and as the training pass computes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import pytest
import torch
from torch import Tensor

from footplate_contracts.v1alpha1.adapter import Adapter
from footplate_contracts.v1alpha1.model import Family
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import GeneratedAnswer, GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SamplingRule
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.head_chunks import IGNORED, VocabularyShard
from footplate_trainer.model.inputs import Inputs, Targets
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.model.tile_check import find_invariant_tiles
from footplate_trainer.model.token_loss import ScoreRequest, token_scores
from footplate_trainer.parallel.batch_invariance import make_batch_invariant
from tests.support.shapes import fill, shape_like

# Answers of an engine, and the log-probabilities that a training pass computes of the same tokens.

Place = tuple[int, slice]
"""A row, and where in it an answer's tokens are predicted."""


def packed(answers: Iterable[GeneratedAnswer], length: int) -> tuple[Inputs, Targets, list[Place]]:
    """Prompts with their answers, one behind another in rows of `length`; and where each answer is."""
    rows: list[list[GeneratedAnswer]] = [[]]
    used = 0
    for answer in answers:
        size = len(answer.request.tokens) + len(answer.tokens)
        if used + size > length:
            rows.append([])
            used = 0
        rows[-1].append(answer)
        used += size
    tokens = torch.zeros(len(rows), length, dtype=torch.int64)
    documents, labels = torch.full_like(tokens, -1), torch.full_like(tokens, IGNORED)
    places = []
    for number, row in enumerate(rows):
        first = 0
        for document, answer in enumerate(row):
            sequence = torch.tensor([*answer.request.tokens, *answer.tokens])
            end = first + len(sequence)
            tokens[number, first:end], documents[number, first:end] = sequence, document
            where = slice(first + len(answer.request.tokens) - 1, end - 1)
            labels[number, where] = torch.tensor(answer.tokens)
            places.append((number, where))
            first = end
    real = torch.ones(len(rows), dtype=torch.bool)
    targets = Targets(labels, documents.int(), torch.zeros(len(rows)), real)
    return Inputs(tokens, documents), targets, places


def recomputed(
    model: Decoder, inputs: Inputs, labels: Tensor, asked: ScoreRequest, micro_batch: int
) -> Tensor:
    """Scores of each label, `micro_batch` rows at a time: fp32 [numbers, rows, length]."""
    vocabulary = VocabularyShard(len(model.head_weight), tiles=model.tiles)
    found = []
    for some in micro_batches(len(labels), micro_batch):
        assert inputs.documents is not None
        with torch.no_grad():
            (hidden,) = model.forward_stage(inputs=Inputs(inputs.tokens[some], inputs.documents[some]))
        found.append(
            token_scores(hidden, model.head_weight, labels[some], asked=asked, vocabulary=vocabulary)
        )
    return torch.cat(found, 1)


def micro_batches(rows: int, size: int) -> Iterator[slice]:
    """`rows` cut into micro-batches."""
    return (slice(first, first + size) for first in range(0, rows, size))


CONTEXT = 160
TEMPERATURE = 0.7
WHOLE = SamplingRule(temperature=TEMPERATURE)
CUT = SamplingRule(repetition_penalty=1.1, temperature=0.8, top_k=40, top_p=0.95, min_p=0.001)
ROOMY = EngineLimits(blocks=400)
ROOMS = [
    pytest.param(EngineLimits(400, at_once=1), id="alone"),
    pytest.param(EngineLimits(400, at_once=2), id="two"),
    pytest.param(EngineLimits(400, at_once=7, prompt_tokens=3), id="seven-in-small-pieces"),
    pytest.param(EngineLimits(400, block_size=5, at_once=16), id="sixteen-in-small-blocks"),
    pytest.param(EngineLimits(20, block_size=8), id="little-room"),
]
LLAMA = shape_like(Family.LLAMA, key_value_heads=2, context_length=CONTEXT)
SHAPES = {
    "llama": LLAMA,
    "gpt2": shape_like(Family.GPT2, context_length=CONTEXT),
    "window": shape_like(Family.MISTRAL, context_length=CONTEXT, attention={"sliding_window": 70}),
    "adapter": shape_like(Family.LLAMA, context_length=CONTEXT, adapter=Adapter(rank=3, alpha=6)),
}
MODELS = [
    pytest.param(name, dtype, id=f"{name}-{str(dtype).removeprefix('torch.')}")
    for name in SHAPES
    for dtype in (torch.float32, torch.bfloat16)
]


@cache
def decoder(name: str, dtype: torch.dtype) -> Decoder:
    """Weights in `dtype`; tables of positions stay as they are, as in training."""
    model = build_network(SHAPES[name])
    assert isinstance(model, Decoder)
    fill(model)
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():  # biases, norms and adapters begin as if they were not there
        noise = 0.1 * torch.randn(parameter.shape, generator=generator)
        parameter.data = (parameter.data + noise).to(dtype)
    make_batch_invariant(model, find_invariant_tiles(model, dtype, torch.device("cpu")).tiles)
    return model.eval()


def requests() -> list[GenerationRequest]:
    """Eight prompts of 1 to 79 tokens, of which some begin alike, with two answers each."""
    return [
        GenerationRequest(
            prompt, sibling, [(7 * (prompt // 2) + i * i) % 99 for i in range(1 + 13 * prompt % 80)], most
        )
        for prompt, most in enumerate((70, 5, 12, 33, 64, 1, 20, 40))
        for sibling in range(2)
    ]


def answered(
    model: Decoder,
    room: EngineLimits,
    rule: SamplingRule = WHOLE,
    asked: Sequence[GenerationRequest] | None = None,
) -> list[GeneratedAnswer]:
    """Answers by prompt and sibling."""
    engine = Engine(model, room, rule, StopRule(frozenset({3})), seed=4)
    found = list(engine.answers(asked or requests()))
    assert (engine.preemption_count > 0) == (room.blocks == 20)
    return sorted(found, key=lambda answer: (answer.request.prompt, answer.request.sibling))


@cache
def together(name: str, dtype: torch.dtype) -> list[GeneratedAnswer]:
    return answered(decoder(name, dtype), ROOMY)


def bits(answers: Iterable[GeneratedAnswer]) -> list[tuple[list[int], list[float], list[float]]]:
    return [(answer.tokens, answer.sampled, answer.full) for answer in answers]


@contextmanager
def threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize(("name", "dtype"), MODELS[:4])
def test_an_answer_has_its_bits_in_any_batch(name: str, dtype: torch.dtype, room: EngineLimits) -> None:
    assert bits(answered(decoder(name, dtype), room)) == bits(together(name, dtype))


def test_an_answer_has_its_bits_where_some_tokens_may_not_be_drawn() -> None:
    model = decoder("llama", torch.float32)

    found = [
        bits(answered(model, room, CUT)) for room in (ROOMY, EngineLimits(400, at_once=2, prompt_tokens=9))
    ]

    assert found[0] == found[1]


@pytest.mark.parametrize("micro_batch", [1, 2, 4])
@pytest.mark.parametrize(("name", "dtype"), MODELS)
def test_training_computes_what_was_sampled(name: str, dtype: torch.dtype, micro_batch: int) -> None:
    answers = together(name, dtype)
    inputs, targets, places = packed(answers, CONTEXT)
    asked = ScoreRequest(temperature=TEMPERATURE)

    full, tempered = recomputed(decoder(name, dtype), inputs, targets.labels, asked, micro_batch)

    assert [full[row, where].tolist() for row, where in places] == [answer.full for answer in answers]
    assert [tempered[row, where].tolist() for row, where in places] == [answer.sampled for answer in answers]


def test_training_computes_what_was_sampled_whatever_a_sequence_stands_beside() -> None:
    model, answers = decoder("llama", torch.float32), together("llama", torch.float32)
    for length in (CONTEXT, CONTEXT - 9):
        inputs, targets, places = packed(answers[::-1], length)

        (full,) = recomputed(model, inputs, targets.labels, ScoreRequest(), 3)

        assert [full[row, where].tolist() for row, where in places] == [row.full for row in answers[::-1]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_number_of_threads_changes_no_bit(dtype: torch.dtype) -> None:
    few = [
        GenerationRequest(row.prompt, row.sibling, row.tokens, min(row.most, 8)) for row in requests()[::5]
    ]
    model = decoder("llama", dtype)

    found = []
    for number in (1, 2):
        with threads(number):
            found.append(bits(answered(model, EngineLimits(400, at_once=3), asked=few)))

    assert found[0] == found[1]
