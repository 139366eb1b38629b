"""What a run is told of a checkpoint that it found at its last step."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_contracts.reports import GenerationId
from footplate_trainer.callbacks.checkpoints import build_resumed_record
from footplate_trainer.checkpoint.layout import CheckpointRetention
from footplate_trainer.checkpoint.store import CheckpointStore
from tests.support.checkpoints import write_checkpoint


@pytest.mark.parametrize(
    ("finder", "told"),
    [
        pytest.param("1.1", "1.1", id="its-writer-had-later-generations"),
        pytest.param("1.2", "1.2", id="the-same"),
        pytest.param("2.1", "1.2", id="its-writer-came-before"),
    ],
)
def test_all_is_told_that_a_commit_would_have_told(tmp_path: Path, finder: str, told: str) -> None:
    folder = tmp_path / "checkpoints"
    for step in (2, 4, 6):
        write_checkpoint(folder, step)
    found = build_resumed_record(
        CheckpointStore(folder), 6, CheckpointRetention(2), GenerationId.parse(finder)
    )
    assert found is not None and found.standing is not None
    assert (found.step, found.uri, str(found.generation)) == (6, f"{folder}/step-6.e1g2", told)
    assert found.time == 1_800_000_000.0 and found.bytes > 6 * len("rows of rank 0")
    assert (found.seconds_blocked, found.seconds_total) == (0.0, 0.0)
    assert [(known.step, str(known.generation)) for known in found.standing] == [(6, "1.2"), (4, "1.2")]


@pytest.mark.parametrize("lost", ["step-6.committed", "step-6.e1g2/manifest.json"])
def test_nothing_is_told_of_what_cannot_be_read(tmp_path: Path, lost: str) -> None:
    folder = tmp_path / "checkpoints"
    write_checkpoint(folder, 6)
    (folder / lost).unlink()
    generation = GenerationId(epoch=1, number=1)
    assert build_resumed_record(CheckpointStore(folder), 6, CheckpointRetention(2), generation) is None
