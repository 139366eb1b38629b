"""Observed state of a run in the cluster, reduced to the fields that decisions read.

Whole pods would be a hundred times larger in memory than these views, and a
thousand runs have ten thousand of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from functools import cached_property
from typing import Any, Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import PROFILE_LABEL, Env, Role, WorkerId
from footplate_contracts.v1alpha1.references import DependentRun
from footplate_ledger.account import Tariff
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.runtime.clock import parse_time
from footplate_operator.runtime.conditions import NewCondition
from footplate_operator.runtime.decision import ReconcileProblem
from footplate_operator.runtime.kinds import POD, Json, Kind
from footplate_operator.runtime.objects import Child, controller_of
from footplate_operator.trainingrun.containers import PodContainers
from footplate_operator.trainingrun.packing import GangPacking
from footplate_operator.trainingrun.slots import pod_slot
from footplate_operator.usage.owner_usage import OwnerUsage
from footplate_operator.usage.pod_observation import PodObservation, observe_pod

# What a kubelet says of a pod that it does not admit; those for a resource begin alike (OutOfcpu).
_REJECTIONS: Final = frozenset({"UnexpectedAdmissionError", "NodeAffinity", "TopologyAffinityError"})


@dataclass(frozen=True, kw_only=True)
class PodView(Child):
    """View of one pod of a run."""

    kind: Kind = POD
    role: str
    created: datetime
    index: int = 0  # workers
    incarnation: int = 0  # workers
    epoch: int = 0  # coordinators
    api_url: str = ""  # coordinators: where they bring their telemetry
    edited_labels: Mapping[str, str] = field(default_factory=dict)  # that somebody changed, as they should be
    phase: str = "Pending"
    node: str = ""
    address: str = ""
    started: bool = False  # its main container has run
    lingers: bool = False  # sidecars run on though that has ended
    waiting_reason: str = ""
    waiting_message: str = ""
    exit_code: int | None = None
    terminated_reason: str = ""
    finished: datetime | None = None  # as its kubelet's clock says, which decides nothing
    lived: float | None = None  # seconds from its start to its end, both by that clock; None without one
    ended_since: datetime | None = None  # since when it was seen to have ended; not in the pod
    ready: bool = False
    unready_since: datetime | None = None  # since when it was seen to run and not to be ready; not in the pod
    seen_since: datetime | None = None  # not in the pod either
    ran_since: datetime | None = None  # since when it was seen to run; not in the pod either
    accepted: bool = False  # a kubelet has taken note of it
    bound_since: datetime | None = None  # since when it was seen to be bound; not in the pod either
    avoids: frozenset[str] = frozenset()  # nodes that it must not be put on
    unschedulable: str = ""  # the scheduler's message
    disruption: str = ""  # reason of the condition DisruptionTarget
    reason: str = ""  # status.reason, as in Evicted
    message: str = ""  # status.message, else the last lines of the container that ended
    deadline: bool = False  # activeDeadlineSeconds is set: it was told to stop
    mount_error: str = ""  # from an Event; the pod itself does not say it
    has_claims: bool = False  # of dynamic resource allocation
    claim_error: str = ""  # from an Event, too
    held_since: datetime | None = None  # since when it waits for what it waits for; not in the pod either
    node_lost: str = ""  # why Kubernetes holds its node to be gone; the Node object says so
    notice: str = ""  # why it should leave its node, which is about to end; empty: it should not
    noticed_since: datetime | None = None  # not in the pod either
    cordoned: bool = False  # `notice` is of a cordon alone: a worker stays until a substitute waits
    sighting: PodObservation = field(default_factory=PodObservation)  # of its usage

    @property
    def worker(self) -> WorkerId:
        """Slot and incarnation; of workers."""
        return WorkerId(self.index, self.incarnation)

    @cached_property
    def ended(self) -> bool:
        """True once its main container has ended for good."""
        return self.phase in ("Succeeded", "Failed")

    @cached_property
    def live(self) -> bool:
        """True while it runs or may still come to run."""
        return not self.ended and not self.terminating

    @property
    def unbound(self) -> bool:
        """True while it waits for a node."""
        return self.live and not self.node and not self.accepted

    def unready_for(self, now: datetime) -> float:
        """Return the seconds for which it was observed not ready, though it ran; 0 while it is ready."""
        if self.ready or self.unready_since is None:
            return 0.0
        return (now - self.unready_since).total_seconds()

    def seen_for(self, now: datetime) -> float:
        """Return the seconds since it was first observed."""
        return (now - self.seen_since).total_seconds() if self.seen_since else 0.0

    def running_for(self, now: datetime) -> float:
        """Return the seconds since its container was first observed to run."""
        return (now - self.ran_since).total_seconds() if self.ran_since else 0.0

    def noticed_for(self, now: datetime) -> float:
        """Return the seconds since it was observed that it should leave its node; 0 if it should not."""
        return (now - self.noticed_since).total_seconds() if self.noticed_since else 0.0

    @property
    def rejected(self) -> bool:
        """True if its kubelet rejected it, for want of a device or a resource."""
        return self.phase == "Failed" and not self.started and self._refusal

    @property
    def _refusal(self) -> bool:
        return self.reason in _REJECTIONS or self.reason.startswith("OutOf")

    def stuck_for(self, now: datetime) -> float:
        """Return the seconds for which something has held it up on the node that it is bound to."""
        held = self.live and bool(self.node) and not self.started and self.held_since is not None
        return (now - self.held_since).total_seconds() if held and self.held_since else 0.0

    def bound_for(self, now: datetime) -> float:
        """Return the seconds since it was observed to be bound to its node."""
        return (now - self.bound_since).total_seconds() if self.bound_since else 0.0

    def unaccepted_for(self, now: datetime) -> float:
        """Return the seconds since it was bound to a node, without a status from that node's kubelet."""
        return 0.0 if self.accepted or self.started else self.bound_for(now)

    @property
    def end(self) -> datetime:
        """Time at which its end was first observed; its creation time if nobody noted that."""
        return self.ended_since or self.created

    @property
    def order(self) -> tuple[int, int]:
        """Sort key that grows with every pod of a role."""
        return self.epoch, self.incarnation


