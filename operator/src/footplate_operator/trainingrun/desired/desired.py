"""The answer of `desire`: what to make, what to take away, what to say."""

from __future__ import annotations

from dataclasses import dataclass

from footplate_contracts.directives import Directives
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator.runtime.children import Child
from footplate_operator.runtime.decision import Decision
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.gang.retire import PodDeletion
from footplate_operator.trainingrun.observed import PodView


@dataclass(frozen=True, kw_only=True)
class Desired(Decision[TrainingRunStatus]):
    """One decision about one run; `changes` are made of it at the edge.

    `children` and `pods` are those that are missing: what exists is never
    written again. `secret` asks the edge for credentials, which need chance.
    """

    secret: bool = False
    children: tuple[Json, ...] = ()
    pods: tuple[Json, ...] = ()
    promoted: tuple[PodView, ...] = ()  # spares that have become these workers: to be labelled so
    pod_deletions: tuple[PodDeletion, ...] = ()
    child_deletions: tuple[Child, ...] = ()
    coordinator: PodView | None = None  # to listen to
    directives: Directives | None = None  # for a coordinator that was told others
    delete_run: bool = False


def soonest(*waits: float | None) -> float | None:
    """The shortest of the waits that there are."""
    known = [wait for wait in waits if wait is not None]
    return min(known) if known else None
