"""What a decision asks the machinery to do, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from footplate_contracts.names import Reason
from footplate_operator.runtime.events import Event
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Child, StatusT


@dataclass(frozen=True)
class Create:
    """Make a child that is missing. One that exists is never written again."""

    manifest: Json
    needed: bool = True  # by what is made in later groups


@dataclass(frozen=True)
class Delete:
    """Delete a child, and no other of its name; `grace` in seconds, None for its own."""

    child: Child
    grace: int | None = None


@dataclass(frozen=True)
class Patch:
    """Merge `patch` into a child; one that is gone meanwhile is passed over."""

    child: Child
    patch: Json
    verb: str  # for the log
    otherwise: Delete | None = None  # where the API server refuses the patch


@dataclass(frozen=True)
class Replace:
    """Delete a child that is not as it was made, and make it anew."""

    child: Child
    manifest: Json


Change = Create | Patch | Delete | Replace


@dataclass(frozen=True, kw_only=True)
class Decision(Generic[StatusT]):
    """One decision about one object.

    `changes` are made group after group, those of a group at the same time. One
    that is refused holds back nothing but, where it would have made what is
    `needed`, what is made in later groups. `told`: Events
    that go with them, once they are made. `requeue_after`: seconds after which to decide
    anew without news.
    """

    status: StatusT
    changes: tuple[tuple[Change, ...], ...] = ()
    told: tuple[Event, ...] = ()
    requeue_after: float | None = None


@dataclass(frozen=True)
class Problem:
    """Why the last attempt to act failed."""

    reason: Reason
    message: str
    final: bool = False  # trying again cannot help
    passing: bool = False  # it may be over in a moment: nothing is said of it yet
    waiting: bool = False  # for another object, as the spec asks: nothing is wrong
