"""Revisions: the resolved profile and all defaults, frozen when a run is admitted.

A profile that an administrator edits, or an operator that is upgraded, must not
give the substitute of a lost pod another image or another batch than its
neighbours have. So the operator writes a worker's parts once, to a
ControllerRevision owned by the run, and only a resumption makes a new one. Settings that
may change while ranks train reach them through the coordinator instead.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final
from weakref import WeakValueDictionary

from pydantic import ValidationError

from footplate_contracts.base import Contract, digest, first_error
from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.lineage import run_references
from footplate_contracts.names import WRITTEN_BY_ANNOTATION, LogFormat, Phase, config_map_name, revision_name
from footplate_contracts.runconfig import RunConfig, RunIdentity, World, resolve
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.pods import PullPolicy
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import unreadable_message
from footplate_operator.trainingrun.directives import live_fields
from footplate_operator.trainingrun.run import Run

_IN_SPEC: Final = {"world": "compute", "hang": "resilience.hang"}  # what RunConfig calls otherwise


class Defaults(Contract):
    """Defaults of the installation for fields that a run does not set."""

    trainer_image: str
    coordinator_image: str
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    coordinator_image_pull_policy: PullPolicy | None = None  # None: the same
    api_url: str = ""
    log_format: LogFormat | None = None  # None: the usual one
    network_policy: bool | None = None  # None: an earlier operator made none, or none is wanted
    run_key: str | None = None  # of which the credentials are; None: an earlier operator made them
    image_pull_secrets: list[str] | None = None  # names; None: none


# By their text, as long as a revision has them.
_PROFILES: Final = WeakValueDictionary[str, ComputeProfileSpec]()


class RevisionData(Contract):
    """`data` of a ControllerRevision of ours."""

    profile_name: str
    profile: ComputeProfileSpec
    defaults: Defaults
    config: RunConfig


@dataclass(frozen=True)
class Revision:
    """Frozen state of a run and its number, from 1."""

    number: int
    frozen: RevisionData
    written_by: str = ""  # version of the operator
    packed: bytes = field(default=b"", compare=False)  # the `data` that it was read from; empty: it is new

    def name(self, run: str) -> str:
        """Return the name of its ControllerRevision."""
        return revision_name(run, self.number)

    @property
    def written(self) -> Json:
        """`data` that it was read from; empty if it is new. Few read it, and each live run has it."""
        unpacked: Json = json.loads(zlib.decompress(self.packed)) if self.packed else {}
        return unpacked

    @property
    def config(self) -> Json:
        """RunConfig as ranks read it: a substitute gets the config of its peers, whoever froze it.

        Fields that another release left out, or added to those that this one reads, stay as they are: the
        digest of this is in the name of the ConfigMap that pods mount.
        """
        read = self.frozen.config.to_json()
        config: Json = _as_written(read, self.written["config"]) if self.packed else read
        return config

    def config_map(self, run: str) -> str:
        """Return the name of its ConfigMap."""
        return config_map_name(run, self._digest)

    @property
    def run_key(self) -> str | None:
        """Identifier of the key that the run's credentials derive from; None from an earlier operator."""
        return self.frozen.defaults.run_key

    @cached_property
    def _digest(self) -> str:
        return digest(self.config)


@dataclass(frozen=True)
class UnreadableRevision:
    """Frozen state of another release, which this one cannot read."""

    number: int
    written_by: str  # version of the operator; empty where it did not say
    error: str
    run_key: str | None = None  # as far as that can be read

    def name(self, run: str) -> str:
        """Return the name of its ControllerRevision."""
        return revision_name(run, self.number)

    def problem(self, run: str) -> str:
        """Return a message for the administrator who installed this release over that one."""
        return unreadable_message(f"ControllerRevision {self.name(run)}", self.written_by, self.error)


@dataclass(frozen=True)
class MissingRevision:
    """Frozen state that does not exist, of a run that may have pods."""

    named: str  # by the status; empty where that names none

    def problem(self, run: str) -> str:
        """Return a message for the person who can restore it."""
        lost = f"ControllerRevision {self.named} is missing" if self.named else "its status names no revision"
        return (
            f"{lost}: the templates of its pods are unknown, so nothing is created or deleted; restore it"
            " from a backup, or delete and recreate the run: it continues from its newest checkpoint"
        )


AnyRevision = Revision | UnreadableRevision


def view_revision(body: Json) -> AnyRevision:
    """Decode the revision in a ControllerRevision; raise ValueError for an object that is none of ours."""
    number = int(str(body["metadata"]["name"]).rpartition("-")[2])
    written_by = body["metadata"].get("annotations", {}).get(WRITTEN_BY_ANNOTATION, "")
    data = body.get("data", {})
    try:
        if body.get("revision") != number:
            raise RevisionNumberError(f"revision: must be {number}, not {body.get('revision', 'nothing')!r}")
        frozen = RevisionData.from_any_release(data)
        # Most runs have one profile.
        profile = _PROFILES.setdefault(json.dumps(data["profile"], sort_keys=True), frozen.profile)
        packed = zlib.compress(json.dumps(data).encode())
        return Revision(number, frozen.model_copy(update={"profile": profile}), written_by, packed)
    except (ValidationError, RevisionNumberError) as error:
        said = first_error(error) if isinstance(error, ValidationError) else str(error)
        return UnreadableRevision(number, written_by, said, _run_key(data))


