"""Cutting sequences, against rows small enough to check by eye."""

from __future__ import annotations

import numpy as np
import pytest

from footplate_trainer.data.packing import (
    IGNORED,
    PADDING_DOCUMENT,
    document_sample,
    filler_sample,
    packed_sample,
    window_count,
    window_span,
)

X = IGNORED
P = PADDING_DOCUMENT


@pytest.mark.parametrize(
    ("tokens", "context", "windows"),
    [
        pytest.param(0, 4, 0, id="nothing"),
        pytest.param(4, 4, 0, id="one-token-short"),
        pytest.param(5, 4, 1, id="exactly-one"),
        pytest.param(8, 4, 1, id="label-of-the-second-missing"),
        pytest.param(9, 4, 2, id="two-share-a-token"),
    ],
)
def test_windows_fit_with_their_last_label(tokens: int, context: int, windows: int) -> None:
    assert window_count(tokens, context) == windows
    assert windows == 0 or window_span(windows - 1, context)[1] <= tokens


@pytest.mark.parametrize(
    ("ends", "labels", "documents"),
    [
        pytest.param([], [11, 12, 13, 14], [0, 0, 0, 0], id="one-document"),
        pytest.param([2], [11, X, 13, 14], [0, 0, 1, 1], id="border-inside"),
        pytest.param([1, 2], [X, X, 13, 14], [0, 1, 2, 2], id="one-token-documents"),
        pytest.param([4], [11, 12, 13, X], [0, 0, 0, 0], id="border-at-the-last-label"),
    ],
)
def test_packed_documents_do_not_see_or_predict_each_other(
    ends: list[int], labels: list[int], documents: list[int]
) -> None:
    sample = packed_sample(np.arange(10, 15), np.array(ends, dtype=np.int64), cross_document_attention=False)
    assert sample.tokens.tolist() == [10, 11, 12, 13]
    assert sample.labels.tolist() == labels
    assert sample.documents.tolist() == documents


def test_with_attention_across_documents_every_label_counts() -> None:
    sample = packed_sample(np.arange(10, 15), np.array([2]), cross_document_attention=True)
    assert sample.labels.tolist() == [11, 12, 13, 14]
    assert sample.documents.tolist() == [0, 0, 0, 0]


def test_a_sample_is_a_copy() -> None:
    window = np.arange(10, 15)
    packed_sample(window, np.array([2]), cross_document_attention=False)
    assert window.tolist() == [10, 11, 12, 13, 14]


@pytest.mark.parametrize(
    ("tokens", "inputs", "labels", "documents"),
    [
        pytest.param([2], [2, 0, 0, 0], [X, X, X, X], [0, P, P, P], id="empty-document"),
        pytest.param([8, 9, 2], [8, 9, 2, 0], [9, 2, X, X], [0, 0, 0, P], id="padded"),
        pytest.param([7, 8, 9, 2], [7, 8, 9, 2], [8, 9, 2, X], [0, 0, 0, 0], id="fills-the-input"),
        pytest.param([6, 7, 8, 9, 2], [6, 7, 8, 9], [7, 8, 9, 2], [0, 0, 0, 0], id="fills-the-labels"),
        pytest.param([5, 6, 7, 8, 9, 2], [5, 6, 7, 8], [6, 7, 8, 9], [0, 0, 0, 0], id="cut"),
    ],
)
def test_one_document_a_sequence_is_cut_or_padded(
    tokens: list[int], inputs: list[int], labels: list[int], documents: list[int]
) -> None:
    sample = document_sample(np.array(tokens), context_length=4, pad=0)
    assert sample.tokens.tolist() == inputs
    assert sample.labels.tolist() == labels
    assert sample.documents.tolist() == documents


def test_a_filler_has_no_label_that_counts() -> None:
    sample = filler_sample(3, pad=9)
    assert sample.tokens.tolist() == [9, 9, 9]
    assert sample.labels.tolist() == [X, X, X]
    assert (sample.tokens.dtype, sample.labels.dtype, sample.documents.dtype) == (
        np.int64,
        np.int64,
        np.int32,
    )
