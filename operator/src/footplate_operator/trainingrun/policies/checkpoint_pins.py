"""Chooses the checkpoints that a run retains for other runs that wait for them, or began from them.

A run that trains removes old checkpoints. So its ranks receive these steps like marks, and its status
lists the follower of each: a waiting run gets nothing from a run that still trains before it is listed there,
and an operator that has just started forgets none of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.v1alpha1.references import (
    MOST_FOLLOWERS,
    DependentRun,
    LineageEntry,
    ReferenceField,
)
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.trainingrun.policies.reference_check import path_of
from footplate_operator.trainingrun.policies.reference_resolution import (
    MOST_KEPT_FOR_OTHERS,
    Reference,
    resolve,
    wanted_steps,
)
from footplate_operator.trainingrun.run import Run


@dataclass(frozen=True)
class ReferencingRun:
    """Run that has not ended, and names another one."""

    run: Run
    named: Mapping[ReferenceField, Reference]
    lineage: Sequence[LineageEntry]  # as far as it is resolved

    @property
    def unresolved_references(self) -> dict[ReferenceField, Reference]:
        """References that are not resolved."""
        resolved = {entry.field for entry in self.lineage}
        return {field: reference for field, reference in self.named.items() if field not in resolved}


@dataclass(frozen=True)
class UnreadableRun:
    """Run that this release cannot decode, spec or status: it may train on untouched."""

    uid: str


def build_followers(other: Run, naming: Sequence[ReferencingRun | UnreadableRun]) -> list[DependentRun]:
    """Return the runs for which `other` keeps checkpoints, and which, in the order of their first listing.

    A run that finds no room is listed without steps, or not at all, and waits. An unreadable run stays as it
    is listed.
    """
    before = {follower.uid: follower for follower in other.status.followers or ()}
    wanted = [found for known in naming if (found := _wanted(other, known, before)) is not None]

    def order(follower: DependentRun) -> tuple[bool, bool, str]:
        """Sort followers with retained steps first, then those that want steps, then the others, by name."""
        known = before.get(follower.uid)
        stands = known is not None and bool(known.steps) and bool(follower.steps)
        return not stands, not follower.steps, follower.name

    kept: set[int] = set()
    listed: list[DependentRun] = []
    for follower in sorted(wanted, key=order)[:MOST_FOLLOWERS]:
        if len(kept.union(follower.steps)) > MOST_KEPT_FOR_OTHERS:
            follower = follower.model_copy(update={"steps": []})
        kept.update(follower.steps)
        listed.append(follower)
    return listed


def select_followers(
    run: Run, wanted: Sequence[DependentRun], state: CoordinatorState, *, has_workers: bool
) -> list[DependentRun]:
    """Return the `wanted` followers to list in the status of `run`, with the steps that it already retains.

    While it trains, a step is listed once its coordinator, in this `state`, has the directive to retain it:
    from then on its ranks receive it before they save again. A follower that wants steps is not listed before
    one of them is.

    A run that is Queued or Suspended, maybe for hours, has no coordinator to confirm: once all its
    workers have ended (not `has_workers`), none can remove anything, and its next coordinator receives all.
    Until then a run whose suspension did not wait for its checkpoint may save once more.
    """
    at_rest = not run.has_gang and not has_workers
    if run.ended is not None or at_rest:
        return list(wanted)
    limits = state.directives.limits if state.directives is not None else None
    told = set(limits.kept_steps or ()) if limits is not None else set()
    before = {follower.uid: set(follower.steps) for follower in run.status.followers or ()}
    found = []
    for follower in wanted:
        steps = [step for step in follower.steps if step in told | before.get(follower.uid, set())]
        if steps or not follower.steps:
            found.append(follower.model_copy(update={"steps": steps}))
    return found


def is_awaited(other: Run, naming: Sequence[ReferencingRun | UnreadableRun]) -> bool:
    """Return whether `other`, which has ended, may still resolve a reference of a waiting run."""
    answers = (
        resolve(follower.run, field, reference, other)
        for follower in naming
        if isinstance(follower, ReferencingRun)
        for field, reference in follower.unresolved_references.items()
        if reference.name == other.name
    )
    return any(not isinstance(answer, ReconcileProblem) or answer.waiting for answer in answers)


def _wanted(
    other: Run, follower: ReferencingRun | UnreadableRun, before: Mapping[str, DependentRun]
) -> DependentRun | None:
    """Return the entry for `follower`; None if it cannot be decoded and is not listed `before`."""
    if isinstance(follower, UnreadableRun):
        return before.get(follower.uid)
    steps = sorted(_steps(other, follower))
    return DependentRun(name=follower.run.name, uid=follower.run.uid, steps=steps)


def _steps(other: Run, follower: ReferencingRun) -> set[int]:
    folder = path_of(other.spec.checkpoint.uri) + "/"
    # By the folder, and not by the uid: one that is created anew may go on in it, and removes there.
    steps = {
        entry.step
        for entry in follower.lineage
        if entry.run == other.name and entry.step is not None and path_of(entry.uri).startswith(folder)
    }
    for reference in follower.unresolved_references.values():
        if reference.name == other.name:
            steps |= wanted_steps(reference, other)
    return steps
