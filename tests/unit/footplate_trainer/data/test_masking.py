"""What is hidden of a text, and how it is asked for."""

from __future__ import annotations

import numpy as np
import pytest

from footplate_planning.span_corruption import plan_spans, span_counts
from footplate_trainer.data.layout import SpecialTokenRole
from footplate_trainer.data.masking import (
    SpanIds,
    Vocabulary,
    masked_sample,
    span_filler,
    span_sample,
)
from footplate_trainer.data.order import uniforms
from footplate_trainer.data.packing import IGNORED, PADDING_DOCUMENT, Sample, TokenSpan
from tests.unit.footplate_trainer.data.conftest import EOS, SPECIAL, VOCABULARY

PAD, MASK = SPECIAL.of(SpecialTokenRole.PAD)[0], SPECIAL.of(SpecialTokenRole.MASK)[0]
WORDS = Vocabulary.of(SPECIAL, VOCABULARY, MASK)
SPANS = SpanIds(PAD, EOS, np.array(SPECIAL.sentinels))


def span(length: int, ends: tuple[int, ...] = ()) -> TokenSpan:
    """Different ordinary tokens, documents ending with eos before each of `ends`."""
    tokens = 107 + np.arange(length, dtype=np.int64) % 405
    for end in ends:
        tokens[end - 1] = EOS
    documents = np.searchsorted(np.array(ends), np.arange(length), side="right").astype(np.int32)
    return TokenSpan(tokens, documents)


