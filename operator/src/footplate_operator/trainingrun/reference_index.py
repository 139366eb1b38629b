"""Index of the runs that name each other, from the watch: lists the runs to reconcile when one changes.

The operator resolves a reference from the API server's state at that moment, never from the watch, so a
replica that has just started does not take a run for missing because no event has arrived yet.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from itertools import pairwise
from typing import Any, Final

from footplate_contracts.base import digest
from footplate_contracts.lineage import run_references
from footplate_contracts.names import Reason
from footplate_contracts.v1alpha1.references import LineageEntry, ReferenceField
from footplate_operator.errors import NotFound
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Key, Undecodable, key_of
from footplate_operator.trainingrun.policies import checkpoint_pins, reference_resolution
from footplate_operator.trainingrun.policies.checkpoint_pins import ReferencingRun, UnreadableRun
from footplate_operator.trainingrun.run import TRAINING_RUN, Run, decode, phase_of

# Many runs may be due at once, as after an outage: what was listed answers for all of them.
LISTED_FOR: Final = timedelta(seconds=10)


@dataclass(frozen=True)
class _Seen:
    """Facts about a run that concern other runs."""

    uid: str
    version: int
    names: tuple[Key, ...]  # other runs, in the order of the fields
    waits: bool  # for one of them
    digest: str  # of all that others look at
    body: Json  # of one that names others, and has not ended

    @cached_property
    def naming(self) -> ReferencingRun | UnreadableRun | None:
        """Decoded run with its references; None if it has ended."""
        return _naming(self.body) if self.names else None


@dataclass
class _Listed:
    """Waiting runs of a namespace by awaited run, from the last list call; one call runs at a time."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    began: datetime | None = None
    waiting: Mapping[str, Sequence[ReferencingRun]] = field(
        default_factory=dict
    )  # by the name of the other run

    def is_fresh(self, now: datetime) -> bool:
        """Return whether the list is at most LISTED_FOR old."""
        return self.began is not None and now - self.began <= LISTED_FOR

    def answers(self, due: datetime, now: datetime) -> bool:
        """Return whether the list is fresh and was made when a run was `due` for deletion, or later."""
        return self.began is not None and due <= self.began and self.is_fresh(now)


