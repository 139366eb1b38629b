"""Tracks the usage of Nodes, and writes a UsageRecord for each one that fits a profile or had a pod.

A Node's price category is decided once: by the profile that fits it, else by the first pod that was bound to
it; also by that pod while several profiles fit and the price book cannot be read. Where Nodes may not be
read, none is known, and pods identify them by their name.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any, Final, NamedTuple

from footplate_contracts.logs import log_fields
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec
from footplate_ledger.conversion import build_node_entry, nodes_of
from footplate_ledger.intervals import unix_second
from footplate_ledger.usage import LAST_SEEN, RUNNING, TOLD, EndTime, NodeLifetime, merge_nodes
from footplate_operator.errors import AlreadyExists, ClusterError, NotFound, RequestForbidden
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import NODE, Json
from footplate_operator.usage.errors import record_errors
from footplate_operator.usage.nodes import NodeObservation, build_node_usage, find_profile, observe_node
from footplate_operator.usage.objects import write_record
from footplate_operator.usage.pods import PodProfile
from footplate_operator.usage.writes import USAGE_RECORD, RecordWrite, build_merge_patch

_REFUSED: Final = 300  # seconds: a right that is missing stays so for a while
_MOST_GONE: Final = 10_000
_AT_ONCE: Final = 8
LEAST_SECONDS: Final = 300  # between two notes that a Node goes on; its kubelet says so every five minutes
NODES_PER_SECOND: Final = 2
QUIET_SECONDS: Final = 2 * LEAST_SECONDS  # after which it is asked whether a Node is there
_log = logging.getLogger(__name__)


def record_name(uid: str) -> str:
    """Return the name of a Node's record."""
    return f"node-{uid}"


@dataclass(eq=False)
class _Kept:
    """State of one Node."""

    usage: NodeLifetime
    sight: NodeObservation | None = (
        None  # as it is now; None: it is not there, or was not seen by this leader
    )
    by: PodProfile | None = None  # of the first pod that was bound to it
    wanted: bool = False  # it is of a profile, or had a pod
    loaded: bool = False
    entry: Json | None = None  # as written; None: there is no record
    told: NodeLifetime | None = None  # as written, without what grows
    wrote: int = 0
    told_at: int = 0  # when it was seen last

    @property
    def news(self) -> bool:
        """True if anything was not written yet."""
        return self.wanted and self.told != _lasting(self.usage)


class _Gone(NamedTuple):
    """A Node that is gone, and when that became known."""

    sight: NodeObservation
    since: int


