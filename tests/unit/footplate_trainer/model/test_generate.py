"""How the next token is chosen, and where a text ends."""

from __future__ import annotations

import pytest
import torch

from footplate_planning.shape import ModelShape
from footplate_trainer.commands.generate import SamplingOptions, generate_tokens, sample_token
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.initialize import initialize_rows

GREEDY = SamplingOptions(temperature=0)


def model() -> Decoder:
    built = Decoder(ModelShape(2, 16, 32, 2, 1, 8, vocabulary=50, context=12))
    for name, parameter in built.named_parameters():
        initialize_rows(parameter, name, 0, seed=3, standard_deviation=0.5)
    return built.eval()


def greedy_without_cache(built: Decoder, tokens: list[int], count: int) -> list[int]:
    added: list[int] = []
    for _ in range(count):
        added.append(int(built(torch.tensor([tokens + added]))[0, -1].argmax()))
    return added


def test_the_cached_continuation_is_the_one_computed_anew() -> None:
    built = model()

    assert list(generate_tokens(built, [1, 2, 3], 8, GREEDY)) == greedy_without_cache(built, [1, 2, 3], 8)


def test_a_full_context_ends_the_text() -> None:
    assert len(list(generate_tokens(model(), [1, 2, 3], 100, GREEDY))) == 10


def test_a_long_prompt_loses_its_beginning() -> None:
    built, prompt = model(), list(range(30))

    assert list(generate_tokens(built, prompt, 1, GREEDY)) == greedy_without_cache(built, prompt[-12:], 1)


@pytest.mark.parametrize("place", range(3))
def test_no_end_is_shown_whichever_of_them_comes(place: int) -> None:
    built = model()
    expected = greedy_without_cache(built, [1, 2, 3], 3)
    assert len({*expected}) == 3 and 49 not in expected
    ends = frozenset({49, *expected[place:]})

    assert list(generate_tokens(built, [1, 2, 3], 4, GREEDY, ends)) == expected[:place]


def test_an_end_in_the_prompt_ends_nothing() -> None:
    built, prompt = model(), [7, 1, 7, 7]  # as of a conversation, or padded with the end of a text
    expected = greedy_without_cache(built, prompt, 4)
    assert 7 not in expected

    assert list(generate_tokens(built, prompt, 4, GREEDY, {7})) == expected


def test_the_seed_decides_the_sample() -> None:
    built = model()
    one, again, other = (
        list(generate_tokens(built, [1], 8, SamplingOptions(temperature=1.5, top_k=0, seed=seed)))
        for seed in (1, 1, 2)
    )

    assert one == again
    assert one != other


def test_only_the_best_are_chosen_among() -> None:
    logits, generator = torch.tensor([0.0, 5.0, 4.9, 1.0]), torch.Generator().manual_seed(0)

    chosen = {sample_token(logits, SamplingOptions(temperature=5.0, top_k=2), generator) for _ in range(100)}

    assert chosen == {1, 2}
    assert sample_token(logits, GREEDY, generator) == 1
