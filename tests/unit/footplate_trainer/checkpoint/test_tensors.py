"""What torch says of a checkpoint that cannot be loaded, in our errors."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.api import CheckpointException

from footplate_trainer.checkpoint.folder import LocalFolder
from footplate_trainer.checkpoint.tensors import load_alone, loading_errors
from footplate_trainer.errors import CheckpointError, StorageError, TrainerError


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
