"""Names in a checkpoint folder, and which of them may go; pure.

    step-200.e1g3/         what generation 3 of epoch 1 wrote at step 200
        tensors-0.bin …    each rank's part of the tensors, as bytes
        tensors.json       which bytes are what
        state.json         position, determinism key, rows of the history that may not be stored yet, and
                           of a reward model mean and deviation of held-out scores, if they were taken
        run.json           the RunConfig
        tokenizer.json     so that the directory stands alone
        companions/…       chat template, special tokens and the like: what lay beside the weights that the
                           run began with, see docs/decisions/ADR-0038-companions-of-weights.md
        manifest.json      format, who wrote it, bytes and SHA-256 of every other file
    step-200.committed     created exclusively; names the directory that counts
    begun-200.e1g4.UID     generation 4 of run UID began with step 200: what older ones had in memory beyond
                           it was given up, see docs/decisions/ADR-0025-where-generations-began.md

Two generations may write the same step, one of them without knowing that it has
been replaced. Each has its own directory, and only one gets the marker: a
directory without marker does not exist.

What a later release adds to these files is passed over. What it changes gets another format,
which the manifest names: such a checkpoint is refused, and never taken for damaged and removed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from footplate_contracts.model import Report
from footplate_contracts.reports import CheckpointRemoval, GenerationId, StandingCheckpoint
from footplate_contracts.v1alpha1.types import MOST_STANDING

MANIFEST_FILE: Final = "manifest.json"
STATE_FILE: Final = "state.json"
RUN_FILE: Final = "run.json"
TOKENIZER_FILE: Final = "tokenizer.json"
INDEX_FILE: Final = "tensors.json"
_COMPANIONS: Final = "companions/"

FORMAT: Final = 1  # of all files of a step directory together; 0 before there was a number

_DIRECTORY = re.compile(r"step-(\d+)\.e(\d+)g(\d+)")
_MARKER = re.compile(r"step-(\d+)\.committed")
_BEGUN = re.compile(r"begun-(\d+)\.e(\d+)g(\d+)\.(.*)")


@dataclass(frozen=True)
class StepDirectory:
    """One generation's checkpoint of one step."""

    step: int
    epoch: int
    number: int

    @property
    def name(self) -> str:
        """The directory's name in the checkpoint folder."""
        return f"step-{self.step}.e{self.epoch}g{self.number}"

    @property
    def generation(self) -> GenerationId:
        """Who wrote it."""
        return GenerationId(epoch=self.epoch, number=self.number)

    @classmethod
    def of(cls, step: int, generation: GenerationId) -> StepDirectory:
        """The directory that `generation` writes at `step`."""
        return cls(step, generation.epoch, generation.number)

    @classmethod
    def parse(cls, name: str) -> StepDirectory | None:
        """The inverse of `name`; None for anything else."""
        match = _DIRECTORY.fullmatch(name)
        return cls(*map(int, match.groups())) if match else None


@dataclass(frozen=True)
class Begun:
    """A generation began with `step`: of what older ones had trained, nothing beyond that exists any more."""

    step: int
    epoch: int
    number: int
    run: str  # its uid: one that is applied anew counts generations anew

    @property
    def name(self) -> str:
        """The file's name, which says all of it."""
        return f"begun-{self.step}.e{self.epoch}g{self.number}.{self.run}"

    @property
    def generation(self) -> GenerationId:
        """Who began."""
        return GenerationId(epoch=self.epoch, number=self.number)

    @classmethod
    def of(cls, step: int, generation: GenerationId, run: str) -> Begun:
        """What `generation` of the run with the uid `run` began with."""
        return cls(step, generation.epoch, generation.number, run)

    @classmethod
    def parse(cls, name: str) -> Begun | None:
        """The inverse of `name`; None for anything else."""
        match = _BEGUN.fullmatch(name)
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None

    def gives_up(self, step: int, generation: GenerationId) -> bool:
        """Whether the state of `step` that an earlier `generation` trained was given up by this beginning."""
        return self.generation.newer_than(generation) and step > self.step


def removal_of(directory: StepDirectory, time: float) -> CheckpointRemoval:
    """What the run is told when the checkpoint in `directory` is gone; `time` since the Unix epoch."""
    return CheckpointRemoval(step=directory.step, generation=directory.generation, time=time)


def tensor_file(rank: int) -> str:
    """The file of the tensors that `rank` writes."""
    return f"tensors-{rank}.bin"


def companion_file(name: str) -> str:
    """The file that keeps `name` of the folder that a run began with."""
    return _COMPANIONS + name


def companion_name(file: str) -> str | None:
    """The inverse of companion_file; None for anything else."""
    return file.removeprefix(_COMPANIONS) if file.startswith(_COMPANIONS) else None


def marker_name(step: int) -> str:
    """Name of the commit marker of `step`."""
    return f"step-{step}.committed"


