"""Pods, Nodes and UsageRecords in a fake cluster, and an operator's keeper of usage that may begin anew."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.usagerecord import NodeUsage, PodUsage, UsageRecordSpec
from footplate_ledger.conversion import format_time
from footplate_ledger.usage import MeasuredEnergy, Owner
from footplate_operator.runtime.kinds import NODE, POD, Json
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.node_tracker import NodeUsageTracker
from footplate_operator.usage.owner_usage import OwnerUsage
from footplate_operator.usage.pod_observation import PodObservation, observe_pod
from footplate_operator.usage.pods import PodProfile
from footplate_operator.usage.sweep import Sweeper
from footplate_operator.usage.tracker import UsageTracker
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import Clock, FakeCluster, copied
from tests.support.operator_fakes import run_manifest

NOON: Final = "2026-01-31T12:00:00Z"  # when the clock begins
GPU: Final = "nvidia.com/gpu"
H100: Final = ComputeProfileSpec.from_json(
    {
        "gpu": {
            "count": 8,
            "product": "H100",
            "memoryGiB": 80,
            "peakTflops": {"bf16": 989, "fp32": 67},
            "tdpWatts": 700,
        },
        "processesPerNode": 8,
        "scheduling": {"nodeSelector": {"pool": "h100"}},
    }
)


def node(name: str, created: str, labels: Mapping[str, str] | None = None, **spec: Any) -> Json:
    """A Node with eight devices."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "creationTimestamp": created,
            "labels": {"pool": "h100", **(labels or {})},
        },
        "spec": spec,
        "status": {"allocatable": {"cpu": "16", "memory": "64Gi", GPU: "8"}},
    }


def seen(pod: Json) -> PodObservation:
    """A pod as its kind tells of it."""
    return observe_pod(pod, pod["metadata"]["labels"]["footplate.dev/role"], "h100")


class Bookkeeping:
    """One run, what stands in its cluster, and whoever notes it."""

    def __init__(self, cluster: type[FakeCluster] = FakeCluster) -> None:
        self.clock = Clock()
        self.cluster = cluster(self.clock, kinds=(TRAINING_RUN, USAGE_RECORD))
        self.profiles = {"h100": H100}
        self.priced: set[str] | None = set()  # profiles that have a price
        self.run = self.cluster.put(run_manifest())
        self.measured: dict[str, MeasuredEnergy] = {}
        self.begin()

    def begin(self, days: float = 7.0) -> None:
        """Another operator, which knows nothing."""
        nodes = NodeUsageTracker(self.cluster, self.clock, lambda: self.profiles, lambda at: self.priced)
        self.keeper = UsageTracker(self.cluster, self.clock, nodes, {TRAINING_RUN.name: TRAINING_RUN})
        self.sweeper = Sweeper(self.cluster, self.keeper, timedelta(days=days))
        for body in self.cluster.all(NODE):
            nodes.put(body)

    @property
    def owner(self) -> Owner:
        """The run."""
        return Owner(TRAINING_RUN.name, "default", "tiny", self.run["metadata"]["uid"])

    @property
    def now(self) -> str:
        """As Kubernetes writes it."""
        return format_time(self.keeper.second())

    def bind(self, name: str, place: str = "a", role: Role = Role.WORKER, **requests: str) -> str:
        """A pod that is bound to a node now; its uid."""
        resources = {"requests": requests or {GPU: "8", "cpu": "4"}}
        scheduled = {"type": "PodScheduled", "status": "True", "lastTransitionTime": self.now}
        body = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": {"footplate.dev/role": role.value}},
            "spec": {
                "nodeName": place,
                "containers": [{"name": "main", "resources": resources}],
            },
            "status": {"phase": "Running", "conditions": [scheduled], "containerStatuses": [{"state": {}}]},
        }
        return str(self.cluster.put(body)["metadata"]["uid"])

    def end(self, name: str) -> None:
        """Its container ends now."""
        pod = copied(self.cluster.objects[POD, name])
        ended = {"exitCode": 0, "finishedAt": self.now}
        pod["status"] |= {"phase": "Succeeded", "containerStatuses": [{"state": {"terminated": ended}}]}
        self.cluster.put(pod)

    async def note(self) -> OwnerUsage | None:
        """As a reconciliation does, which sees what there is."""
        pods = [
            observe_pod(pod, pod["metadata"]["labels"]["footplate.dev/role"], "h100")
            for pod in self.cluster.all(POD)
        ]
        return await self.keeper.record_pods(
            self.owner, PodProfile("h100", H100), pods, lambda start: 1, self.measured
        )

    def hear(self, body: Json, gone: bool = False) -> None:
        """As a watch tells of a pod."""
        self.keeper.observe_pod(self.owner, seen(body), gone)

    def records(self) -> dict[str, UsageRecordSpec]:
        """All that are there, by name."""
        bodies = self.cluster.all(USAGE_RECORD)
        return {body["metadata"]["name"]: UsageRecordSpec.from_json(body["spec"]) for body in bodies}

    def pods(self) -> dict[str, PodUsage]:
        """All entries of pods, by the name of the pod."""
        return {pod.name: pod for record in self.records().values() for pod in record.pods.values()}

    def nodes(self) -> dict[str, NodeUsage]:
        """All entries of Nodes, by name."""
        return {node.name: node for record in self.records().values() for node in record.nodes.values()}


async def begun(cluster: type[FakeCluster] = FakeCluster) -> Bookkeeping:
    """A run with one worker on a Node, noted."""
    books = Bookkeeping(cluster)
    books.keeper.nodes.put(books.cluster.put(node("a", NOON)))
    books.bind("w0")
    await books.note()
    return books