@dataclass(frozen=True)
class LostWorker:
    """Slot whose pod is gone."""

    index: int
    pod: PodView | None  # what is left of it, if anything


@dataclass(frozen=True)
class ApiEndpoint:
    """URL to which coordinators send their telemetry; empty: none."""

    url: str = ""
    # Certificates in PEM that vouch for it, empty while they are not known; None: those of the image.
    bundle: str | None = None

    @property
    def uses_ca_bundle(self) -> bool:
        """True if coordinators get a CA bundle for it."""
        return self.url.startswith("https://") and self.bundle is not None


@dataclass(frozen=True)
class RecordingStatus:
    """Last answer of the API to the query for a run's final status."""

    known: bool = False  # it has it
    said: str = ""  # why it has not; empty where it did not answer yet
    asked_for: float = 0.0  # seconds since it was asked first


@dataclass(frozen=True)
class AvoidedNodes:
    """Nodes that a run avoids because of its own pods' failures there."""

    refused: frozenset[str] = frozenset()  # where a pod could not start of late, or was not reached
    broken: frozenset[str] = frozenset()  # whose GPUs are broken, which does no coordinator harm
    dropped: tuple[str, ...] = ()  # that should be avoided, too, and found no room in the list just now


@dataclass(frozen=True)
class GangTurn:
    """Position of a gang in its profile's queue, and its permission to create pods."""

    granted: bool = True
    place: int = 1
    waiting: int = 1  # gangs in the line, itself included
    contested: bool = False  # another gang could gather now
    yields: bool = False  # a running gang is short of a pod
    retry: datetime | None = None  # when it may gather at the latest, though nothing changes before


class BudgetLevel(IntEnum):
    """Level of spending."""

    WITHIN = 0
    NEARLY = 1
    EXCEEDED = 2


@dataclass(frozen=True)
class BudgetAssessment:
    """Assessment of one run's budget, by one account.

    `exceeded` says why to suspend the run, empty for no reason; `look_after` are seconds until the result may
    change without news; `nearly` are amounts of which 80 % are spent.
    """

    level: BudgetLevel
    condition: NewCondition
    exceeded: str = ""
    look_after: int | None = None
    nearly: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observed:
    """Input of a decision about one run: everything that was observed."""

    pods: Sequence[PodView] = ()
    children: Sequence[Child] = ()
    # Pods of deleted runs of the same name, which may be Terminating on a dead node for long.
    predecessors: Sequence[PodView] = ()
    coordinator: CoordinatorState = field(default_factory=CoordinatorState.empty)  # as it answered last
    silence: float = 0.0  # seconds for which the coordinator that is listened to has not answered
    edited: Sequence[tuple[Child, Json]] = ()  # children that somebody changed, and as they should be
    insisted: Child | None = None  # one that somebody changes again and again
    avoided: AvoidedNodes = AvoidedNodes()
    ending: frozenset[str] = frozenset()  # nodes that are about to end, though the scheduler would use them
    packing: GangPacking | None = None  # of a run whose workers share a topology domain
    problem: ReconcileProblem | None = None
    hindered: bool = False  # something could not be made just now, of which nothing is said yet
    profiles: frozenset[str] = frozenset()  # names of those that there are
    # Of a run that was admitted: why its profile is of no use now, or what of it has changed since.
    profile: ReconcileProblem | Sequence[str] = ()
    # Of a run that may train: as in its Secret, though somebody deleted it, or fresh ones.
    credentials: RunCredentials | None = None
    home: str = ""  # the operator's own namespace
    secret_missed: bool = False  # by a pod; nobody here may look whether it is there
    api: ApiEndpoint = ApiEndpoint()
    recorded: RecordingStatus | None = None  # of a run that has ended; None: no API is known
    followers: Sequence[DependentRun] = ()  # runs that wait for its checkpoints, or stand on them
    awaited: bool = False  # it has ended, and one of them may still be given one
    usage: OwnerUsage | None = None  # of its pods, those that are gone included; None: it is not known yet
    turn: GangTurn = field(default_factory=GangTurn)  # among the gangs that wait for nodes of its profile
    # When an autoscaler said that it adds nodes for one of its pods.
    scaled_up: datetime | None = None
    tariff: Tariff | None = None  # prices and intensities; None: they are not known yet
    spending: BudgetAssessment | None = None  # of its budget; None: it has none

    @property
    def may_create(self) -> bool:
        """True if missing children may be created; False right after a refusal."""
        return self.problem is None and not self.hindered

    def with_pods(self, changed: Iterable[PodView]) -> Observed:
        """Return a copy with `changed` in place of the pods that have their uids."""
        by_uid = {pod.uid: pod for pod in changed}
        return replace(self, pods=tuple(by_uid.get(pod.uid, pod) for pod in self.pods))

    @cached_property
    def workers(self) -> list[PodView]:
        """Worker pods, any state."""
        return [pod for pod in self.pods if pod.role == Role.WORKER]

    @cached_property
    def spares(self) -> list[PodView]:
        """Spare pods that have no slot yet, any state."""
        return [pod for pod in self.pods if pod.role == Role.SPARE]

    @cached_property
    def gang(self) -> list[PodView]:
        """All pods that take a node: workers and spares."""
        return self.workers + self.spares

    @cached_property
    def coordinators(self) -> list[PodView]:
        """Coordinator pods, any state."""
        return [pod for pod in self.pods if pod.role == Role.COORDINATOR]

    @property
    def reachable_coordinator(self) -> PodView | None:
        """Newest live coordinator that has an address; None if there is none."""
        found = [pod for pod in self.coordinators if pod.live and pod.address]
        return max(found, key=lambda pod: pod.epoch, default=None)

    def of_kind(self, *kinds: Kind) -> tuple[Child, ...]:
        """Return the children of these kinds."""
        return tuple(child for child in self.children if child.kind in kinds)

    def has(self, kind: Kind, name: str) -> bool:
        """Return whether the child exists."""
        return any(child.kind == kind and child.name == name for child in self.children)


