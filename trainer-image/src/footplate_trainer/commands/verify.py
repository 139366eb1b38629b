"""`footplate-trainer verify CHECKPOINT`: is every file what it was when it was committed?"""

from __future__ import annotations

import argparse

from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.place import StepPlace, committed, step_directory
from footplate_trainer.checkpoint.store import storage_errors
from footplate_trainer.errors import CheckpointDamaged


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command line of `footplate-trainer verify`."""
    parser.add_argument(
        "checkpoint", help="a run's checkpoint folder (every committed step), or a step directory"
    )


def run(arguments: argparse.Namespace) -> ExitCode:
    """Read everything, name what is bad; exit code 74 when something is."""
    name = arguments.checkpoint
    one = step_directory(name)
    with storage_errors(name):
        whole = [_verify(place) for place in ([one] if one else committed(name))]
    return ExitCode.SUCCESS if all(whole) else ExitCode.STORAGE


def _verify(place: StepPlace) -> bool:
    try:
        files = place.store.manifest(place.directory).files
    except CheckpointDamaged as error:
        print(f"damaged  {place.name}: {error}")
        return False
    damages = [damage for record in files if (damage := place.store.damage(place.directory, record))]
    for damage in damages:
        print(f"damaged  {place.name}: {damage}")
    if not damages:
        print(f"whole    {place.name}: {len(files)} files, {sum(record.bytes for record in files):,} bytes")
    return not damages
