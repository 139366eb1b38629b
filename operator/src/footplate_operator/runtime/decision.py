"""Changes that a decision requests of the machinery, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from footplate_contracts.names import Reason
from footplate_operator.runtime.events import ObjectEvent
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Child, StatusT


@dataclass(frozen=True)
class Create:
    """Creation of a missing child. An existing one is never written again."""

    manifest: Json
    needed: bool = True  # by what is made in later groups


@dataclass(frozen=True)
class Delete:
    """Deletion of a child, by uid; `grace` in seconds, None for the child's own."""

    child: Child
    grace: int | None = None


@dataclass(frozen=True)
class Patch:
    """Merge patch of a child; one that is gone meanwhile is skipped."""

    child: Child
    patch: Json
    verb: str  # for the log
    otherwise: Delete | None = None  # where the API server refuses the patch


@dataclass(frozen=True)
class Replace:
    """Deletion and new creation of a child that differs from its manifest."""

    child: Child
    manifest: Json


Change = Create | Patch | Delete | Replace


@dataclass(frozen=True, kw_only=True)
class Decision(Generic[StatusT]):
    """A decision about an object.

    `changes` are applied group after group, those of a group at the same time. A refused change blocks
    nothing, except that a refused creation marked `needed` blocks the creations in later groups. `told`:
    Events that go with the changes, once they are applied. `requeue_after`: seconds after which to decide
    anew without news.
    """

    status: StatusT
    changes: tuple[tuple[Change, ...], ...] = ()
    told: tuple[ObjectEvent, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True)
class ReconcileProblem:
    """The reason for which the last attempt to act failed."""

    reason: Reason
    message: str
    final: bool = False  # trying again cannot help
    passing: bool = False  # it may be over in a moment: nothing is said of it yet
    waiting: bool = False  # for another object, as the spec asks: nothing is wrong
