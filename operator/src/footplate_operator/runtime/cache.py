"""What the watches delivered, indexed by run.

Labels are written by anybody: a pod belongs to a run if it lies in its namespace
and the run controls it. Our own writes enter at once, with the answer of the API server: a decision
right after a pod was made must not make it again because the watch is slow. An
older version never replaces a newer one, and a pod that is gone stays gone. Runs
that have ended are many and hardly looked at: they are kept as compressed text, a
tenth of what they take otherwise.
"""

from __future__ import annotations

import json
import zlib
from collections import Counter, OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from footplate_contracts.names import RUN_LABEL, RUN_UID_LABEL, Phase
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.observed import PodView, controller, view_pod
from footplate_operator.trainingrun.run import Key, Undecodable, decode_profile, key_of

_REMEMBERED_GRAVES: Final = 10_000


@dataclass(frozen=True)
class _Known:
    """A run as it was last seen; one that has ended is packed."""

    uid: str
    version: int
    phase: Phase
    profile: str
    body: Json | bytes


class Cache:
    """Runs, profiles and pods as they were last seen."""

    def __init__(self) -> None:
        self._runs: dict[Key, _Known] = {}
        self._live: set[Key] = set()
        self._pods: dict[tuple[str, str], dict[str, PodView]] = {}  # by namespace and uid of the run
        self._graves: OrderedDict[str, None] = OrderedDict()  # uids of objects that are gone
        self.profiles: dict[str, ComputeProfileSpec] = {}
        self.broken_profiles: dict[str, str] = {}  # name -> why it cannot be read

    # -- runs --------------------------------------------------------------------------

    def run(self, key: Key) -> Json | None:
        """The TrainingRun object."""
        known = self._runs.get(key)
        if known is None:
            return None
        if isinstance(known.body, dict):
            return known.body
        unpacked: Json = json.loads(zlib.decompress(known.body))
        return unpacked

    def keys(self) -> Iterator[Key]:
        """Every run."""
        return iter(list(self._runs))

    def put_run(self, body: Json) -> None:
        """A version of a run; an older one than is known counts for nothing."""
        if body["metadata"]["uid"] in self._graves:
            return
        key = key_of(body)
        fresh = _view(body)
        known = self._runs.get(key)
        if known is not None and known.uid == fresh.uid and known.version > fresh.version:
            return
        self._runs[key] = fresh
        (self._live.discard if fresh.phase.terminal else self._live.add)(key)

    def drop_run(self, body: Json) -> None:
        """The run is gone for good."""
        key, uid = key_of(body), body["metadata"]["uid"]
        self._bury(uid)
        known = self._runs.get(key)
        if known is not None and known.uid == uid:
            del self._runs[key]
            self._live.discard(key)

    def phases(self) -> Counter[Phase]:
        """Runs by phase; one without a phase is about to be queued."""
        return Counter(known.phase for known in self._runs.values())

    def live_runs(self) -> int:
        """Runs that have not ended."""
        return len(self._live)

    def waiting_for_profile(self, name: str) -> list[Key]:
        """Runs that are not admitted yet and ask for this profile."""
        return [
            key for key, known in self._runs.items() if known.phase is Phase.QUEUED and known.profile == name
        ]

    # -- profiles ----------------------------------------------------------------------

    def put_profile(self, body: Json) -> None:
        """A ComputeProfile; one that cannot be read is remembered as such."""
        name = body["metadata"]["name"]
        self.drop_profile(name)
        try:
            self.profiles[name] = decode_profile(body)
        except Undecodable as error:
            self.broken_profiles[name] = str(error)

    def drop_profile(self, name: str) -> None:
        """The profile is gone, or about to be put again."""
        self.profiles.pop(name, None)
        self.broken_profiles.pop(name, None)

    # -- pods --------------------------------------------------------------------------

    def pods(self, namespace: str, run_uid: str) -> list[PodView]:
        """Pods of a run."""
        return list(self._pods.get((namespace, run_uid), {}).values())

    def put_pod(self, body: Json) -> None:
        """A version of a pod; an older one than is known counts for nothing."""
        pod = view_pod(body)
        if not pod.run_uid or pod.run_uid != controller(body).get("uid") or pod.uid in self._graves:
            return
        pods = self._pods.setdefault((pod.namespace, pod.run_uid), {})
        known = pods.get(pod.name)
        if known is not None and known.uid == pod.uid and known.version > pod.version:
            return
        pods[pod.name] = pod

    def drop_pod(self, body: Json) -> None:
        """The pod is gone for good."""
        metadata = body["metadata"]
        self._bury(metadata["uid"])
        place = (metadata["namespace"], metadata.get("labels", {}).get(RUN_UID_LABEL, ""))
        pods = self._pods.get(place, {})
        known = pods.get(metadata["name"])
        if known is not None and known.uid == metadata["uid"]:
            del pods[metadata["name"]]
        if not pods:
            self._pods.pop(place, None)

    def set_pods(self, namespace: str, run_uid: str, bodies: list[Json]) -> None:
        """All pods of a run, as a list has just shown them: what is not among them is gone."""
        names = {body["metadata"]["name"] for body in bodies}
        for body in bodies:
            self.put_pod(body)
        pods = self._pods.get((namespace, run_uid), {})
        for name in [name for name in pods if name not in names]:
            del pods[name]

    def mark_terminating(self, pod: PodView) -> None:
        """Its deletion was accepted; the watch will say so in a moment."""
        pods = self._pods.get((pod.namespace, pod.run_uid), {})
        known = pods.get(pod.name)
        if known is not None and known.uid == pod.uid:
            pods[pod.name] = replace(known, terminating=True)

    def forget_pods(self, namespace: str, run_uid: str) -> None:
        """The run is gone, and its pods with it."""
        self._pods.pop((namespace, run_uid), None)

    def _bury(self, uid: str) -> None:
        self._graves[uid] = None
        while len(self._graves) > _REMEMBERED_GRAVES:
            self._graves.popitem(last=False)


def run_of_pod(body: Json) -> Key | None:
    """The run that a pod belongs to, by its labels."""
    metadata = body["metadata"]
    name = metadata.get("labels", {}).get(RUN_LABEL, "")
    return Key(metadata["namespace"], name) if name else None


def _view(body: Json) -> _Known:
    body["metadata"].pop("managedFields", None)
    phase = _phase(body)
    return _Known(
        uid=body["metadata"]["uid"],
        version=int(body["metadata"].get("resourceVersion") or 0),
        phase=phase,
        profile=str(body.get("spec", {}).get("compute", {}).get("profile", "")),
        body=zlib.compress(json.dumps(body).encode()) if phase.terminal else body,
    )


def _phase(body: Json) -> Phase:
    try:
        return Phase(body.get("status", {}).get("phase") or Phase.QUEUED)
    except ValueError:
        return Phase.QUEUED