def masked(length: int, probability: float, index: int = 0, context: int | None = None) -> Sample:
    draws = uniforms(5, "mask", index, 3 * length).reshape(3, length)
    return masked_sample(span(length, (length // 2,)), WORDS, probability, draws, context or length)


def test_chance_is_even_and_belongs_to_its_sample() -> None:
    drawn = uniforms(1, "mask", 7, 100_000)
    assert abs(drawn.mean() - 0.5) < 0.005 and drawn.min() >= 0 and drawn.max() < 1
    assert np.histogram(drawn, 10)[0].min() > 9_600
    for other in (uniforms(2, "mask", 7, 9), uniforms(1, "span", 7, 9), uniforms(1, "mask", 8, 9)):
        assert not np.any(other == drawn[:9])


def test_chance_never_changes() -> None:
    """Runs resume on it."""
    assert uniforms(3, "mask", 11, 3).tolist() == [
        0.17187249725223885,
        0.9369911876635301,
        0.21416626929192428,
    ]


def test_of_the_hidden_tokens_most_are_masked_and_some_replaced_or_kept() -> None:
    sample = masked(400_000, 0.15)
    before = span(400_000, (200_000,)).tokens
    hidden = sample.labels != IGNORED
    assert hidden.mean() == pytest.approx(0.15, abs=0.002)
    assert (sample.tokens[hidden] == MASK).mean() == pytest.approx(0.8, abs=0.005)
    kept = sample.tokens[hidden] == before[hidden]
    assert kept.mean() == pytest.approx(0.1, abs=0.005)
    others = sample.tokens[hidden][~kept & (sample.tokens[hidden] != MASK)]
    assert not np.isin(others, SPECIAL.all()).any() and len(np.unique(others)) == VOCABULARY - 107


def test_what_is_not_hidden_stays_and_is_not_asked_for() -> None:
    sample, before = masked(200, 0.5), span(200, (100,)).tokens
    hidden = sample.labels != IGNORED
    assert np.array_equal(sample.tokens[~hidden], before[~hidden])
    assert np.array_equal(sample.labels[hidden], before[hidden])


def test_reserved_ids_are_never_hidden() -> None:
    assert masked(200, 0.999).labels[99] == IGNORED  # the eos in the middle


def test_a_short_text_is_padded() -> None:
    sample = masked(10, 0.3, context=16)
    assert sample.tokens[10:].tolist() == [PAD] * 6
    assert sample.labels[10:].tolist() == [IGNORED] * 6
    assert sample.documents.tolist() == [0] * 5 + [1] * 5 + [PADDING_DOCUMENT] * 6


def corrupted(
    length: int, context: int, ends: tuple[int, ...] = (), index: int = 0, mean: float = 3.0
) -> Sample:
    plan = plan_spans(context, 0.15, mean)
    draws = uniforms(5, "span", index, 2 * plan.span_length).reshape(2, plan.span_length)
    return span_sample(span(length, ends), SPANS, plan, draws)


def restored(sample: Sample) -> list[int]:
    """The text, put together from what encoder and decoder were given."""
    spans: dict[int, list[int]] = {}
    for token in sample.labels[sample.labels != IGNORED][:-1].tolist():  # without the last eos
        if token in SPECIAL.sentinels:
            spans[token] = here = []
        else:
            here.append(token)
    seen = sample.tokens[sample.documents != PADDING_DOCUMENT][:-1].tolist()
    return [original for token in seen for original in (spans.pop(token) if token in spans else [token])]


@pytest.mark.parametrize("length", [1, 2, 3, 20, 113, 568])
@pytest.mark.parametrize("mean", [1.0, 3.0, 8.0])
def test_inputs_and_targets_hold_the_whole_text(length: int, mean: float) -> None:
    for index in range(5):
        sample = corrupted(length, 600, (length // 2,) if length > 3 else (), index, mean)
        assert restored(sample) == span(length, (length // 2,) if length > 3 else ()).tokens.tolist()


def test_a_full_span_fills_the_encoder() -> None:
    """The lengths that T5 has for 512 tokens of input: 568 before, 114 of target."""
    plan = plan_spans(512, 0.15, 3.0)
    assert (plan.span_length, plan.inputs, plan.targets) == (568, 512, 114)
    sample = corrupted(568, 512)
    assert (len(sample.tokens), len(sample.labels), len(sample.decoder_tokens)) == (512, 114, 114)
    assert (sample.labels != IGNORED).all() and (sample.documents == 0).all()


def test_the_decoder_reads_what_it_has_said() -> None:
    sample = corrupted(568, 512)
    assert sample.decoder_tokens[0] == PAD
    assert np.array_equal(sample.decoder_tokens[1:], sample.labels[:-1])
    assert sample.labels[0] == SPECIAL.sentinels[0] and sample.labels[-1] == EOS


def test_every_place_is_hidden_about_equally_often() -> None:
    plan = plan_spans(64, 0.15, 3.0)
    hits = np.zeros(plan.span_length)
    for index in range(300):
        seen = corrupted(plan.span_length, 64, index=index).tokens
        hits += ~np.isin(span(plan.span_length).tokens, seen)
    assert hits.sum() / 300 == plan.counts(plan.span_length)[0]
    assert hits.min() / 300 > 0.02 and hits.max() / 300 < 0.25


@pytest.mark.parametrize("ends", [(), (10, 11, 12, 50), tuple(range(2, 68, 2))])
def test_a_decoder_token_always_finds_its_document(ends: tuple[int, ...]) -> None:
    for index in range(50):
        sample = corrupted(68, 64, ends, index)
        assert set(sample.decoder_documents.tolist()) <= set(sample.documents.tolist())
        assert (np.diff(sample.decoder_documents[sample.decoder_documents >= 0]) >= 0).all()


def test_more_spans_than_sentinels_are_refused() -> None:
    with pytest.raises(ValueError, match="hides 114 spans, and there are 100 sentinels; raise meanSpan"):
        plan_spans(2048, 0.15, 3.0)
    assert plan_spans(2048, 0.15, 4.0).targets > 0


@pytest.mark.parametrize(
    ("length", "counts"),
    [
        pytest.param(0, (0, 0), id="nothing"),
        pytest.param(1, (0, 0), id="one-token-stays"),
        pytest.param(2, (1, 1), id="two"),
        pytest.param(568, (85, 28), id="t5"),
    ],
)
def test_how_much_is_hidden(length: int, counts: tuple[int, int]) -> None:
    assert span_counts(length, 0.15, 3.0) == counts


def test_a_filler_has_the_shapes_and_no_weight() -> None:
    plan = plan_spans(64, 0.15, 3.0)
    filler, sample = span_filler(plan, PAD), corrupted(68, 64)
    for name in ("tokens", "labels", "documents", "decoder_tokens", "decoder_documents"):
        assert getattr(filler, name).shape == getattr(sample, name).shape
    assert (filler.labels == IGNORED).all() and (filler.documents == PADDING_DOCUMENT).all()
