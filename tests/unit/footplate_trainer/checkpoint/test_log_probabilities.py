"""A reference's log-probabilities in a checkpoint folder: found by what they are of, and once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from footplate_contracts.reports import GenerationId
from footplate_trainer.checkpoint.log_probabilities import LogProbabilityInputs, StoredLogProbabilities
from footplate_trainer.checkpoint.store import CheckpointStore

OF = LogProbabilityInputs(
    weights="0123", data="4567", documents=3, context_length=8, precision="fp32", overlong="refuse"
)
VALUES = np.array([-1.5, np.nan, -2.25])
FIRST, SECOND = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


@pytest.fixture
def known(tmp_path: Path) -> StoredLogProbabilities:
    return StoredLogProbabilities(CheckpointStore(tmp_path))


def test_what_was_kept_is_found(known: StoredLogProbabilities) -> None:
    assert known.find(OF) is None
    np.testing.assert_array_equal(known.write(OF, VALUES, FIRST), VALUES)
    found = known.find(OF)
    assert found is not None
    np.testing.assert_array_equal(found, VALUES)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "89ab"},
        {"data": "89ab"},
        {"documents": 4},
        {"context_length": 16},
        {"precision": "bf16"},
        {"overlong": "cut"},
        {"alpha": 8.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_other_weights_or_data_are_another_thing(
    change: dict[str, object], known: StoredLogProbabilities
) -> None:
    known.write(OF, VALUES, FIRST)
    assert known.find(OF.model_copy(update=change)) is None


def test_a_generation_that_comes_late_takes_what_is_there(known: StoredLogProbabilities) -> None:
    known.write(OF, VALUES, SECOND)
    np.testing.assert_array_equal(known.write(OF, VALUES + 1e-7, FIRST), VALUES)
    np.testing.assert_array_equal(known.find(OF), VALUES)


@pytest.mark.parametrize("content", [b"", bytes(24), bytes(16)], ids=["empty", "other", "cut"])
def test_what_is_damaged_is_computed_and_kept_anew(
    content: bytes, known: StoredLogProbabilities, tmp_path: Path
) -> None:
    known.write(OF, VALUES, FIRST)
    (tmp_path / f"reference-{OF.key}.1-1.f64").write_bytes(content)
    assert known.find(OF) is None
    known.write(OF, VALUES, SECOND)
    np.testing.assert_array_equal(known.find(OF), VALUES)


def test_a_record_that_was_never_finished_is_none(known: StoredLogProbabilities, tmp_path: Path) -> None:
    (tmp_path / f"reference-{OF.key}.json").touch()
    assert known.find(OF) is None
    known.write(OF, VALUES, FIRST)
    assert known.find(OF) is not None


def test_what_is_of_others_goes_and_all_else_stays(known: StoredLogProbabilities, tmp_path: Path) -> None:
    other = OF.model_copy(update={"weights": "89ab"})
    known.write(other, VALUES, FIRST)
    known.write(OF, VALUES, FIRST)
    known.write(OF, VALUES, SECOND)
    (tmp_path / "step-2.committed").touch()
    (tmp_path / "reference-notes.txt").touch()
    known.delete_others([OF])
    kept = {f"reference-{OF.key}.json", f"reference-{OF.key}.1-1.f64"}
    assert {path.name for path in tmp_path.iterdir()} == {*kept, "step-2.committed", "reference-notes.txt"}
