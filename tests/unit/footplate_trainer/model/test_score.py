"""Scores of sequences: read at the last token of each, wherever a rank has it, and never at padding."""

from __future__ import annotations

import torch

from footplate_trainer.model.inputs import Targets
from footplate_trainer.model.sequence_scores import compute_sequence_scores, last_token_positions

DOCUMENTS = torch.tensor([[0, 0, 0, 1, 1, 2, -1, -1], [0, 0, 1, 1, 1, 1, 1, 1], [-1] * 8], dtype=torch.int32)
ENDS = [[2, 4, 5, -1], [1, 7, -1, -1], [-1] * 4]


def targets(positions: torch.Tensor | None = None) -> Targets:
    table = torch.full((3, 4, 4), -1, dtype=torch.int32)
    labels = torch.full((3, 8 if positions is None else len(positions)), -100)
    return Targets(labels, DOCUMENTS, torch.zeros(3), torch.ones(3).bool(), positions, table)


def test_ends_are_known_from_documents() -> None:
    assert last_token_positions(DOCUMENTS, 4).tolist() == ENDS


def test_a_score_is_what_the_head_gives_for_the_last_token() -> None:
    hidden, head = torch.randn(3, 8, 5), torch.randn(1, 5)
    scores = compute_sequence_scores(hidden, head, targets())
    for row, ends in enumerate(ENDS):
        for number, end in enumerate(ends):
            expected = hidden[row, end] @ head[0] if end >= 0 else torch.tensor(0.0)
            torch.testing.assert_close(scores[row, number], expected)


def test_ranks_that_share_a_row_have_each_score_once() -> None:
    hidden, head = torch.randn(3, 8, 5), torch.randn(1, 5)
    parts = [torch.tensor([0, 1, 6, 7]), torch.tensor([2, 3, 4, 5])]
    scores = [compute_sequence_scores(hidden[:, part], head, targets(part)) for part in parts]
    assert ((scores[0] == 0) | (scores[1] == 0)).all()
    torch.testing.assert_close(scores[0] + scores[1], compute_sequence_scores(hidden, head, targets()))


def test_a_row_without_sequences_has_a_part_in_no_gradient() -> None:
    hidden = torch.randn(1, 8, 5, requires_grad=True)
    head = torch.randn(1, 5, requires_grad=True)
    none = torch.full((1, 4, 4), -1, dtype=torch.int32)
    filler = Targets(
        torch.full((1, 8), -100), DOCUMENTS[2:], torch.zeros(1), torch.zeros(1).bool(), sequences=none
    )
    compute_sequence_scores(hidden, head, filler).sum().backward()
    assert hidden.grad is not None and head.grad is not None
    assert not hidden.grad.any() and not head.grad.any()


def test_scores_of_half_precision_are_added_up_in_fp32() -> None:
    hidden, head = torch.randn(3, 8, 64).bfloat16(), torch.randn(1, 64).bfloat16()
    scores = compute_sequence_scores(hidden, head, targets())
    assert scores.dtype == torch.float32
    torch.testing.assert_close(scores[0, 0], hidden[0, 2].float() @ head[0].float())
