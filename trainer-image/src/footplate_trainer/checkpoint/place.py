"""The checkpoint that a person means: a run's folder, or one step directory in it.

A step directory stands alone: it may have been copied elsewhere and renamed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.store import CheckpointStore, storage_errors
from footplate_trainer.errors import CheckpointError, UserMistake
from footplate_trainer.storage import is_local, local_path


@dataclass(frozen=True)
class StepPlace:
    """One step directory; `store` is the folder around it."""

    store: CheckpointStore
    directory: str

    @property
    def name(self) -> str:
        """Where it is, as a person would write it."""
        return self.store.place(self.directory)


def locate(name: str) -> StepPlace:
    """The step directory `name`, or the newest committed one in a run's folder."""
    return step_directory(name) or committed(name)[0]


def step_directory(name: str) -> StepPlace | None:
    """The one step that `name` is; None for a run's folder of them."""
    folder, _, directory = _whole(name).rpartition("/")
    if not folder.strip("/") or folder.endswith(":/"):  # the root of a file system, or a bucket itself
        return None
    place = StepPlace(_store(folder), directory)
    with storage_errors(name):
        try:
            place.store.folder.size(f"{directory}/{layout.MANIFEST_FILE}")
        except (FileNotFoundError, NotADirectoryError):
            return None
    return place


def newest_whole(name: str, report: Callable[[str], None]) -> StepPlace:
    """As locate(), but passes over, and reports, what is damaged in a run's folder; changes nothing.

    CheckpointError when nothing is whole, or the one step directory that `name` is.
    """
    one = step_directory(name)
    with storage_errors(name):
        if one is not None:
            damage = one.store.first_damage(one.directory)
            if damage is not None:
                raise CheckpointError(f"checkpoint {one.name} is damaged: {damage}; use another step")
            return one
        for place in committed(name):
            damage = place.store.first_damage(place.directory)
            if damage is None:
                return place
            report(f"checkpoint {place.name} is damaged and is not used: {damage}")
    raise CheckpointError(f"no checkpoint in {name} is whole")


def committed(name: str) -> list[StepPlace]:
    """All committed steps in a run's folder, newest first; CheckpointError when there is none."""
    store = _store(name)
    with storage_errors(name):
        markers = [store.marker(step) for step in store.steps()]
    places = [StepPlace(store, marker.directory) for marker in markers if marker]
    if not places:
        raise CheckpointError(
            f"{name} holds no committed checkpoint; give a run's checkpoint.uri or a step directory"
        )
    return places


def _store(uri: str) -> CheckpointStore:
    try:
        return CheckpointStore(uri)
    except ValueError as error:
        raise UserMistake(str(error)) from error


def _whole(name: str) -> str:
    return str(local_path(name).absolute()) if is_local(name) else name.rstrip("/")
