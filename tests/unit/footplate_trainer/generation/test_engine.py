"""Answers of a small model: those that each prompt gets by itself, whatever is computed together."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import pytest
import torch

from footplate_contracts.v1alpha1.model import Family
from footplate_planning.shape import ModelShape
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import EndReason, GeneratedAnswer, GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SamplingRule, sample_tokens, sampling_uniforms
from footplate_trainer.model.decoder import Decoder
from tests.support.shapes import fill, shape_like

RULE = SamplingRule(repetition_penalty=1.1, temperature=0.8, top_k=40, top_p=0.95, min_p=0.001)
WIDE = EngineLimits(blocks=200, block_size=4)
ROOMS = [
    pytest.param(WIDE, id="all-at-once"),
    pytest.param(EngineLimits(200, 4, at_once=1), id="one-at-a-time"),
    pytest.param(EngineLimits(200, 16, at_once=5, prompt_tokens=3), id="prompts-in-small-pieces"),
    pytest.param(EngineLimits(9, 3), id="little-room"),
]
LLAMA = shape_like(Family.LLAMA, key_value_heads=2)
SHAPES = [
    pytest.param(LLAMA, id="llama"),
    pytest.param(shape_like(Family.MISTRAL, attention={"sliding_window": 5}), id="window"),
    pytest.param(shape_like(Family.GPT2), id="gpt2"),
]
ENDS = (3, 50)


@cache
def decoder(shape: ModelShape = LLAMA) -> Decoder:
    model = Decoder(shape)
    fill(model)
    return model.eval()


def requests(siblings: int = 2) -> list[GenerationRequest]:
    """Six prompts of 1 to 12 tokens, some of which begin alike."""
    system = [7, 8, 9, 10, 11]
    prompts = [[*system, 1, 2], [*system, 1, 2, 3], [5], [*system, *range(20, 27)], [30, 31, 32], system]
    return [
        GenerationRequest(prompt, sibling, tokens, most=5 + prompt)
        for prompt, tokens in enumerate(prompts)
        for sibling in range(siblings)
    ]


@cache
def all_alone(shape: ModelShape) -> list[GeneratedAnswer]:
    return [alone(decoder(shape), request, RULE, 4, ENDS) for request in requests()]


@torch.inference_mode()
def alone(
    model: Decoder, request: GenerationRequest, rule: SamplingRule, seed: int, ends: Iterable[int] = ()
) -> GeneratedAnswer:
    """The same without any cache: the whole sequence again for each token."""
    tokens: list[int] = []
    sampled, full = [], []
    for chance in sampling_uniforms(seed, 0, request.prompt, request.sibling, request.most):
        before = [*request.tokens, *tokens]
        drawn = sample_tokens(model(torch.tensor([before]))[0, -1:], rule, [before], torch.tensor([chance]))
        tokens.append(int(drawn.tokens))
        sampled.append(float(drawn.sampled))
        full.append(float(drawn.full))
        if tokens[-1] in ends:
            return GeneratedAnswer(request, tokens, sampled, full, EndReason.END)
    return GeneratedAnswer(request, tokens, sampled, full, EndReason.LENGTH)


def by_request(answers: Iterable[GeneratedAnswer]) -> dict[tuple[int, int], GeneratedAnswer]:
    found = {(answer.request.prompt, answer.request.sibling): answer for answer in answers}
    return dict(sorted(found.items()))


def compare(found: Iterable[GeneratedAnswer], expected: Iterable[GeneratedAnswer]) -> None:
    ours, theirs = by_request(found), by_request(expected)
    assert {key: answer.tokens for key, answer in ours.items()} == {
        key: answer.tokens for key, answer in theirs.items()
    }
    for key, answer in ours.items():
        assert answer.reason == theirs[key].reason
        assert answer.sampled == pytest.approx(theirs[key].sampled, abs=1e-4)
        assert answer.full == pytest.approx(theirs[key].full, abs=1e-4)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("shape", SHAPES)
def test_an_answer_is_the_one_that_its_prompt_gets_alone(shape: ModelShape, room: EngineLimits) -> None:
    engine = Engine(decoder(shape), room, RULE, StopRule(frozenset(ENDS)), seed=4)

    found = list(engine.answers(requests()))

    compare(found, all_alone(shape))
    assert {answer.reason for answer in found} == {EndReason.END, EndReason.LENGTH}
    assert engine.drawn == sum(len(answer.tokens) for answer in found)
    assert (engine.preemption_count > 0) == (room.blocks == 9)


def test_beginnings_are_computed_once() -> None:
    engine = Engine(decoder(), WIDE, SamplingRule(), StopRule(), seed=1)
    prompts = {request.prompt: len(request.tokens) for request in requests()}

    list(engine.answers(requests(siblings=8)))

    prompt_tokens = engine.computed - (
        engine.drawn - 8 * len(prompts)
    )  # the last of an answer is not computed
    assert prompt_tokens < sum(prompts.values())


def test_siblings_differ_and_another_seed_or_step_is_another_sample() -> None:
    model = decoder()

    def answers(seed: int, step: int) -> list[list[int]]:
        engine = Engine(model, WIDE, SamplingRule(), StopRule(), seed=seed, step=step)
        return [answer.tokens for answer in by_request(engine.answers(requests())).values()]

    first = answers(1, 1)
    assert first == answers(1, 1)
    assert len({tuple(tokens) for tokens in first}) == len(first)
    assert all(ours != theirs for ours, theirs in zip(first, answers(2, 1), strict=True))
    assert all(ours != theirs for ours, theirs in zip(first, answers(1, 2), strict=True))


def test_requests_may_come_while_others_are_under_way() -> None:
    engine = Engine(decoder(), WIDE, RULE, StopRule(frozenset(ENDS)), seed=4)
    early, late = requests()[:6], requests()[6:]
    found = []
    answers = engine.answers(early)
    found.append(next(answers))
    for request in late:
        engine.submit(request)

    compare([*found, *answers], all_alone(LLAMA))


def test_a_text_ends_an_answer() -> None:
    model = decoder()
    (request,) = requests(1)[2:3]
    whole = alone(model, request, SamplingRule(), 4).tokens

    def text_of(tokens: Iterable[int]) -> str:
        return "".join(f"<{token}>" for token in tokens)

    stop = StopRule(texts=("never", f"{whole[2]}><{whole[3]}"), text_of=text_of)
    (answer,) = Engine(model, WIDE, SamplingRule(), stop, seed=4).answers([request])

    assert answer.reason is EndReason.STOP
    assert answer.tokens == whole[:4]


def test_the_context_ends_an_answer() -> None:
    model = decoder(shape_like(Family.GPT2))
    request = GenerationRequest(0, 0, list(range(20)), most=100)

    (answer,) = Engine(model, WIDE, SamplingRule(), StopRule(), seed=4).answers([request])

    assert len(answer.tokens) == 4
    assert answer.reason is EndReason.LENGTH


@pytest.mark.parametrize(
    ("tokens", "room", "text"),
    [
        pytest.param(24, WIDE, "prompt 5 has 24 tokens; prompt and answer may have at most 24", id="context"),
        pytest.param(9, EngineLimits(4, 3), "need 5 blocks of 3; the cache has 4", id="cache"),
    ],
)
def test_what_has_no_room_is_refused(tokens: int, room: EngineLimits, text: str) -> None:
    engine = Engine(decoder(), room, SamplingRule(), StopRule(), seed=4)

    with pytest.raises(ValueError, match=text):
        engine.submit(GenerationRequest(5, 0, [1] * tokens, most=5))


@pytest.mark.parametrize(
    ("texts", "text"),
    [
        pytest.param(("###",), "stop texts need a tokenizer", id="nobody-knows-texts"),
        pytest.param(("",), "an empty stop text would end every answer", id="empty"),
    ],
)
def test_a_stop_text_that_cannot_be_looked_for_is_refused(texts: tuple[str, ...], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        StopRule(texts=texts)


def test_an_engine_that_was_asked_to_stop_goes_on_with_the_same_answers() -> None:
    asked = requests()
    whole = {
        (answer.request.prompt, answer.request.sibling): answer.tokens
        for answer in Engine(decoder(), WIDE, RULE, StopRule(frozenset(ENDS)), seed=4).answers(asked)
    }
    engine = Engine(decoder(), WIDE, RULE, StopRule(frozenset(ENDS)), seed=4)
    passes = iter(range(1000))

    first = list(engine.answers(asked, stopping=lambda: next(passes) == 5))
    assert engine.stopped and 0 < len(first) < len(asked)
    rest = list(engine.answers())

    assert not engine.stopped
    found = {(answer.request.prompt, answer.request.sibling): answer.tokens for answer in [*first, *rest]}
    assert found == whole and len(first) + len(rest) == len(asked)