class RevisionNumberError(Exception):
    """ControllerRevision whose number differs from its name's."""


def _run_key(data: Any) -> str | None:
    """Return the key identifier of an unreadable revision, by which the operator can poll its coordinator."""
    defaults = data.get("defaults") if isinstance(data, dict) else None
    key = defaults.get("runKey") if isinstance(defaults, dict) else None
    return key if isinstance(key, str) else None


def _as_written(read: Any, written: Any) -> Any:
    """Return `written` with numbers as in `read`: the API server returns 3.0 as 3."""
    if isinstance(read, dict) and isinstance(written, dict):
        return {name: _as_written(read.get(name, value), value) for name, value in written.items()}
    if isinstance(read, list) and isinstance(written, list) and len(read) == len(written):
        return [_as_written(*pair) for pair in zip(read, written, strict=True)]
    return read if read == written else written


def needs_admission(run: Run, suspend: bool) -> bool:
    """Return whether `run` takes the profile as it is now, rather than the frozen one."""
    if run.phase is Phase.SUSPENDED:
        return not suspend
    return not run.has_gang


def find_revision(run: Run, revisions: Sequence[AnyRevision]) -> AnyRevision | None:
    """Return the revision that the status names; None if it does not exist."""
    named = (revision for revision in revisions if revision.name(run.name) == run.status.revision)
    return next(named, None)


def frozen_lineage(run: Run, revisions: Sequence[AnyRevision]) -> list[LineageEntry] | None:
    """Return the resolved lineage of the runs that the spec names; None while it is not resolved."""
    fields = run_references(run.spec).keys()
    newest = max(revisions, key=lambda revision: revision.number, default=None)
    frozen = newest.frozen.config.lineage if isinstance(newest, Revision) else None
    for lineage in (frozen or [], run.status.lineage or []):
        if fields == {entry.field for entry in lineage}:
            return lineage
    return None


def admit(
    run: Run,
    profile: ComputeProfileSpec,
    defaults: Defaults,
    revisions: Sequence[AnyRevision],
    version: str,
    lineage: Sequence[LineageEntry] = (),
) -> Revision:
    """Return the revision that a run starts with: the newest if nothing has changed, else a new one.

    Args:
        version: of this operator, which is written to a new revision.
        lineage: entries for the other runs that the spec names.

    Raises ValueError if spec and profile cannot be resolved to a RunConfig.
    """
    frozen = RevisionData(
        profile_name=run.spec.compute.profile,
        profile=profile,
        defaults=defaults,
        config=resolved_config(run, profile, lineage),
    )
    newest = max(revisions, key=lambda revision: revision.number, default=None)
    if isinstance(newest, Revision) and newest.frozen == frozen and newest.config == frozen.config.to_json():
        return newest
    return Revision(newest.number + 1 if newest else 1, frozen, version)


def list_pending_fields(run: Run, frozen: RevisionData, state: CoordinatorState) -> list[str]:
    """Return the spec fields that ranks read, and that differ from the frozen ones."""
    wanted = resolved_config(run, frozen.profile, frozen.config.lineage or ())
    if wanted == frozen.config:
        return []
    before, after = _fields(frozen.config.to_json()), _fields(wanted.to_json())
    changed = (name for name in {**before, **after} if before.get(name) != after.get(name))
    return [name for name in changed if name not in live_fields(state)]


def _fields(config: Json) -> dict[str, object]:
    """Return the members of a RunConfig by their path in a spec, two levels deep."""
    spec: Json = {_IN_SPEC.get(name, name): value for name, value in config.items()}
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in spec.items()}
    return {
        f"{name}.{field}".rstrip("."): value for name, part in parts.items() for field, value in part.items()
    }


def resolved_config(run: Run, profile: ComputeProfileSpec, lineage: Sequence[LineageEntry] = ()) -> RunConfig:
    """Resolve the RunConfig of this spec on nodes of `profile`, with `lineage` for the runs that it names."""
    compute = run.spec.compute
    world = World(
        nodes=compute.nodes,
        min_nodes=compute.min_nodes,
        max_nodes=compute.max_nodes,
        processes_per_node=compute.processes_per_node or profile.processes_per_node,
        backend=profile.backend,
        peak_tflops=profile.gpu.peak_tflops if profile.gpu else None,
    )
    identity = RunIdentity(name=run.name, namespace=run.namespace, uid=run.uid)
    return resolve(run.spec, identity, world, lineage)
