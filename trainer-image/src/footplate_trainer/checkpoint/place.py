"""The checkpoint that a person means: a run's folder, or one step directory in it.

A step directory stands alone: it may have been copied elsewhere and renamed.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TypeVar

from footplate_contracts.model import Contract
from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.store import CheckpointStore
from footplate_trainer.config import local_path
from footplate_trainer.errors import CheckpointError

Record = TypeVar("Record", bound=Contract)


@dataclass(frozen=True)
class StepPlace:
    """One step directory; `store` is the folder around it."""

    store: CheckpointStore
    directory: str

    @property
    def name(self) -> str:
        """Where it is, as a person would write it."""
        return str(self.store.folder / self.directory)

    def read(self, kind: type[Record], file: str) -> Record:
        """A JSON file of the directory; CheckpointError when it is missing or torn."""
        try:
            return kind.from_json(json.loads((self.store.folder / self.directory / file).read_text()))
        except FileNotFoundError:
            raise CheckpointError(f"{self.name}/{file} is missing") from None
        except ValueError as error:
            raise CheckpointError(f"{self.name}/{file} is damaged: {error}") from None


def is_step_directory(name: str) -> bool:
    """Whether `name` is one step, and not a run's folder of them."""
    return (local_path(name) / layout.MANIFEST_FILE).is_file()


def locate(name: str) -> StepPlace:
    """The step directory `name`, or the newest committed one in a run's folder."""
    if is_step_directory(name):
        folder = local_path(name).absolute()
        return StepPlace(CheckpointStore(folder.parent), folder.name)
    return committed(name)[0]


def committed(name: str) -> list[StepPlace]:
    """All committed steps in a run's folder, newest first; CheckpointError when there is none."""
    store = CheckpointStore(local_path(name))
    markers = [store.marker(step) for step in store.steps()]
    places = [StepPlace(store, marker.directory) for marker in markers if marker]
    if not places:
        raise CheckpointError(
            f"{store.folder} holds no committed checkpoint; give a run's checkpoint.uri or a step directory"
        )
    return places
