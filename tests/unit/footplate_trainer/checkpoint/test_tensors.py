"""Tensors in files: what goes in comes out, and what cannot be loaded is told in our errors."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.checkpoint.layout import METADATA_FILE
from footplate_trainer.checkpoint.pace import Pace
from footplate_trainer.checkpoint.tensors import TensorPlan, load_alone, loading_errors
from footplate_trainer.errors import CheckpointError, StorageError, TrainerError

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
    plan = TensorPlan.of(state, None)
    written = plan.write(LocalFolder(str(folder)), DIRECTORY, 0, Pace(threading.Event()))
    LocalFolder(str(folder)).write(f"{DIRECTORY}/{METADATA_FILE}", plan.described([written]))
    return written.record.bytes


def like(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors of the same shapes and types, with something else in them."""
    return {name: torch.ones_like(tensor) for name, tensor in state.items()}


def test_every_type_and_shape_comes_back_bit_by_bit(tmp_path: Path) -> None:
    written = write(tmp_path, STATE)
    found = like(STATE)
    load_alone(LocalFolder(str(tmp_path)), DIRECTORY, found)
    assert all(torch.equal(found[name], tensor) for name, tensor in STATE.items())
    assert written == sum(tensor.nbytes for tensor in STATE.values())


def test_a_target_of_another_type_gets_the_values(tmp_path: Path) -> None:
    write(tmp_path, {"weights": STATE["weights"]})
    found = {"weights": torch.empty(3, 4, dtype=torch.float64)}
    load_alone(LocalFolder(str(tmp_path)), DIRECTORY, found)
    assert torch.equal(found["weights"], STATE["weights"].double())


def test_a_file_that_ends_too_early_is_told(tmp_path: Path) -> None:
    write(tmp_path, {"weights": STATE["weights"]})
    with (tmp_path / DIRECTORY / "__0_0.distcp").open("r+b") as file:
        file.truncate(40)
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp ends within a tensor"):
        load_alone(LocalFolder(str(tmp_path)), DIRECTORY, like({"weights": STATE["weights"]}))


def test_tensors_that_torch_itself_wrote_are_told(tmp_path: Path) -> None:
    """As did what was before the first release."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        save(
            {"weights": STATE["weights"]}, storage_writer=FileSystemWriter(tmp_path / DIRECTORY), no_dist=True
        )
    with pytest.raises(CheckpointError, match="were written by another release"):
        load_alone(LocalFolder(str(tmp_path)), DIRECTORY, like({"weights": STATE["weights"]}))


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
    with pytest.raises(CheckpointError, match=r"checkpoint step-4 cannot be loaded: .*No such file"):
        load_alone(LocalFolder(str(tmp_path)), "step-4", {"a": torch.zeros(1)})