class ReferenceIndex:
    """References among all runs that this operator manages."""

    def __init__(self, cluster: Cluster, now: Callable[[], datetime]) -> None:
        self._cluster = cluster
        self._now = now
        self._seen: dict[Key, _Seen] = {}  # those that name others, or are named
        self._naming: dict[Key, set[Key]] = {}  # by whom they are named
        self._listed: dict[str, _Listed] = {}  # by namespace

    def observe_run(self, body: Json, gone: bool) -> list[Key]:
        """Update the index for a run that was added, changed or deleted; return the runs to reconcile."""
        key = key_of(body)
        known = self._seen.get(key)
        if known is None and key not in self._naming and not _named(body):
            return []
        fresh = _seen(body)
        if known is not None and known.version > fresh.version:
            return []  # of one that had the name before, or late
        if gone:
            self._forget(key)
        elif fresh.names or key in self._naming:
            self._remember(key, fresh)
        if known is not None and not gone and (known.uid, known.digest) == (fresh.uid, fresh.digest):
            return []
        concerned = {*fresh.names, *self._naming.get(key, ())}
        if gone or known is None or (known.names, known.waits) != (fresh.names, fresh.waits):
            concerned |= self._waiting_through(key)  # a cycle may have been closed, or opened
        return sorted(concerned, key=str)

    async def resolve(self, run: Run) -> list[LineageEntry] | ReconcileProblem:
        """Resolve the references of `run`; return the problem if one is unresolved. Raise ClusterError."""
        cycle = self._cycle(run.key)
        if cycle and await self._stands(cycle):
            names = " -> ".join(key.name for key in cycle)
            message = (
                f"{names}: each of these runs waits for the next, and none can start; delete one of them,"
                " and recreate it with another run, or with a folder"
            )
            return ReconcileProblem(Reason.RUN_CYCLE, message[:1024])
        answers = [
            await self._resolve(run, field, reference)
            for field, reference in run_references(run.spec).items()
        ]
        problems = [answer for answer in answers if isinstance(answer, ReconcileProblem)]
        for problem in problems:
            if not problem.waiting:
                return problem
        if problems:
            message = "; ".join(problem.message for problem in problems)[:1024]
            return ReconcileProblem(Reason.WAITING_FOR_RUN, message, waiting=True)
        return [answer for answer in answers if isinstance(answer, LineageEntry)]

    async def find_referencing_runs(self, other: Run) -> list[ReferencingRun | UnreadableRun]:
        """Return the runs that wait for checkpoints of `other`, or begin from them. Raise ClusterError.

        Runs that its status lists and no watch event has named are read from the API server: they may be
        gone.
        """
        known = [self._seen[key].naming for key in sorted(self._naming.get(other.key, ()), key=str)]
        untold = {Key(other.namespace, follower.name) for follower in other.status.followers or ()}
        for key in sorted(untold - self._seen.keys(), key=str):
            known.append(await self._asked_for(key))
        return [naming for naming in known if naming is not None]

    async def is_awaited(
        self, other: Run, naming: Sequence[ReferencingRun | UnreadableRun], due: datetime | None
    ) -> bool:
        """Return whether another run waits for `other`, which has ended; raise ClusterError.

        A watch event arrives a moment after a run was created, and never for a run that was deleted while the
        watch was closed. So if `other` is due for deletion, read the waiting runs of `naming` again, and, if
        none waits, list the namespace, once for all runs that were due before that.

        `due`: time since which `other` is due for deletion; None: it is not.
        """
        if other.ended is None or due is None:
            return other.ended is not None and checkpoint_pins.is_awaited(other, naming)
        if await self._one_waits(other, naming):
            return True
        return await self._one_waits(other, await self._waiting_for(other, due))

    # -- particulars ---------------------------------------------------------------------

    async def _resolve(
        self, run: Run, field: ReferenceField, reference: reference_resolution.Reference
    ) -> LineageEntry | ReconcileProblem:
        try:
            other = decode(await self._cluster.get(TRAINING_RUN, run.namespace, reference.name))
        except NotFound:
            return reference_resolution.resolve(run, field, reference, None)
        except Undecodable as error:
            message = f"{field}.run {reference.name}: {error}"
            return ReconcileProblem(Reason.RUN_INCOMPATIBLE, message[:1024])
        return reference_resolution.resolve(run, field, reference, other)

    def _remember(self, key: Key, fresh: _Seen) -> None:
        known = self._seen.get(key)
        for name in known.names if known else ():
            self._naming.get(name, set()).discard(key)
        self._seen[key] = fresh
        for name in fresh.names:
            self._naming.setdefault(name, set()).add(key)

    def _forget(self, key: Key) -> None:
        known = self._seen.pop(key, None)
        for name in known.names if known else ():
            naming = self._naming.get(name, set())
            naming.discard(key)
            if not naming:
                self._naming.pop(name, None)

    async def _one_waits(self, other: Run, naming: Sequence[ReferencingRun | UnreadableRun]) -> bool:
        """Return whether a run of `naming` waits for `other`, according to the API server now."""
        for known in naming:
            if isinstance(known, ReferencingRun) and checkpoint_pins.is_awaited(other, [known]):
                fresh = await self._asked_for(known.run.key)
                if fresh is not None and checkpoint_pins.is_awaited(other, [fresh]):
                    return True
        return False

    async def _asked_for(self, key: Key) -> ReferencingRun | UnreadableRun | None:
        """Read the run and its references from the API server; return None if it is gone or has ended."""
        with suppress(NotFound):
            return _naming(await self._cluster.get(TRAINING_RUN, key.namespace, key.name))
        return None

    async def _waiting_for(self, other: Run, due: datetime) -> Sequence[ReferencingRun]:
        """Return the runs that waited for `other` when it was `due` or later, from its namespace's list."""
        now = self._now()
        self._listed = {
            namespace: listed
            for namespace, listed in self._listed.items()
            if listed.lock.locked() or listed.is_fresh(now)
        }
        listed = self._listed.setdefault(other.namespace, _Listed())
        async with listed.lock:
            if not listed.answers(due, self._now()):
                began, waiting = self._now(), dict[str, list[ReferencingRun]]()
                async for page in self._cluster.pages(TRAINING_RUN, other.namespace):
                    for known in filter(None, map(_waiting, page)):
                        for name in {reference.name for reference in known.unresolved_references.values()}:
                            waiting.setdefault(name, []).append(known)
                listed.began, listed.waiting = began, waiting
            return listed.waiting.get(other.name, ())

    async def _stands(self, cycle: Sequence[Key]) -> bool:
        """Return whether the API server, not only the watch, has each run of `cycle` waiting for the next."""
        for key, following in pairwise(cycle):
            try:
                fresh = _seen(await self._cluster.get(TRAINING_RUN, key.namespace, key.name))
            except NotFound:
                return False
            if not fresh.waits or following not in fresh.names:
                return False
        return True

    def _waiting_through(self, key: Key) -> set[Key]:
        """Return all runs that wait for `key`, directly or through other runs."""
        found: set[Key] = set()
        left = [key]
        while left:
            for name in self._naming.get(left.pop(), set()) - found:
                if self._seen[name].waits:
                    found.add(name)
                    left.append(name)
        return found

    def _cycle(self, start: Key) -> Sequence[Key]:
        """Return the shortest path on which `start` waits for itself, with `start` at both ends, or nothing.

        Search breadth first, so that each run is visited once, however many paths lead to it.
        """
        came_from: dict[Key, Key] = {}
        left = deque([start])
        while left:
            key = left.popleft()
            for name in self._awaited_by(key):
                if name == start:
                    path = [start, key]
                    while path[-1] != start:
                        path.append(came_from[path[-1]])
                    return path[::-1]
                if name not in came_from:
                    came_from[name] = key
                    left.append(name)
        return ()

    def _awaited_by(self, key: Key) -> Iterable[Key]:
        known = self._seen.get(key)
        return known.names if known is not None and known.waits else ()


