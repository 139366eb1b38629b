"""The UsageRecords of one owner: which entries are in which, and which are to be written; pure.

An entry is written once it exists, and again when it has news: that a pod still runs is none, and is written
now and then, for the day on which its end is not seen. The API server's answer shows what was written; a
write whose answer was lost is repeated, which does no harm.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL, RUN_UID_LABEL
from footplate_contracts.v1alpha1.usagerecord import PODS_LIMIT, UsageRecordSpec
from footplate_ledger.conversion import build_pod_entry, owner_of, pods_of
from footplate_ledger.usage import (
    RUNNING,
    EndTime,
    MeasuredEnergy,
    Owner,
    PodAllocation,
    PowerProfile,
    merge_pods,
)
from footplate_operator.runtime.kinds import Json
from footplate_operator.usage.writes import RecordWrite, build_merge_patch

_GOES_ON: Final = EndTime(RUNNING, 0)


class OwnerMismatch(ValueError):
    """A record whose owner differs from its name."""


@dataclass(eq=False)
class PodRecords:
    """All records of one owner."""

    owner: Owner
    pods: dict[str, PodAllocation] = field(default_factory=dict)  # by uid
    _place: dict[str, int] = field(default_factory=dict)  # uid of a pod -> number of its record
    _entries: dict[int, dict[str, Json]] = field(default_factory=dict)  # as written, by number and uid
    _sites: dict[PowerProfile, PowerProfile] = field(
        default_factory=dict
    )  # each once: they are large, and few
    _unreadable: set[int] = field(default_factory=set)  # numbers of records
    _told: dict[str, PodAllocation] = field(default_factory=dict)  # as written, without what grows

    def name(self, number: int) -> str:
        """Return the name of a record."""
        return f"{self.owner.uid}-{number}"

    @property
    def numbers(self) -> list[int]:
        """The numbers of the existing records."""
        return sorted(self._entries)

    def read(self, number: int, spec: Json) -> None:
        """Store a record from the API server; raises ValueError (OwnerMismatch) where it is invalid."""
        self._unreadable.add(number)
        found = pods_of(UsageRecordSpec.from_any_release(spec))
        for pod in found:
            if pod.owner != self.owner:
                raise OwnerMismatch(f"its owner is {pod.owner}, but must be {self.owner}")
        self._unreadable.discard(number)
        entries = dict(spec.get("pods") or {})
        for pod in found:
            self.put(pod)
            self._place[pod.uid] = number
            self._told[pod.uid] = _lasting(pod)
        self._entries[number] = _open(entries)

    def mark_written(self, number: int, write: RecordWrite, spec: Json) -> None:
        """Store a record as the API server returned it after our write."""
        self._entries[number] = _open(spec.get("pods") or {})
        self._told.update(write.told)

    def mark_lost(self, number: int) -> None:
        """Remove a record that does not exist any more."""
        for uid in self._entries.pop(number, ()):
            self._told.pop(uid, None)

    def put(self, pod: PodAllocation) -> None:
        """Merge a pod's usage into the stored one."""
        known = self.pods.get(pod.uid)
        if known is None:
            pod = replace(pod, site=self._sites.setdefault(pod.site, pod.site))
        self.pods[pod.uid] = pod if known is None else merge_pods(known, pod)

    def replace(self, pod: PodAllocation) -> None:
        """Replace the stored usage of a pod."""
        self.pods[pod.uid] = replace(pod, site=self._sites.setdefault(pod.site, pod.site))

    def list_open(self) -> list[PodAllocation]:
        """Return the pods that have not ended, as far as is known."""
        return [pod for pod in self.pods.values() if pod.end.known == RUNNING]

    def build_writes(self, everything: bool = False) -> list[tuple[int, RecordWrite]]:
        """Return the writes by number; for running pods only news, unless `everything`."""
        self._settle()
        wanted: defaultdict[int, Json] = defaultdict(dict)
        told: defaultdict[int, dict[str, PodAllocation]] = defaultdict(dict)
        for uid, pod in self.pods.items():
            going = pod.end.known == RUNNING
            lasting = _lasting(pod)
            if self._told.get(uid) != lasting or (everything and going):
                number = self._place[uid]
                before = self._entries.get(number, {}).get(uid, {})
                patch = build_merge_patch(before, build_pod_entry(pod).to_json())
                wanted[number][uid], told[number][uid] = patch, lasting
        return [(number, self._write(number, pods, told[number])) for number, pods in sorted(wanted.items())]

    def _settle(self) -> None:
        """Assign a record to each pod without one; a full record starts the next."""
        filled = Counter(self._place.values())
        last = max(filled, default=0)
        for uid in sorted(self.pods.keys() - self._place.keys()):
            while filled[last] >= PODS_LIMIT or last in self._unreadable:
                last += 1
            filled[last] += 1
            self._place[uid] = last

    def _write(self, number: int, pods: Json, told: Mapping[str, PodAllocation]) -> RecordWrite:
        known = number in self._entries
        spec: Json = {"pods": pods}
        if not known:
            spec = {"owner": owner_of(self.owner).to_json(), **spec}
        labels = {MANAGED_BY_LABEL: MANAGED_BY, RUN_UID_LABEL: self.owner.uid}
        return RecordWrite(self.name(number), spec, labels, known, told)


def _lasting(pod: PodAllocation) -> PodAllocation:
    """Return the usage without the parts that grow while the pod runs."""
    return pod if pod.end.known != RUNNING else replace(pod, end=_GOES_ON, measured=MeasuredEnergy())


def _open(entries: Mapping[str, Json]) -> dict[str, Json]:
    """Return the entries, emptied for ended pods: no field of them has to be removed any more."""
    return {uid: {} if "end" in entry else entry for uid, entry in entries.items()}
