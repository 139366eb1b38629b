"""A checkpoint as a Hugging Face folder.

The tensors pass through memory a few gigabytes at a time, so a model that no
machine holds can be exported on a small one.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from footplate_contracts.names import ExitCode
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.place import StepPlace, newest_whole
from footplate_trainer.checkpoint.tensors import load_alone
from footplate_trainer.config import model_shape
from footplate_trainer.errors import StorageError, UserMistake
from footplate_trainer.huggingface.writer import write_folder
from footplate_trainer.model.build import build


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `footplate-trainer export`."""
    parser.add_argument("checkpoint", help="a run's checkpoint folder, or one step directory in it")
    parser.add_argument("out", type=Path, help="the folder to write; made where it is missing")


def run(arguments: argparse.Namespace) -> ExitCode:
    """Write the folder and say what is in it."""
    out: Path = arguments.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserMistake(f"{out} is not an empty folder; give another name, so that no model is mixed up")
    place = newest_whole(arguments.checkpoint, report=lambda text: print(f"warning: {text}", file=sys.stderr))
    files = export(place, out)
    print(f"{place.store.place(place.directory)} -> {out}: {', '.join(files)}")
    return ExitCode.SUCCESS


def export(place: StepPlace, out: Path) -> list[str]:
    """Write the model of a step directory to `out`; the names of the files.

    Raises UserMistake when transformers has no word for the model, StorageError
    when `out` cannot be written.
    """
    config = place.store.read(RunConfig, place.directory, layout.RUN_FILE)
    with torch.device("meta"):
        model = build(model_shape(config))
    sizes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}

    def load(names: Sequence[str]) -> Mapping[str, Tensor]:
        tensors = {name: torch.empty(sizes[name]) for name in names}
        load_alone(place.store.folder, place.directory, {f"model.{name}": tensors[name] for name in names})
        return tensors

    tokenizer = place.store.folder.read(f"{place.directory}/{layout.TOKENIZER_FILE}")
    try:
        return write_folder(out, config.model, sizes, load, tokenizer)
    except ValueError as error:
        raise UserMistake(str(error)) from error
    except OSError as error:
        raise StorageError(f"{out}: {error.strerror or error}") from error