def _seen(body: Json) -> _Seen:
    metadata, status = body["metadata"], body.get("status") or {}
    ended = phase_of(body).is_terminal
    named = _named(body)
    lineage = status.get("lineage") or []
    looked_at = [
        phase_of(body),
        "deletionTimestamp" in metadata,
        *(status.get(name) for name in ("checkpoint", "followers", "lineage")),
    ]
    return _Seen(
        uid=metadata["uid"],
        version=int(metadata.get("resourceVersion") or 0),
        names=tuple(Key(metadata["namespace"], name) for name in named),
        waits=bool(named) and not lineage and not ended,
        digest=digest(looked_at),
        body=body if named and not ended else {},
    )


def _naming(body: Json) -> ReferencingRun | UnreadableRun | None:
    metadata = body.get("metadata", {})
    if not body or phase_of(body).is_terminal or "deletionTimestamp" in metadata:
        return None
    try:
        run = decode(body)
    except Undecodable:
        return UnreadableRun(metadata["uid"])
    named = run_references(run.spec)
    if not named:
        return None
    return ReferencingRun(run, named, run.status.lineage or ())


def _waiting(body: Json) -> ReferencingRun | None:
    """Return the run if it waits for another one; bodies that name no run are not decoded."""
    known = _naming(body) if _named(body) else None
    return known if isinstance(known, ReferencingRun) and known.unresolved_references else None


def _named(body: Json) -> list[str]:
    """Return the names of other runs in the spec, without decoding it."""
    names: dict[str, None] = {}
    for place in ReferenceField:
        part: Any = body.get("spec")
        for name in (*place.split("."), "run", "name"):
            part = part.get(name) if isinstance(part, dict) else None
        if isinstance(part, str):
            names[part] = None
    return list(names)
