"""The resolved profile and all defaults, frozen when a run is admitted.

A profile that an administrator edits, or an operator that is upgraded, must not
give the substitute of a lost pod another image or another batch than its
neighbours have. So what workers are made of is written down once, in a
ControllerRevision owned by the run, and only a resumption makes a new one. What
may change while ranks train reaches them through the coordinator instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from footplate_contracts.model import Contract
from footplate_contracts.names import LogFormat, Phase, revision_name
from footplate_contracts.reports import CoordinatorState, HangCommand, SizeCommand, TermsCommand
from footplate_contracts.runconfig import RunConfig, RunIdentity, World, model_of, resolve, resolve_steps
from footplate_contracts.v1alpha1.compute import Hang
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.pods import PullPolicy
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.observed import heard
from footplate_operator.trainingrun.run import Run

_IN_SPEC: Final = {"world": "compute", "hang": "resilience.hang"}  # what RunConfig calls otherwise
# The coordinator is told of size and hangs, and tells the ranks of length and checkpoints; the operator
# keeps the deadline.
_AT_ONCE: Final = frozenset(
    {
        "compute.nodes",
        "compute.minNodes",
        "compute.maxNodes",
        "resilience.hang.factor",
        "resilience.hang.floorSeconds",
        "checkpoint.emergencyDeadlineSeconds",
    }
)
_TERMS: Final = frozenset(
    {
        "training.steps",
        "training.tokens",
        "checkpoint.everySteps",
        "checkpoint.keepLast",
        "checkpoint.keepEverySteps",
    }
)


class Defaults(Contract):
    """What the installation says where a run says nothing."""

    trainer_image: str
    coordinator_image: str
    image_pull_policy: PullPolicy = PullPolicy.IF_NOT_PRESENT
    api_url: str = ""
    log_format: LogFormat | None = None  # None: the usual one


class Frozen(Contract):
    """The `data` of a ControllerRevision of ours."""

    profile_name: str
    profile: ComputeProfileSpec
    defaults: Defaults
    config: RunConfig

    def digest(self) -> str:
        """Hex SHA-256 of the canonical JSON."""
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Revision:
    """One frozen state and its number, from 1."""

    number: int
    frozen: Frozen

    def name(self, run: str) -> str:
        """Name of its ControllerRevision."""
        return revision_name(run, self.number)


def view_revision(body: Json) -> Revision:
    """The revision in a ControllerRevision; raises pydantic.ValidationError for one of another release."""
    return Revision(number=int(body["revision"]), frozen=Frozen.from_json(body["data"]))


def needs_admission(phase: Phase | None, suspend: bool) -> bool:
    """Whether a run in `phase` takes the profile as it is now, rather than the frozen one."""
    if phase is Phase.SUSPENDED:
        return not suspend
    return phase in (None, Phase.QUEUED)


def in_force(run: Run, revisions: Sequence[Revision]) -> Revision | None:
    """The revision that the status names, or the newest; None where there is none."""
    for revision in revisions:
        if revision.name(run.name) == run.status.revision:
            return revision
    return max(revisions, key=lambda revision: revision.number, default=None)


def admit(
    run: Run, profile: ComputeProfileSpec, defaults: Defaults, revisions: Sequence[Revision]
) -> Revision:
    """The revision that a run starts with: the newest if nothing has changed, else the next number.

    Raises ValueError where spec and profile cannot be resolved to a RunConfig.
    """
    frozen = Frozen(
        profile_name=run.spec.compute.profile,
        profile=profile,
        defaults=defaults,
        config=resolved_config(run, profile),
    )
    newest = max(revisions, key=lambda revision: revision.number, default=None)
    if newest is not None and newest.frozen.digest() == frozen.digest():
        return newest
    return Revision(number=newest.number + 1 if newest else 1, frozen=frozen)


def size(run: Run) -> SizeCommand:
    """How many nodes the run should have now, and how few may go on: both change while it trains."""
    return SizeCommand(nodes=run.spec.compute.nodes, min_nodes=run.spec.compute.min_nodes)


def hang(run: Run) -> HangCommand:
    """When a standstill is a hang now; this changes while the run trains, too."""
    asked = run.spec.resilience.hang or Hang()
    return HangCommand(factor=asked.factor, floor_seconds=asked.floor_seconds)


def terms(run: Run) -> TermsCommand:
    """How long the run should train and how often save; both change while it trains.

    Raises ValueError for a spec that says neither, or has no model: admission refuses it first.
    """
    kept = run.spec.checkpoint
    return TermsCommand(
        steps=resolve_steps(run.spec.training, model_of(run.spec).context_length),
        every_steps=kept.every_steps,
        keep_last=kept.keep_last,
        keep_every_steps=kept.keep_every_steps,
    )


def new_size(run: Run, state: CoordinatorState) -> SizeCommand | None:
    """The size that the coordinator should be told of; None where it knows, or nobody is heard."""
    wanted = size(run)
    return wanted if heard(state) and state.size != wanted else None


def new_hang(run: Run, state: CoordinatorState) -> HangCommand | None:
    """What the coordinator should hold to be a hang; None where it does, or nobody is heard."""
    wanted = hang(run)
    return wanted if state.hang not in (None, wanted) else None


def new_terms(run: Run, state: CoordinatorState) -> TermsCommand | None:
    """Length and checkpoints that the coordinator should be told of; None where it knows them."""
    wanted = terms(run)
    return wanted if state.terms not in (None, wanted) else None


def size_refusal(run: Run, state: CoordinatorState) -> str:
    """Why the coordinator cannot have the size that the spec asks for now; empty where it can."""
    return state.size_refused if state.size == size(run) else ""


def length_refusal(run: Run, state: CoordinatorState) -> str:
    """Why the run cannot have the length that the spec asks for now; empty where it can."""
    return state.terms_refused if state.terms == terms(run) else ""


def terms_to_begin_with(run: Run) -> TermsCommand:
    """The terms for a coordinator that has not heard yet how far the ranks are.

    What was refused as lying in the past must not come into force with it.
    """
    wanted, progress = terms(run), run.status.progress
    if progress is None or wanted.steps >= progress.step:
        return wanted
    return wanted.model_copy(update={"steps": max(progress.total_steps, progress.step)})


def not_in_force(run: Run, frozen: Frozen, state: CoordinatorState) -> list[str]:
    """Fields of the spec that ranks read, and that say something else than when they were frozen.

    A coordinator of an earlier release, which a run keeps until it is resumed, tells no terms.
    """
    before = _fields(frozen.config.to_json())
    after = _fields(resolved_config(run, frozen.profile).to_json())
    changed = (name for name in {**before, **after} if before.get(name) != after.get(name))
    deaf = heard(state) and state.terms is None
    at_once = _AT_ONCE if deaf else _AT_ONCE | _TERMS
    return [name for name in changed if name not in at_once]


def _fields(config: Json) -> dict[str, object]:
    """The members of a RunConfig by their path in a spec, two levels deep."""
    spec: Json = {_IN_SPEC.get(name, name): value for name, value in config.items()}
    parts = {name: value if isinstance(value, dict) else {"": value} for name, value in spec.items()}
    return {
        f"{name}.{field}".rstrip("."): value for name, part in parts.items() for field, value in part.items()
    }


def resolved_config(run: Run, profile: ComputeProfileSpec) -> RunConfig:
    """The RunConfig of this spec on nodes of `profile`."""
    compute = run.spec.compute
    world = World(
        nodes=compute.nodes,
        min_nodes=compute.min_nodes,
        max_nodes=compute.max_nodes,
        processes_per_node=compute.processes_per_node or profile.processes_per_node,
        backend=profile.backend,
        peak_tflops=profile.gpu.peak_tflops if profile.gpu else None,
    )
    return resolve(run.spec, RunIdentity(name=run.name, namespace=run.namespace, uid=run.uid), world)
