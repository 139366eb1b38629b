"""What the pods of a simulated cluster used, by its own times, beside what the operator has recorded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from footplate_contracts.v1alpha1.usagerecord import PodUsage, UsageRecordSpec
from footplate_ledger.conversion import parse_time
from footplate_operator.runtime.kinds import Json
from footplate_operator.usage.writes import USAGE_RECORD

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation


LATE: Final = 120.0  # seconds for which a watch may tell nothing


@dataclass
class Truth:
    """Of one pod that was bound; seconds since 1970."""

    name: str
    node: str
    start: int
    finished: int | None = None
    gone: float | None = None


class UsageTruth:
    """Follows every pod."""

    def __init__(self, world: Simulation) -> None:
        self.pods: dict[str, Truth] = {}  # by uid
        self._world = world
        world.objects.watches.append(self._changed)

    def _changed(self, event: str, body: Json) -> None:
        if body["kind"] != "Pod" or not body["spec"].get("nodeName"):
            return
        uid, conditions = body["metadata"]["uid"], body["status"]["conditions"]
        bound = next(known for known in conditions if known["type"] == "PodScheduled")
        start = parse_time(bound["lastTransitionTime"])
        truth = self.pods.setdefault(uid, Truth(body["metadata"]["name"], body["spec"]["nodeName"], start))
        for shown in body["status"].get("containerStatuses", ()):
            if ended := shown["state"].get("terminated"):
                truth.finished = max(parse_time(ended["finishedAt"]), start)
        if event == "DELETED":
            truth.gone = self._world.seconds()

    def recorded(self) -> dict[str, PodUsage]:
        """What stands in the cluster, by uid of the pod."""
        specs = [UsageRecordSpec.from_json(body["spec"]) for body in self._world.objects.all(USAGE_RECORD)]
        found = [entry for spec in specs for entry in spec.pods.items()]
        assert len(found) == len(dict(found)), "a pod is in two records"
        return dict(found)

    def settled(self) -> bool:
        """Whether everything that is gone is recorded to its end."""
        recorded = self.recorded()
        return all(
            recorded[uid].end is not None if uid in recorded else not self._was_seen(uid)
            for uid, truth in self.pods.items()
            if truth.gone is not None
        )

    def check(self) -> None:
        """That what is recorded is what was so, or says that it is an estimate."""
        assert not (wrong := list(self._wrong())), wrong

    def _wrong(self) -> Iterator[str]:
        recorded = self.recorded()
        yield from (f"{uid} was never bound" for uid in recorded.keys() - self.pods.keys())
        for uid, truth in self.pods.items():
            entry = recorded.get(uid)
            if entry is None:
                if self._was_seen(uid):
                    yield f"{truth.name} is not recorded"
                continue
            if parse_time(entry.start) != truth.start:
                yield f"{truth.name} began at {truth.start}, not {parse_time(entry.start)}"
            if entry.end is None:
                if truth.gone is not None:
                    yield f"{truth.name} has ended"
            elif not entry.estimated and parse_time(entry.end) != truth.finished:
                yield f"{truth.name} ended at {truth.finished}, not {parse_time(entry.end)}"
            elif entry.estimated and truth.gone is not None and parse_time(entry.end) > truth.gone + LATE:
                yield f"{truth.name} was gone at {truth.gone}, not {parse_time(entry.end)}"

    def _was_seen(self, uid: str) -> bool:
        """Whether a pod was shown on its node to somebody who still leads: of others nothing can be known."""
        leaders = [replica for replica in self._world.operators if replica.leads]
        return any(replica.watches is not None and uid in replica.watches.bound for replica in leaders)
