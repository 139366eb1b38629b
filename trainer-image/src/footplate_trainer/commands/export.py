"""`footplate-trainer export`: a checkpoint as a Hugging Face folder."""

from __future__ import annotations

import argparse

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.errors import UserMistake
from footplate_trainer.huggingface.export import export_checkpoint
from footplate_trainer.storage import local_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `footplate-trainer export`."""
    parser.add_argument("checkpoint", help="a run's checkpoint folder, or one step directory in it")
    parser.add_argument("out", help="folder to write, a path or file:// URI; created if missing")
    parser.add_argument(
        "--adapter", action="store_true", help="write only the run's adapters, in PEFT format"
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Write the folder and print its files."""
    try:
        out = local_path(arguments.out)
    except ValueError as error:
        raise UserMistake(f"OUT {error}") from error
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserMistake(f"{out} is not an empty folder; pass another folder, so that no models are mixed")
    checkpoint = find_newest_whole(arguments.checkpoint)
    files = export_checkpoint(checkpoint, out, adapter=arguments.adapter)
    print(f"{checkpoint.name} -> {out}: {', '.join(files)}")
    return ExitCode.SUCCESS
