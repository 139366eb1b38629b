"""`footplate-trainer verify CHECKPOINT`: compares every file with its checksum at the commit."""

from __future__ import annotations

import argparse

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.lookup import list_committed, open_step_directory
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.errors import CheckpointDamaged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `footplate-trainer verify`."""
    parser.add_argument(
        "checkpoint", help="a run's checkpoint folder (every committed step), or a step directory"
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Read everything and print each checkpoint's result; return exit code 74 if a file is damaged."""
    asked = open_step_directory(arguments.checkpoint)
    whole = [
        _verify(checkpoint) for checkpoint in ([asked] if asked else list_committed(arguments.checkpoint))
    ]
    return ExitCode.SUCCESS if all(whole) else ExitCode.STORAGE


def _verify(checkpoint: StepCheckpoint) -> bool:
    try:
        files = checkpoint.manifest().files
    except CheckpointDamaged as error:
        print(f"damaged  {checkpoint.name}: {error}")
        return False
    damages = [damage for record in files if (damage := checkpoint.damage(record))]
    for damage in damages:
        print(f"damaged  {checkpoint.name}: {damage}")
    if not damages:
        size = sum(record.bytes for record in files)
        print(f"intact   {checkpoint.name}: {len(files)} files, {size:,} bytes")
    return not damages
