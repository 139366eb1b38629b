"""In-memory state of one owner of pods."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields
from footplate_ledger.conversion import clamp_to_record
from footplate_ledger.usage import RUNNING, TOLD, EndTime, MeasuredEnergy, Owner, PodAllocation
from footplate_operator.usage.nodes import NodeObservation
from footplate_operator.usage.pod_observation import PodObservation
from footplate_operator.usage.pods import PodProfile, update_usage
from footplate_operator.usage.records import PodRecords

FIRST_RETRY: Final = 2.0
LONGEST_RETRY: Final = 60.0
_log = logging.getLogger(__name__)


@dataclass(eq=False)
class OwnerRecords:
    """State of one owner. Moments are seconds since 1970."""

    records: PodRecords
    terms: PodProfile = field(default_factory=PodProfile)
    attempt: Callable[[int], int] | None = None  # of a pod that began in a second
    loaded: bool = False
    followed: bool = True  # somebody decides about it; False: whether it is there has to be asked
    gone: bool = False  # the owner is
    heard: dict[str, PodObservation] = field(default_factory=dict)  # pods, as they were told of last
    taken: dict[str, PodObservation] = field(default_factory=dict)  # what of that was noted already
    missing: dict[str, int] = field(default_factory=dict)  # pods that went, or lost their label -> since when
    places: dict[str, tuple[PodObservation, NodeObservation | None]] = field(
        default_factory=dict
    )  # of new pods, by uid
    placed: bool = False  # Nodes of all pods that were recorded have been read
    searches: list[asyncio.Task[None]] = field(default_factory=list)  # for Nodes
    asked: dict[str, int] = field(default_factory=dict)
    shown: frozenset[str] = frozenset()  # pods that were there when somebody looked last
    alive: int = 0  # until when those were
    wrote: float = 0.0
    failures: int = 0
    said: set[str] = field(default_factory=set)  # what the log has told with its traceback, or of a pod
    retry: float = 0.0  # before that nothing is asked or written
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def owner(self) -> Owner:
        """The owner of the pods."""
        return self.records.owner

    def put(self, pod: PodAllocation) -> None:
        """Store a pod's usage, clamped to the limits of a record."""
        held = clamp_to_record(pod)
        if held != pod and pod.uid not in self.said:
            self.said.add(pod.uid)
            about = log_fields(owner=self.owner.uid, pod=pod.uid, cpu=float(pod.cpu), devices=pod.devices)
            _log.warning("a pod's usage is capped at what a record can hold", extra=about)
        self.records.put(held)

    def update_pods(self, pods: Iterable[PodObservation], now: int) -> None:
        """Store exactly these pods as the ones that the owner's controller sees at `now`."""
        self.merge_events(now)
        seen = {pod.uid: pod for pod in pods}
        for uid in self.shown - seen.keys():
            self.extend_evidence(uid)
        self.shown, self.alive = frozenset(seen), now
        for pod in seen.values():
            self.missing.pop(pod.uid, None)
            self._take(pod, now)

    def merge_events(self, now: int) -> None:
        """Merge the watch events of known pods."""
        for uid, pod in self.heard.items():
            self._take(pod, self.missing.get(uid, now))
        known = self.records.pods
        self.heard = {uid: pod for uid, pod in self.heard.items() if uid not in known and pod.node}

    def mark_loaded(self) -> None:
        """Record that all records were read; the last write is as old as the oldest open evidence."""
        self.loaded = True
        self.wrote = min([self.wrote, *(pod.end.until for pod in self.records.list_open())])

    def measure(self, measured: Mapping[str, MeasuredEnergy]) -> None:
        """Store sums that have grown, by uid of the pod."""
        for uid, sums in measured.items():
            known = self.records.pods.get(uid)
            if known is not None and sums > known.measured:
                self.put(replace(known, measured=sums))

    def extend_evidence(self, uid: str) -> None:
        """Extend a running pod's evidence to the time until which the others existed."""
        known = self.records.pods.get(uid)
        if known is not None and known.end.known == RUNNING:
            self.records.put(replace(known, end=EndTime(RUNNING, max(self.alive, known.end.until))))

    def find_attempt(self, start: int) -> int:
        """Return the attempt of a pod that began at `start`; without a source, the newest known."""
        if self.attempt is not None:
            return self.attempt(start)
        return max((pod.attempt for pod in self.records.pods.values()), default=0)

    def record_failure(self, now: float, error: Exception, foreseen: bool = True) -> None:
        """Record and log an error at the moment `now`, and schedule a retry."""
        self.failures += 1
        self.retry = now + backoff_seconds(self.failures, first=FIRST_RETRY, longest=LONGEST_RETRY)
        said = f"{type(error).__name__}: {error}"
        about, message = log_fields(owner=self.owner.uid, error=said), "usage is not written yet"
        if not foreseen and said not in self.said:
            self.said.add(said)
            _log.error(message, extra=about, exc_info=error)
        else:
            first = foreseen and self.failures == 1
            _log.log(logging.WARNING if first else logging.DEBUG, message, extra=about)

    def _take(self, pod: PodObservation, now: int) -> None:
        known = self.records.pods.get(pod.uid)
        if known is None or known.end.known == TOLD or self.taken.get(pod.uid) == pod:
            return
        self.taken[pod.uid] = pod
        self.records.put(update_usage(known, pod, now))
        if pod.over:
            del self.taken[pod.uid]  # of the many that have ended no more is kept than their usage
