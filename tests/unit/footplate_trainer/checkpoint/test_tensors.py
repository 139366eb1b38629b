"""Tensors in files: what goes in comes out, and what cannot be loaded is told in our errors."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException

from footplate_trainer.checkpoint.durable.plan import TensorPlan, WriteThrottle
from footplate_trainer.checkpoint.layout import INDEX_FILE
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.checkpoint.tensor_reader import load_tensors as load_tensors
from footplate_trainer.checkpoint.tensor_reader import loading_errors
from footplate_trainer.errors import CheckpointDamaged, CheckpointError, StorageError, TrainerError

DIRECTORY = "step-1.e0g0"
STATE = {
    "weights": torch.arange(12.0).reshape(3, 4),
    "transposed": torch.arange(12.0).reshape(3, 4).T,
    "halves": torch.arange(5, dtype=torch.bfloat16),
    "count": torch.tensor(7, dtype=torch.int64),
    "empty": torch.empty(0, 4),
    "truths": torch.tensor([True, False, True]),
}


def write(folder: Path, state: dict[str, Tensor]) -> int:
    """`state` in a directory below `folder`, by one process alone; the bytes of its tensors' file."""
    store, plan = CheckpointStore(folder), TensorPlan.of(state, None)
    assert plan.index is not None
    store.write(DIRECTORY, INDEX_FILE, plan.index)
    return plan.write(store.folder, DIRECTORY, WriteThrottle(threading.Event())).bytes


def load(folder: Path, tensors: dict[str, Tensor]) -> None:
    load_tensors(StepCheckpoint(CheckpointStore(folder), DIRECTORY), tensors)


def like(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same shapes and types, with something else in them."""
    return {name: torch.ones_like(tensor) for name, tensor in state.items()}


def test_every_type_and_shape_comes_back_bit_by_bit(tmp_path: Path) -> None:
    written = write(tmp_path, STATE)
    found = like(STATE)
    load(tmp_path, found)
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    assert written == sum(tensor.nbytes for tensor in STATE.values())


def test_a_target_of_another_type_gets_the_values(tmp_path: Path) -> None:
    write(tmp_path, {"weights": STATE["weights"]})
    found = {"weights": torch.empty(3, 4, dtype=torch.float64)}
    load(tmp_path, found)
    assert torch.equal(found["weights"], STATE["weights"].double())


def test_a_file_that_ends_too_early_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"weights": STATE["weights"]})
    with (tmp_path / DIRECTORY / "tensors-0.bin").open("r+b") as file:
        file.truncate(40)
    with pytest.raises(CheckpointError, match=r"tensors-0\.bin ends within a tensor"):
        load(tmp_path, like({"weights": STATE["weights"]}))


def test_the_index_reads_as_a_table(tmp_path: Path) -> None:
    write(tmp_path, {"weights": STATE["weights"], "halves": STATE["halves"]})
    index = json.loads((tmp_path / DIRECTORY / INDEX_FILE).read_text())
    file = "tensors-0.bin"
    assert index["tensors"] == {
        "weights": {
            "dtype": "float32",
            "shape": [3, 4],
            "slices": [{"file": file, "start": 0, "offsets": [0, 0], "shape": [3, 4]}],
        },
        "halves": {
            "dtype": "bfloat16",
            "shape": [5],
            "slices": [{"file": file, "start": 48, "offsets": [0], "shape": [5]}],
        },
    }


@pytest.mark.parametrize(
    ("was", "becomes", "words"),
    [
        pytest.param(
            "float32", "float9", "tensors.weights.dtype: .*this torch version has no dtype float9", id="type"
        ),
        pytest.param(
            "float32", "save", "tensors.weights.dtype: .*this torch version has no dtype save", id="no-type"
        ),
        pytest.param(
            '"tensors-0.bin"', '"../tensors-0.bin"', "slices.0.file: String should match", id="file"
        ),
        pytest.param('"start":0', '"start":-4', "slices.0.start: Input should be greater", id="start"),
        pytest.param("]}]}}}", "", "Invalid JSON: EOF while parsing", id="cut-off"),
    ],
)
def test_an_index_that_cannot_be_true_is_told(tmp_path: Path, was: str, becomes: str, words: str) -> None:
    write(tmp_path, {"weights": STATE["weights"]})
    path = tmp_path / DIRECTORY / INDEX_FILE
    path.write_text(path.read_text().replace(was, becomes))
    with pytest.raises(CheckpointDamaged, match=f"tensors.json is damaged: .*{words}"):
        load(tmp_path, like({"weights": STATE["weights"]}))


def test_what_a_later_release_adds_to_the_index_is_passed_over(tmp_path: Path) -> None:
    write(tmp_path, {"weights": STATE["weights"]})
    path, found = tmp_path / DIRECTORY / INDEX_FILE, like({"weights": STATE["weights"]})
    for field in ('"tensors":', '"dtype":', '"file":'):
        path.write_text(path.read_text().replace(field, f'"mood":"good",{field}'))
    load(tmp_path, found)
    assert torch.equal(found["weights"], STATE["weights"])


@pytest.mark.parametrize(
    ("cause", "error", "words"),
    [
        pytest.param(OSError(5, "I/O error"), StorageError, "it cannot be read: .*I/O error", id="disk"),
        pytest.param(RuntimeError("no key a"), CheckpointError, "it cannot be loaded: no key a", id="other"),
    ],
)
def test_torchs_exception_is_told_apart(cause: Exception, error: type[TrainerError], words: str) -> None:
    stack = torch.distributed.checkpoint.api._wrap_exception(cause)[1]

    with pytest.raises(error, match=words), loading_errors("it"):
        raise CheckpointException("read", {1: (cause, stack)})


def test_a_directory_that_retention_took_before_it_was_read_is_told_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointDamaged, match=rf"^{tmp_path}/{DIRECTORY}/tensors.json is missing$"):
        load(tmp_path, {"a": torch.zeros(1)})
