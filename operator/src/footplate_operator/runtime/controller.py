"""The interface between the machinery and a kind.

A kind is a folder, and this is its only entry: what is watched, how an object is decoded and observed, what
should exist and what is reported. Queue, cache, actor and status writer see nothing else of it, so a second
kind is a second subclass. As in controller-runtime, each controller has a queue of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from footplate_operator.runtime.controller_hooks import ControllerHooks, ObjectT
from footplate_operator.runtime.decision import Decision, ReconcileProblem
from footplate_operator.runtime.events import ObjectEvent
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Child, Key

ObservedT = TypeVar("ObservedT")
DecisionT = TypeVar("DecisionT", bound=Decision[Any])


@dataclass(frozen=True)
class OwnedKind:
    """A kind of children. Kinds that are not watched are listed now and then.

    Objects of an `unread` kind the operator may create and delete, but not read: garbage collection removes
    them, and to create one is to replace the object with its name.
    """

    kind: Kind
    unread: bool = False
    watched: bool = False
    patched: bool = False
    lingers: bool = False  # one that was deleted is there for a while still, as a pod that ends
    purge_grace: int | None = None  # seconds that a child has once its owner is deleted; None: its own


def list_watched(owns: Iterable[OwnedKind]) -> list[Kind]:
    """Return the kinds of children that are watched."""
    return [owned.kind for owned in owns if owned.watched]


def is_unread(owns: Iterable[OwnedKind], kind: Kind) -> bool:
    """Return whether the operator does not read children of this kind."""
    return any(owned.kind == kind and owned.unread for owned in owns)


def lingers(owns: Iterable[OwnedKind], kind: Kind) -> bool:
    """Return whether children of this kind exist for a while after their deletion."""
    return any(owned.kind == kind and owned.lingers for owned in owns)


class Controller(Generic[ObjectT, ObservedT, DecisionT]):
    """Controller of one kind; a subclass writes the first three methods, and others that it needs.

    The operator's rights follow from the attributes (`tools/rights.py`).

    Children carry `uid_label` with the uid of their owner, and MANAGED_BY_LABEL. So do children of a child
    that controls objects itself, as a Job does; its kind comes before theirs in `owns`. `parameters` are
    cluster-scoped kinds that many objects read; so are `hints`, without which the controller works where it
    may not watch them. Consequences of a change to the `patient` ones among them can wait.
    """

    kind: Kind
    noun: str  # what logs call an object of this kind
    uid_label: str
    owns: Sequence[OwnedKind]
    parameters: Sequence[Kind] = ()
    hints: Sequence[Kind] = ()
    patient: Sequence[Kind] = ()
    lists: Sequence[Kind] = ()  # kinds in its objects' namespaces that it lists now and then
    expires: bool = False  # its decisions delete objects of the kind
    hooks: ControllerHooks[ObjectT] = ControllerHooks()

    def decode(self, body: Json) -> ObjectT:
        """Return the object in `body`; raises Undecodable."""
        raise NotImplementedError

    async def observe(
        self, obj: ObjectT, children: Sequence[Child], now: datetime, predecessors: Sequence[Child] = ()
    ) -> ObservedT:
        """Return everything that a decision about `obj` may read; may raise ClusterError.

        `predecessors`: children of deleted objects of the same name, whose names are not free yet.
        """
        raise NotImplementedError

    def desire(
        self, obj: ObjectT, observed: ObservedT, problem: ReconcileProblem | None, now: datetime
    ) -> DecisionT:
        """Return what should exist and the status; `problem`: why it could not be had just now.

        A `passing` problem is not reported, but the refused objects are missing all the same.
        """
        raise NotImplementedError

    # -- what an undecoded object says ---------------------------------------------------

    def index(self, body: Json) -> Mapping[str, str]:
        """Return the values by which the cache finds and counts objects."""
        return {}

    def has_ended(self, body: Json) -> bool:
        """Return whether the object exists for its history only."""
        return False

    # -- what follows --------------------------------------------------------------------

    def send_decision(self, obj: ObjectT, decision: DecisionT) -> None:
        """Start sending the decision to the object's own programs, after the children were changed.

        Nothing waits for them here: one that does not answer must not block other objects.
        """

    def build_events(self, obj: ObjectT, after: Any) -> Iterable[ObjectEvent]:
        """Return the Events for the status `after`, which has just been written."""
        return ()

    def parameter_changed(
        self, kind: Kind, body: Json, gone: bool, where: Callable[[Mapping[str, str]], Iterable[Key]]
    ) -> Iterable[Key]:
        """Return the objects that a changed, new or deleted parameter or hint concerns.

        `where` finds objects by values of their index.
        """
        return ()

    def neighbours(self, body: Json, gone: bool) -> Iterable[Key]:
        """Return other objects of this kind to reconcile after a change or deletion of this one."""
        return ()

    def forget(self, uid: str) -> None:
        """Drop the state of an object that is gone, or ended long ago."""
