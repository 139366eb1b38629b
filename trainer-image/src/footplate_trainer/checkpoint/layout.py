"""Names in a checkpoint folder, and the rules for their removal; pure.

    step-200.e1g3/         step directory that generation 3 of epoch 1 wrote at step 200
        tensors-0.bin …    each rank's part of the tensors, as bytes
        tensors.json       index of the bytes
        state.json         position, determinism key, metric rows that may not be stored yet, and for a
                           reward model mean and deviation of held-out scores, if they were measured
        run.json           the RunConfig
        tokenizer.json     makes the directory self-contained
        processors/…       chat template, special tokens and similar files that were saved with the weights
                           that the run started from, see docs/decisions/ADR-0038-companions-of-weights.md
        manifest.json      format, writer, bytes and SHA-256 of every other file
    step-200.committed     created exclusively; names the directory that counts
    begun-200.e1g4.UID     generation 4 of run UID started at step 200: later steps that earlier generations
                           had in memory are discarded, see docs/decisions/ADR-0025-where-generations-began.md

Two generations may write the same step, one of them unaware that it has been replaced. Each has its own
directory, and only one gets the marker: a directory without marker does not exist.

Readers ignore what a later release adds to these files. Changes get another format, which the manifest names:
such a checkpoint is refused, and never treated as damaged and removed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Final

from pydantic import Field

from footplate_contracts.base import WireMessage
from footplate_contracts.reports import CheckpointRemoval, GenerationId, RetainedCheckpoint
from footplate_contracts.v1alpha1.types import MOST_STANDING

MANIFEST_FILE: Final = "manifest.json"
STATE_FILE: Final = "state.json"
RUN_FILE: Final = "run.json"
TOKENIZER_FILE: Final = "tokenizer.json"
INDEX_FILE: Final = "tensors.json"
_PROCESSORS: Final = "processors/"

FORMAT: Final = 1  # of all files of a step directory together; 0 before there was a number

_DIRECTORY = re.compile(r"step-(\d+)\.e(\d+)g(\d+)")
_MARKER = re.compile(r"step-(\d+)\.committed")
_BEGUN = re.compile(r"begun-(\d+)\.e(\d+)g(\d+)\.(.*)")


@dataclass(frozen=True)
class StepDirectory:
    """A generation's checkpoint directory of one step."""

    step: int
    epoch: int
    number: int

    @property
    def name(self) -> str:
        """The directory's name in the checkpoint folder."""
        return f"step-{self.step}.e{self.epoch}g{self.number}"

    @property
    def generation(self) -> GenerationId:
        """The generation that wrote it."""
        return GenerationId(epoch=self.epoch, number=self.number)

    @classmethod
    def of(cls, step: int, generation: GenerationId) -> StepDirectory:
        """Return the directory that `generation` writes at `step`."""
        return cls(step, generation.epoch, generation.number)

    @classmethod
    def parse(cls, name: str) -> StepDirectory | None:
        """Parse a directory name; None for any other name."""
        match = _DIRECTORY.fullmatch(name)
        return cls(*map(int, match.groups())) if match else None


@dataclass(frozen=True)
class GenerationStart:
    """Start record of a generation, which discards what older generations trained beyond `step`."""

    step: int
    epoch: int
    number: int
    run: str  # its uid: one that is applied anew counts generations anew

    @property
    def name(self) -> str:
        """The file's name, which contains all fields."""
        return f"begun-{self.step}.e{self.epoch}g{self.number}.{self.run}"

    @property
    def generation(self) -> GenerationId:
        """The generation that started."""
        return GenerationId(epoch=self.epoch, number=self.number)

    @classmethod
    def of(cls, step: int, generation: GenerationId, run: str) -> GenerationStart:
        """Return the start record of `generation` of the run with the uid `run`."""
        return cls(step, generation.epoch, generation.number, run)

    @classmethod
    def parse(cls, name: str) -> GenerationStart | None:
        """Parse a file name; None for any other name."""
        match = _BEGUN.fullmatch(name)
        return cls(int(match[1]), int(match[2]), int(match[3]), match[4]) if match else None

    def discards(self, step: int, generation: GenerationId) -> bool:
        """Return whether this start discarded the state of `step` that an earlier `generation` trained."""
        return self.generation.is_newer_than(generation) and step > self.step


def build_removal(directory: StepDirectory, time: float) -> CheckpointRemoval:
    """Build the report that the checkpoint in `directory` is gone; `time` since the Unix epoch."""
    return CheckpointRemoval(step=directory.step, generation=directory.generation, time=time)


def tensor_file(rank: int) -> str:
    """Return the name of the file with the tensors that `rank` writes."""
    return f"tensors-{rank}.bin"


def processor_file(name: str) -> str:
    """Return the file in the step directory that stores `name` of the folder that the run started from."""
    return _PROCESSORS + name


def processor_name(file: str) -> str | None:
    """Return the name in a path that `processor_file` built; None for any other file."""
    return file.removeprefix(_PROCESSORS) if file.startswith(_PROCESSORS) else None