def live_nodes(pods: Iterable[PodView]) -> list[str]:
    """Return the nodes of live `pods`, by slot."""
    return [pod.node for pod in sorted(pods, key=lambda pod: pod.index) if pod.live]


def by_index(pods: Iterable[PodView]) -> dict[int, list[PodView]]:
    """Group the pods of one role by slot, the oldest pod of each slot first."""
    found: dict[int, list[PodView]] = {}
    for pod in sorted(pods, key=lambda pod: pod.incarnation):
        found.setdefault(pod.index, []).append(pod)
    return found


def view_pod(pod: Mapping[str, Any]) -> PodView:
    """Return the view of a pod object from the API server."""
    metadata, spec, status = pod["metadata"], pod.get("spec", {}), pod.get("status", {})
    slot = pod_slot(pod)
    conditions = {condition["type"]: condition for condition in status.get("conditions", [])}
    containers = PodContainers(spec, status)
    waiting, ended = containers.waiting, containers.end
    ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=str(controller_of(pod).get("uid", "")),
        role=slot.role,
        created=parse_time(metadata["creationTimestamp"]),
        namespace=metadata.get("namespace", ""),
        version=int(metadata.get("resourceVersion") or 0),
        index=slot.index,
        incarnation=slot.incarnation,
        epoch=slot.epoch,
        api_url=containers.variable(Env.API_URL) if slot.role == Role.COORDINATOR else "",
        edited_labels=slot.edited,
        phase=containers.phase,
        terminating="deletionTimestamp" in metadata,
        node=spec.get("nodeName", ""),
        address=status.get("podIP", ""),
        started=containers.started,
        lingers=containers.has_running_sidecars,
        waiting_reason=waiting.get("reason", ""),
        waiting_message=waiting.get("message", "")[:1024],
        exit_code=ended.get("exitCode"),
        terminated_reason=ended.get("reason", ""),
        finished=parse_time(ended["finishedAt"]) if ended.get("finishedAt") else None,
        lived=containers.run_seconds,
        ready=containers.is_ready(ready),
        accepted="startTime" in status or containers.any_shown,
        avoids=_avoided(spec),
        unschedulable=scheduled.get("message", "")[:1024] if scheduled.get("status") == "False" else "",
        disruption=_true_reason(conditions.get("DisruptionTarget", {})),
        reason=containers.reason,
        message=containers.message,
        deadline="activeDeadlineSeconds" in spec,
        has_claims=bool(spec.get("resourceClaims")),
        sighting=observe_pod(pod, slot.role, metadata.get("labels", {}).get(PROFILE_LABEL, "")),
    )


def _avoided(spec: Mapping[str, Any]) -> frozenset[str]:
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {})
    fields = [
        field for term in required.get("nodeSelectorTerms", []) for field in term.get("matchFields", [])
    ]
    return frozenset(name for field in fields if field["operator"] == "NotIn" for name in field["values"])


def _true_reason(condition: Mapping[str, Any]) -> str:
    return str(condition.get("reason") or "Disrupted") if condition.get("status") == "True" else ""
