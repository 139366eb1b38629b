"""What the machinery knows of a kind.

A kind is a folder, and this is its only door: what is watched, how an object is
decoded, what was seen, what should exist and what is told. Queue, cache, actor
and status writer see nothing else of it, so a second kind is a second subclass.
As in controller-runtime, each controller has a queue of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from footplate_operator.runtime.decision import Decision, Problem
from footplate_operator.runtime.events import Event
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.runtime.objects import Child, Key, Object, view_child
from footplate_operator.runtime.throttle import StatusChange

ObjectT = TypeVar("ObjectT", bound=Object[Any, Any])
ObservedT = TypeVar("ObservedT")
DecisionT = TypeVar("DecisionT", bound=Decision[Any])


@dataclass(frozen=True)
class Owned:
    """A kind of children. What is not watched is listed now and then.

    Of one that is `unread` the operator may make and delete objects and see none: garbage collection takes
    them away, and to create one is to put it in the place of what has its name.
    """

    kind: Kind
    unread: bool = False
    watched: bool = False
    lingers: bool = False  # one that was deleted is there for a while still, as a pod that ends
    purge_grace: int | None = None  # seconds that a child has once its owner is deleted; None: its own


class Controller(Generic[ObjectT, ObservedT, DecisionT]):
    """One kind. The first three methods are its own to write, all others have a plain answer.

    Children carry `uid_label` with the uid of their owner, and MANAGED_BY_LABEL.
    `parameters` are cluster-scoped kinds that many objects read; so are `hints`, without which it goes
    on where it may not see them. What follows from a change of the `patient` ones among them can wait.
    """

    kind: Kind
    noun: str  # what logs call an object of this kind
    uid_label: str
    owns: Sequence[Owned]
    parameters: Sequence[Kind] = ()
    hints: Sequence[Kind] = ()
    patient: Sequence[Kind] = ()

    def decode(self, body: Json) -> ObjectT:
        """The object in `body`; raises Undecodable."""
        raise NotImplementedError

    async def observe(
        self, obj: ObjectT, children: Sequence[Child], now: datetime, predecessors: Sequence[Child] = ()
    ) -> ObservedT:
        """Everything that a decision about `obj` may look at; may raise ClusterError.

        `predecessors`: children of deleted objects of the same name, whose names cannot be had yet.
        """
        raise NotImplementedError

    def desire(self, obj: ObjectT, observed: ObservedT, problem: Problem | None, now: datetime) -> DecisionT:
        """What should exist and what the status says; `problem`: why that could not be had just now.

        Of a problem that is `passing` nothing is said, but what was refused is not there either.
        """
        raise NotImplementedError

    def watched(self) -> list[Kind]:
        """Kinds of children that are watched."""
        return [owned.kind for owned in self.owns if owned.watched]

    def unread(self, kind: Kind) -> bool:
        """Whether children of this kind are not looked at."""
        return any(owned.kind == kind and owned.unread for owned in self.owns)

    def lingers(self, kind: Kind) -> bool:
        """Whether children of this kind are there for a while still once they were deleted."""
        return any(owned.kind == kind and owned.lingers for owned in self.owns)

    # -- what an undecoded object says ---------------------------------------------------

    def index(self, body: Json) -> Mapping[str, str]:
        """Values by which the cache finds and counts objects."""
        return {}

    def has_ended(self, body: Json) -> bool:
        """Whether the object is kept for its history only."""
        return False

    def view(self, kind: Kind, body: Json) -> Child:
        """What is kept of a child."""
        return view_child(kind, body)

    def about(self, obj: ObjectT) -> Mapping[str, object]:
        """What each line of the log about `obj` says, beside its name and uid."""
        return {}

    # -- what a status is worth ----------------------------------------------------------

    def compare(self, before: Any, after: Any) -> StatusChange:
        """Whether the status `after` says something new, and whether that may wait."""
        return StatusChange.NOTHING if before == after else StatusChange.STATE

    def complete(self, obj: ObjectT, after: Any) -> Any:
        """`after`, which is about to be written, with what is no reason to write and costs much to know."""
        return after

    def last_progress(self, obj: ObjectT) -> datetime | None:
        """When progress was written last, for an operator that has just started."""
        return None

    # -- what follows --------------------------------------------------------------------

    def tell(self, obj: ObjectT, decision: DecisionT) -> None:
        """Have the object's own programs told what was decided, after the children were changed.

        Nobody waits for them here: one that does not answer must not hold up other objects.
        """

    def reported(self, obj: ObjectT, after: Any) -> Iterable[Event]:
        """Events that go with the status `after`, which has just been written."""
        return ()

    def parameter_changed(
        self, kind: Kind, body: Json, gone: bool, where: Callable[[Mapping[str, str]], Iterable[Key]]
    ) -> Iterable[Key]:
        """A parameter or a hint came, changed or is gone: the objects that this concerns.

        `where` finds objects by values of their index.
        """
        return ()

    def heard(self, kind: Kind, body: Json, gone: bool) -> None:
        """A watch has told of an object or a child; `gone`: for the last time, as far as it knows."""

    def neighbours(self, body: Json, gone: bool) -> Iterable[Key]:
        """Other objects of this kind to look at, as this one came, changed or is gone."""
        return ()

    async def keep(self) -> None:
        """What goes on by itself while this replica leads; never ends."""
        await asyncio.get_running_loop().create_future()

    def lean(self, kind: Kind, body: Json) -> Json:
        """What of a parameter or a hint is worth being kept in memory."""
        return body

    def forget(self, uid: str) -> None:
        """The object is gone, or ended long ago."""

    def measure(self, count: Callable[[str], Mapping[str, int]]) -> None:
        """Bring gauges up to date; `count` counts objects by their value of one name in the index."""