def marker_step(name: str) -> int | None:
    """The inverse of marker_name; None for anything else."""
    match = _MARKER.fullmatch(name)
    return int(match[1]) if match else None


class CommitMarker(Report):
    """Content of a commit marker."""

    step: int
    directory: str = Field(pattern=r"^step-\d+\.e\d+g\d+$")
    tokens: int
    time: float
    digest: str | None = Field(default=None, description="hex SHA-256 of manifest.json, and so of all files")
    validation_loss: float | None = Field(default=None, description="of just these weights, if it was taken")

    @property
    def is_validated(self) -> bool:
        """Whether it can be compared with others by its validation loss."""
        return self.validation_loss is not None and math.isfinite(self.validation_loss)


class CheckpointFile(Report):
    """A file of a checkpoint directory, with what proves it whole."""

    file: str
    bytes: int
    sha256: str


class ManifestHeader(Report):
    """What manifest.json says in every format."""

    format: int = 0
    written_by: str | None = None  # a release; absent in format 0


class Manifest(ManifestHeader):
    """manifest.json in the format of this release."""

    files: list[CheckpointFile]


def directory_of(marker: CommitMarker | None) -> StepDirectory | None:
    """What `marker` commits; None for a torn one, which does not say."""
    return StepDirectory.parse(marker.directory) if marker else None


@dataclass(frozen=True)
class Retention:
    """Which committed steps stay."""

    keep_last: int
    keep_every: int | None = None
    kept: frozenset[int] = frozenset()  # steps that stay whatever their age

    def of(self, committed: Iterable[CommitMarker]) -> set[int]:
        """The newest, multiples of `keep_every`, those in `kept`, and the best by validation loss."""
        known = list(committed)
        newest = sorted((marker.step for marker in known), reverse=True)
        multiples = {step for step in newest if self.keep_every and step % self.keep_every == 0}
        best = best_of(known)
        return {*newest[: self.keep_last], *multiples, *self.kept.intersection(newest)} | (
            {best.step} if best else set()
        )


def best_of(committed: Iterable[CommitMarker]) -> CommitMarker | None:
    """The one with the lowest validation loss, of equal ones the newest; None where none has a loss."""
    validated = [marker for marker in committed if marker.is_validated]
    return min(validated, key=lambda marker: (marker.validation_loss, -marker.step), default=None)


def standing(committed: Collection[CommitMarker], retention: Retention) -> list[StandingCheckpoint]:
    """What a run is told of the checkpoints that stay, newest first: the best and `kept` ones anyway."""
    kept = retention.of(committed)
    known = sorted((marker for marker in committed if marker.step in kept), key=lambda marker: -marker.step)
    best = best_of(known)
    named = [marker for marker in known if marker is best or marker.step in retention.kept]
    others = [marker for marker in known if marker not in named]
    told = sorted([*named, *others][:MOST_STANDING], key=lambda marker: -marker.step)
    return [
        StandingCheckpoint(
            step=marker.step,
            generation=directory.generation,
            digest=marker.digest,
            validation_loss=marker.validation_loss,
        )
        for marker in told
        if (directory := directory_of(marker))
    ]


def removable_directories(
    directories: Iterable[StepDirectory],
    kept: Iterable[StepDirectory],
    writing: GenerationId,
) -> list[StepDirectory]:
    """Directories that nobody needs, seen right after `writing` committed.

    Whatever stands outside `kept` and is not of a newer generation goes: old
    steps, losers of a commit, remains of generations that died while writing.
    A later step of `writing` stays: another process writes it now, where a run
    without agent was started twice, and its own clears what is left of it.
    """
    needed = set(kept)
    newest = max((directory.step for directory in needed), default=0)

    def is_ahead(directory: StepDirectory) -> bool:
        return directory.generation.newer_than(writing) or (
            directory.generation == writing and directory.step > newest
        )

    return [directory for directory in directories if directory not in needed and not is_ahead(directory)]


def superseded_by(latest: Begun, begun: Iterable[Begun]) -> list[Begun]:
    """Those of `begun` that say nothing which `latest` does not say."""
    return [
        other
        for other in begun
        if other.run == latest.run  # a rank of another one may have been frozen for long
        and latest.generation.newer_than(other.generation)
        and other.step >= latest.step
    ]


def outdated(begun: Iterable[Begun], durable: int) -> list[Begun]:
    """Those of `begun` that nobody needs who can resume from step `durable`, or a later one.

    What they give up beyond `durable` a later beginning below it gives up, too; what they give up before
    is not looked at, as the durable state is newer.
    """
    known = list(begun)
    below = [other for other in known if other.step < durable]
    return [
        other
        for other in known
        if any(later.run == other.run and later.generation.newer_than(other.generation) for later in below)
    ]