@dataclass(eq=False)
class NodeUsageTracker:
    """Usage tracker of Nodes, by uid.

    `profiles` returns the readable ones, by name; `priced` those that have a price in the book at a second or
    later, None while that is not known. With `notes` False it writes nothing: another installation does.
    """

    cluster: Cluster
    now: Callable[[], datetime]
    profiles: Callable[[], Mapping[str, ComputeProfileSpec]]
    priced: Callable[[int], Collection[str] | None]
    notes: bool = True
    _kept: dict[str, _Kept] = field(default_factory=dict)
    _named: dict[str, NodeObservation] = field(default_factory=dict)
    _gone: OrderedDict[str, _Gone] = field(default_factory=OrderedDict)  # by name, the last one
    _unknown: set[str] = field(default_factory=set)  # of which neither a watch nor a record tells
    _undecided: set[str] = field(default_factory=set)  # that several profiles fit, and no book says which
    _unreadable: set[str] = field(default_factory=set)  # whose records the log has named
    _said: set[str] = field(default_factory=set)  # what the log has told with its traceback
    _unseen_until: int = 0

    # -- what is told ------------------------------------------------------------------

    def put(self, body: Mapping[str, Any]) -> None:
        """Store a Node as it is now."""
        sight = observe_node(body)
        last, named = self._gone.get(sight.name), self._named.get(sight.name)
        if last is not None and last.sight.uid == sight.uid:
            return
        if named is not None and named.uid != sight.uid:
            if sight.created < named.created:
                return  # a late word of one before it
            self._lose(named.name, named.uid)
        self._named[sight.name] = sight
        kept = self._kept.get(sight.uid)
        if kept is None:
            usage = build_node_usage(sight, "", None, self._second())
            kept = self._kept[sight.uid] = _Kept(usage)
        kept.sight, kept.told_at = sight, self._second()
        self._resolve(kept)

    def drop(self, body: Mapping[str, Any]) -> None:
        """Record that the Node is gone."""
        sight = observe_node(body)
        self._bury(sight.name, sight.uid, EndTime(TOLD, self._second()))

    def rematch_profiles(self) -> None:
        """Match Nodes without a profile again, after profiles have changed."""
        self._undecided.clear()
        for kept in self._kept.values():
            if not kept.usage.sku.profile:
                self._resolve(kept)

    def bind(self, uid: str, by: PodProfile) -> None:
        """Record that a pod was bound to the Node; `by` names no profile for a coordinator."""
        kept = self._kept.get(uid)
        if kept is None:
            return
        if kept.by is None and by.name:
            kept.by = by
            self._resolve(kept)
        kept.wanted = True

    # -- what is known -------------------------------------------------------------------

    async def find(self, name: str, bound: int) -> NodeObservation | None:
        """Return the Node of this name that existed at the second `bound`; None where it cannot be read.

        Raises ClusterError, where that is not known yet.
        """
        known, gone = self._named.get(name), self._gone.get(name)
        if known is not None and known.created <= bound:
            return known
        if gone is not None and gone.sight.created <= bound <= gone.since:
            return gone.sight
        if self._second() < self._unseen_until:
            return None
        try:
            self.put(await self.cluster.get(NODE, "", name))
        except NotFound:
            return None
        except RequestForbidden:
            self._unseen_until = self._second() + _REFUSED
            return None
        found = self._named.get(name)
        return found if found is not None and found.created <= bound else None

    def successor(self, uid: str, bound: int) -> NodeObservation | None:
        """Return the Node with the name of the deleted Node `uid`, if it existed at `bound`."""
        kept = self._kept.get(uid)
        if kept is None or kept.sight is not None:
            return None
        named = self._named.get(kept.usage.name)
        return named if named is not None and named.uid != uid and named.created <= bound else None

    def is_unread(self, uid: str) -> bool:
        """Return whether the Node's record has not been read yet."""
        kept = self._kept.get(uid)
        return uid not in self._unknown if kept is None else not kept.loaded

    async def load(self, uids: Iterable[str]) -> None:
        """Read the records of these Nodes; raises ClusterError."""
        for uid in uids:
            if self.is_unread(uid):
                await self._load(uid)

    def list_usages(self, uids: Iterable[str]) -> list[NodeLifetime]:
        """Return the usage of the known Nodes among `uids`."""
        return [self._kept[uid].usage for uid in uids if uid in self._kept]

    # -- what goes on by itself ------------------------------------------------------------

    async def write_due(self) -> None:
        """Write the news; raises LeadershipLost."""
        if self._undecided and self.priced(self._second()) is not None:
            self.rematch_profiles()
        if not self.notes:
            return
        now, gate = self._second(), asyncio.Semaphore(_AT_ONCE)
        period = max(LEAST_SECONDS, len(self._named) // NODES_PER_SECOND)

        async def write(kept: _Kept) -> None:
            async with gate:
                await self._write(kept)

        due = [
            kept
            for kept in self._kept.values()
            if kept.news or (kept.wanted and kept.sight is not None and now - kept.wrote >= period)
        ]
        await asyncio.gather(*(write(kept) for kept in due))

    async def list_deletable(self, names: Mapping[str, str], needed: Collection[str]) -> list[str]:
        """Check quiet Nodes; return the uids of Nodes that are gone and not needed any more.

        Args:
            names: names of the Nodes that have a record, by uid.
            needed: uids of the Nodes of existing runs' pods.
        """
        quiet = self._second() - QUIET_SECONDS
        told = {uid for uid, kept in self._kept.items() if kept.sight is not None and kept.told_at > quiet}
        there = {uid: kept.usage.name for uid, kept in self._kept.items() if kept.sight is not None}
        for uid, name in {**there, **names}.items():
            if uid not in told:
                await self._close(uid, name)
        self._unknown.clear()
        over = [uid for uid in names if uid in self._kept and self._kept[uid].usage.end.known != RUNNING]
        for kept in [self._kept[uid] for uid in over]:
            if kept.news and self.notes:
                await self._write(kept)
        # Its end is said before that it is over: whoever takes it in between would bill it for ever.
        over = [uid for uid in over if not self._kept[uid].news]
        for uid in [uid for uid, kept in self._kept.items() if kept.usage.end.known != RUNNING]:
            if uid not in needed and not (self.notes and self._kept[uid].news):
                del self._kept[uid]
        return [uid for uid in over if uid not in needed] if self.notes else []

    # -- particulars -----------------------------------------------------------------------

    def _resolve(self, kept: _Kept) -> None:
        """Update the usage from the observed Node; a known profile stays."""
        sight = kept.sight
        if sight is None:
            return
        profiles = self.profiles()
        fits = kept.usage.sku.profile or find_profile(sight, profiles, self.priced(self._second()))
        if fits is None:
            self._undecided.add(sight.uid)
        name = fits or ""
        profile = profiles.get(name)
        if not name and kept.by is not None:
            name, profile = kept.by.name, kept.by.profile
        fresh = build_node_usage(sight, name, profile, self._second())
        known = kept.usage
        kept.wanted = kept.wanted or bool(name)
        kept.usage = replace(
            fresh,
            sku=known.sku if known.sku.profile else fresh.sku,
            devices=max(fresh.devices, known.devices),  # a plugin that has not begun yet announces none
            cpu=max(fresh.cpu, known.cpu),
            start=min(fresh.start, known.start),
            provider=known.provider,
        )

    def _bury(self, name: str, uid: str, end: EndTime) -> None:
        known = self._named.get(name)
        if known is not None and known.uid == uid:
            del self._named[name]
            self._gone[name] = _Gone(known, self._second())
            while len(self._gone) > _MOST_GONE:
                self._gone.popitem(last=False)
        kept = self._kept.get(uid)
        if kept is not None:
            kept.sight = None
            # The clock of an operator may be behind that of the API server.
            end = replace(end, until=max(end.until, kept.usage.start))
            kept.usage = merge_nodes(kept.usage, replace(kept.usage, end=end))

    def _lose(self, name: str, uid: str) -> None:
        """Record that the Node is gone since an unknown time: the last evidence counts."""
        kept = self._kept.get(uid)
        self._bury(name, uid, EndTime(LAST_SEEN, self._second() if kept is None else kept.usage.end.until))

    async def _load(self, uid: str) -> None:
        try:
            spec = (await self.cluster.get(USAGE_RECORD, "", record_name(uid))).get("spec", {})
            [written] = nodes_of(UsageRecordSpec.from_any_release(spec))
            if written.uid != uid:
                raise ValueError(f"it belongs to Node {written.uid}, but must belong to {uid}")
        except NotFound:
            if uid in self._kept:
                self._kept[uid].loaded = True
            else:
                self._unknown.add(uid)
            return
        except ValueError as error:
            level = logging.DEBUG if uid in self._unreadable else logging.WARNING
            self._unreadable.add(uid)
            _log.log(level, "a record cannot be read", extra=log_fields(name=record_name(uid), error=error))
            return
        entry: Json = spec["nodes"][uid]
        kept = self._kept.setdefault(uid, _Kept(written))
        kept.loaded, kept.wanted, kept.wrote = True, True, written.end.until
        kept.entry, kept.told = entry, _lasting(written)
        if written.sku.profile:
            kept.usage = replace(kept.usage, sku=written.sku)
        kept.usage = replace(
            kept.usage,
            start=min(kept.usage.start, written.start),
            devices=max(kept.usage.devices, written.devices),
            cpu=max(kept.usage.cpu, written.cpu),
        )
        self._resolve(kept)

    async def _write(self, kept: _Kept) -> None:
        """Write a Node's record; errors are logged and retried at the next look."""
        uid = kept.usage.uid
        with record_errors(partial(self._report, kept.usage.name)):
            try:
                if not kept.loaded:
                    await self._load(uid)
                usage = kept.usage
                patch = build_merge_patch(kept.entry or {}, build_node_entry(usage).to_json())
                if patch:
                    labels = {MANAGED_BY_LABEL: MANAGED_BY}
                    write = RecordWrite(
                        record_name(uid), {"nodes": {uid: patch}}, labels, kept.entry is not None
                    )
                    kept.entry = (await write_record(self.cluster, write))["spec"]["nodes"][uid]
                kept.told, kept.wrote = _lasting(usage), self._second()
            except NotFound:
                kept.entry = kept.told = None
            except AlreadyExists:
                kept.loaded = False  # the answer of an earlier write was lost

    async def _close(self, uid: str, name: str) -> None:
        """Get a Node that no watch has shown for long, to find whether it exists."""
        try:
            await self.load([uid])
            body = await self.cluster.get(NODE, "", name)
            if body["metadata"]["uid"] == uid:
                self.put(body)
                return
        except NotFound:
            pass
        except ClusterError:
            return  # nothing new is known
        kept = self._kept.get(uid)
        if kept is not None and kept.usage.end.known == RUNNING:
            self._lose(name, uid)

    def _report(self, name: str, error: Exception, expected: bool) -> None:
        said = f"{type(error).__name__}: {error}"
        about, message = log_fields(name=name, error=said), "the usage of a Node was not written"
        if expected or said in self._said:
            _log.log(logging.WARNING if expected else logging.DEBUG, message, extra=about)
        else:
            self._said.add(said)
            _log.error(message, extra=about, exc_info=error)

    def _second(self) -> int:
        return unix_second(self.now())


def _lasting(node: NodeLifetime) -> NodeLifetime:
    """Return the usage without the parts that grow while the Node exists."""
    return node if node.end.known != RUNNING else replace(node, end=EndTime(RUNNING, 0))