def marker_name(step: int) -> str:
    """Return the name of the commit marker of `step`."""
    return f"step-{step}.committed"


def marker_step(name: str) -> int | None:
    """Return the step of a commit marker's name; None for any other name."""
    match = _MARKER.fullmatch(name)
    return int(match[1]) if match else None


class CommitMarker(WireMessage):
    """Content of a commit marker."""

    step: int
    directory: str = Field(pattern=r"^step-\d+\.e\d+g\d+$")
    tokens: int
    time: float
    digest: str | None = Field(default=None, description="hex SHA-256 of manifest.json, so of all files")
    validation_loss: float | None = Field(default=None, description="loss of these weights, if measured")

    @property
    def is_validated(self) -> bool:
        """True if it has a finite validation loss that can be compared with others."""
        return self.validation_loss is not None and math.isfinite(self.validation_loss)


class CheckpointFile(WireMessage):
    """A file of a checkpoint directory, with the size and checksum that verify it."""

    file: str
    bytes: int
    sha256: str


class ManifestHeader(WireMessage):
    """The fields of manifest.json that all formats have."""

    format: int = 0
    written_by: str | None = None  # a release; absent in format 0


class Manifest(ManifestHeader):
    """Content of manifest.json in this release's format."""

    files: list[CheckpointFile]


def committed_directory(marker: CommitMarker | None) -> StepDirectory | None:
    """Return the directory that `marker` commits; None for a torn marker."""
    return StepDirectory.parse(marker.directory) if marker else None


@dataclass(frozen=True)
class CheckpointRetention:
    """Rule for which committed steps are retained."""

    keep_last: int
    keep_every: int | None = None
    kept: frozenset[int] = frozenset()  # steps that stay whatever their age

    def select_steps(self, committed: Iterable[CommitMarker]) -> set[int]:
        """Select the newest, multiples of `keep_every`, those in `kept`, and the best by validation loss."""
        known = list(committed)
        newest = sorted((marker.step for marker in known), reverse=True)
        multiples = {step for step in newest if self.keep_every and step % self.keep_every == 0}
        best = find_best(known)
        return {*newest[: self.keep_last], *multiples, *self.kept.intersection(newest)} | (
            {best.step} if best else set()
        )


def find_best(committed: Iterable[CommitMarker]) -> CommitMarker | None:
    """Return the marker with the lowest validation loss, the newest of equals; None where none has a loss."""
    validated = [marker for marker in committed if marker.is_validated]
    return min(validated, key=lambda marker: (marker.validation_loss, -marker.step), default=None)


def list_standing(
    committed: Collection[CommitMarker], retention: CheckpointRetention
) -> list[RetainedCheckpoint]:
    """List the retained checkpoints to report, newest first: the best, `kept` ones, and the newest others.

    At most MOST_STANDING of them.
    """
    kept = retention.select_steps(committed)
    known = sorted((marker for marker in committed if marker.step in kept), key=lambda marker: -marker.step)
    best = find_best(known)
    named = [marker for marker in known if marker is best or marker.step in retention.kept]
    others = [marker for marker in known if marker not in named]
    told = sorted([*named, *others][:MOST_STANDING], key=lambda marker: -marker.step)
    return [
        RetainedCheckpoint(
            step=marker.step,
            generation=directory.generation,
            digest=marker.digest,
            validation_loss=marker.validation_loss,
        )
        for marker in told
        if (directory := committed_directory(marker))
    ]


def removable_directories(
    directories: Iterable[StepDirectory],
    kept: Iterable[StepDirectory],
    writing: GenerationId,
) -> list[StepDirectory]:
    """List the directories that nobody needs, right after `writing` committed.

    Every directory outside `kept` that is not of a newer generation is removable: old steps, losers of a
    commit, remains of generations that died while writing. A later step of `writing` stays: another process
    writes it now, where a run without agent was started twice, and that process removes what is left of it.
    """
    needed = set(kept)
    newest = max((directory.step for directory in needed), default=0)

    def is_ahead(directory: StepDirectory) -> bool:
        return directory.generation.is_newer_than(writing) or (
            directory.generation == writing and directory.step > newest
        )

    return [directory for directory in directories if directory not in needed and not is_ahead(directory)]


def find_superseded(latest: GenerationStart, begun: Iterable[GenerationStart]) -> list[GenerationStart]:
    """List the records of `begun` that `latest` makes redundant."""
    return [
        other
        for other in begun
        if other.run == latest.run  # a rank of another one may have been frozen for long
        and latest.generation.is_newer_than(other.generation)
        and other.step >= latest.step
    ]


def find_outdated(begun: Iterable[GenerationStart], durable: int) -> list[GenerationStart]:
    """List the records of `begun` that a resume from step `durable`, or a later one, does not need.

    States beyond `durable` that these discard are also discarded by a later record below it; no resume reads
    states before it, as the durable state is newer.
    """
    known = list(begun)
    below = [other for other in known if other.step < durable]
    return [
        other
        for other in known
        if any(later.run == other.run and later.generation.is_newer_than(other.generation) for later in below)
    ]
