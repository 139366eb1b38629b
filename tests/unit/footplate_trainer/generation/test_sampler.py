"""Which token is drawn, and how likely it was."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.generation.sampler import SamplingRule, sample_tokens, sampling_uniforms

LOGITS = torch.tensor([[math.log(share) for share in (0.1, 0.4, 0.05, 0.25, 0.2)]])


def shares(rule: SamplingRule, logits: torch.Tensor = LOGITS, before: tuple[int, ...] = ()) -> list[float]:
    """How often each token is drawn, of 2,000 numbers evenly from 0 to 1."""
    chance = (torch.arange(2000, dtype=torch.float64) + 0.5) / 2000
    drawn = sample_tokens(logits.expand(2000, -1), rule, [before] * 2000, chance)
    counts = torch.bincount(drawn.tokens, minlength=logits.shape[1]) / 2000
    for token in drawn.tokens.unique():
        told = drawn.sampled[drawn.tokens == token].double().exp()
        assert told.tolist() == pytest.approx([counts[token].item()] * len(told), abs=1.1e-3)
    return counts.tolist()


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        pytest.param(SamplingRule(), [0.1, 0.4, 0.05, 0.25, 0.2], id="as-the-model-has-it"),
        pytest.param(SamplingRule(temperature=0), [0, 1, 0, 0, 0], id="most-likely"),
        pytest.param(
            SamplingRule(temperature=0.5),
            [share**2 / 0.275 for share in (0.1, 0.4, 0.05, 0.25, 0.2)],
            id="colder",
        ),
        pytest.param(SamplingRule(top_k=2), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0], id="top-k"),
        pytest.param(SamplingRule(top_k=9), [0.1, 0.4, 0.05, 0.25, 0.2], id="top-k-of-fewer"),
        pytest.param(SamplingRule(top_p=0.6), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0], id="top-p"),
        pytest.param(SamplingRule(top_p=0.01), [0, 1, 0, 0, 0], id="top-p-keeps-one"),
        pytest.param(
            SamplingRule(min_p=0.45), [0, 0.4 / 0.85, 0, 0.25 / 0.85, 0.2 / 0.85], id="min-p-of-the-greatest"
        ),
        pytest.param(
            SamplingRule(top_k=3, top_p=0.5), [0, 0.4 / 0.65, 0, 0.25 / 0.65, 0], id="top-p-of-top-k"
        ),
        pytest.param(SamplingRule(ids=3), [0.1 / 0.55, 0.4 / 0.55, 0.05 / 0.55, 0, 0], id="of-some-ids"),
        pytest.param(SamplingRule(ids=1), [1, 0, 0, 0, 0], id="of-one-id"),
        pytest.param(SamplingRule(ids=1, temperature=0), [1, 0, 0, 0, 0], id="most-likely-of-some-ids"),
        pytest.param(SamplingRule(ids=3, top_k=2), [0.2, 0.8, 0, 0, 0], id="top-k-of-some-ids"),
        pytest.param(SamplingRule(ids=1, min_p=0.5), [1, 0, 0, 0, 0], id="min-p-of-some-ids"),
    ],
)
def test_what_is_drawn_from(rule: SamplingRule, expected: list[float]) -> None:
    assert shares(rule) == pytest.approx(expected, abs=1e-3)


def test_equally_likely_tokens_stay_or_go_together() -> None:
    assert shares(SamplingRule(top_k=2), torch.tensor([[0.0, 1.0, 0.0, 0.0]]).mul(math.log(2))) == (
        pytest.approx([0.2, 0.4, 0.2, 0.2], abs=1e-3)
    )
    assert shares(SamplingRule(temperature=0), torch.tensor([[0.0, 1.0, 1.0]])) == [0, 1, 0]


def test_what_was_said_before_is_less_likely() -> None:
    logits = torch.tensor([[1.0, -1.0, 1.0, -1.0]])

    found = shares(SamplingRule(repetition_penalty=2.0), logits, before=(0, 1, 1))

    wanted = torch.softmax(torch.tensor([0.5, -2.0, 1.0, -1.0]), 0)
    assert found == pytest.approx(wanted.tolist(), abs=1e-3)


@pytest.mark.parametrize("share", [0.3, 0.9, 0.9999])
def test_a_share_of_a_large_vocabulary_is_found_by_sorting_little_or_all_of_it(share: float) -> None:
    logits = torch.randn(3, 5000, generator=torch.Generator().manual_seed(1))
    weights = torch.softmax(logits.double(), -1)
    greatest = weights.sort(-1, descending=True).values
    kept = ((greatest.cumsum(-1) < share).sum(-1) + 1).tolist()

    lowest = sample_tokens(logits, SamplingRule(top_p=share), [()] * 3, torch.zeros(3, dtype=torch.float64))

    for row, count in enumerate(kept):
        allowed = weights[row] >= greatest[row, count - 1]
        assert lowest.tokens[row] == allowed.nonzero()[0]
        told = weights[row, lowest.tokens[row]] / weights[row, allowed].sum()
        assert lowest.sampled[row].item() == pytest.approx(told.log().item(), abs=1e-6)


def test_truncation_moves_one_log_probability_and_not_the_other() -> None:
    chance = torch.tensor([0.3], dtype=torch.float64)
    whole = sample_tokens(LOGITS, SamplingRule(), [()], chance)
    truncated = sample_tokens(LOGITS, SamplingRule(top_k=1), [()], chance)

    assert whole.tokens.item() == truncated.tokens.item() == 1
    assert whole.full.item() == truncated.full.item() == pytest.approx(math.log(0.4), abs=1e-6)
    assert whole.sampled.item() == pytest.approx(math.log(0.4), abs=1e-6)
    assert truncated.sampled.item() == 0


@pytest.mark.parametrize("rule", [SamplingRule(), SamplingRule(1, 0.7), SamplingRule(1.3, 0.7, 50, 0.9)])
def test_ids_that_there_are_not_change_no_bit(rule: SamplingRule) -> None:
    logits = torch.randn(40, 700, generator=torch.Generator().manual_seed(2))
    chance = torch.rand(40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    before = [[row] for row in range(40)]
    expected = sample_tokens(logits, rule, before, chance)
    for ids in (700, 704):
        found = sample_tokens(logits, replace(rule, ids=ids), before, chance)
        assert found.tokens.tolist() == expected.tokens.tolist()
        assert found.sampled.tolist() == expected.sampled.tolist()
        assert found.full.tolist() == expected.full.tolist()


def test_rows_without_a_token_are_a_part_of_the_whole_distribution() -> None:
    (chance, some) = torch.tensor([0.3], dtype=torch.float64), SamplingRule(ids=3)
    drawn = sample_tokens(LOGITS, some, [()], chance)
    assert drawn.tokens.item() == 1
    assert drawn.full.item() == sample_tokens(LOGITS, SamplingRule(), [()], chance).full.item()
    assert drawn.sampled.item() == pytest.approx(math.log(0.4 / 0.55), abs=1e-6)


def test_a_number_next_to_1_draws_what_can_be_drawn() -> None:
    logits = torch.cat((torch.zeros(1, 49999), torch.full((1, 2000), -torch.inf)), dim=1)
    chance = torch.tensor([1 - 2.0**-53], dtype=torch.float64)

    assert sample_tokens(logits, SamplingRule(), [()], chance).tokens.item() < 49999


@pytest.mark.parametrize("logit", [math.nan, math.inf])
@pytest.mark.parametrize("rule", [SamplingRule(), SamplingRule(temperature=0), SamplingRule(top_k=1)])
def test_nothing_is_drawn_from_what_is_no_number(logit: float, rule: SamplingRule) -> None:
    logits = torch.tensor([[0.0, 1.0], [logit, 0.0]])

    with pytest.raises(NumericalDivergence, match="not finite"):
        sample_tokens(logits, rule, [()] * 2, torch.zeros(2, dtype=torch.float64))


def test_a_row_is_its_own() -> None:
    logits = torch.randn(40, 700, generator=torch.Generator().manual_seed(2))
    chance = torch.rand(40, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    rule = SamplingRule(1.3, 0.7, 50, 0.9, 0.01)
    before = [[row, 2 * row] for row in range(40)]
    together = sample_tokens(logits, rule, before, chance)

    for row in (0, 17, 39):
        alone = sample_tokens(logits[row : row + 1], rule, before[row : row + 1], chance[row : row + 1])
        assert alone.tokens.item() == together.tokens[row].item()
        assert alone.sampled.item() == together.sampled[row].item()
        assert alone.full.item() == together.full[row].item()


def test_a_draw_is_decided_by_seed_step_prompt_sibling_and_place() -> None:
    base = {"seed": 1, "step": 2, "prompt": 3, "sibling": 4}
    first = sampling_uniforms(**base, count=8)

    assert sampling_uniforms(**base, count=3).tolist() == first[:3].tolist(), (
        "how many are asked for decides none"
    )
    assert len({*first.tolist()}) == 8
    for name, value in base.items():
        assert not set(sampling_uniforms(**{**base, name: value + 1}, count=8)) & set(first)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        pytest.param({"temperature": 1e-9}, "temperature is 1e-09; it must be 0, or at least", id="too-cold"),
        pytest.param({"temperature": math.nan}, "temperature is nan", id="no-number"),
        pytest.param({"top_k": -1}, "topK is -1; it must be at least 0", id="top-k"),
        pytest.param({"top_p": 0.0}, "topP is 0; it must be above 0", id="top-p"),
        pytest.param({"min_p": 1.5}, "minP is 1.5; it must be 0 to 1", id="min-p"),
        pytest.param({"repetition_penalty": 0.0}, "repetitionPenalty is 0", id="penalty"),
    ],
)
def test_what_chooses_nothing_is_refused(wrong: dict[str, float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        replace(SamplingRule(), **wrong)
