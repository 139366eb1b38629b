"""What surrounds the operator in its tests: manifests, a work-queue, a coordinator.

The coordinator keeps the contract of the real one: it seals a generation when every worker is there, and
trains until something breaks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry

from footplate_contracts.coordinator_state import CoordinatorState, NumberedFailure, Progress, RunState
from footplate_contracts.directives import LATER_DIRECTIVES, Directives, HangTimeouts
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import FIRST_SPARE, Cause, RunUid, WorkerId
from footplate_contracts.rendezvous import AgentIdentity, Member
from footplate_contracts.reports import (
    CheckpointRecord,
    DroppedTelemetry,
    GenerationId,
    RankPhase,
    RetainedCheckpoint,
)
from footplate_contracts.v1alpha1.types import MOST_STANDING
from footplate_operator.api_access import ApiAccess
from footplate_operator.errors import RequestForbidden
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials, derive_credentials, key_id
from footplate_operator.keys.keyring import CredentialSource
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.fence import FencedCluster
from footplate_operator.runtime.handlers import Handler
from footplate_operator.runtime.kinds import SECRET, Json, Kind
from footplate_operator.runtime.objects import Key
from footplate_operator.scope import EVERYTHING, Scope
from footplate_operator.services import Services
from footplate_operator.trainingrun.history_client import FinalStatus, RecordingTracker
from footplate_operator.trainingrun.observation import RecordingStatus
from footplate_operator.trainingrun.revision import Defaults
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.recorder import UsageRecorder
from tests.support.fake_cluster import Clock, FakeCluster, copied

DEFAULTS = Defaults(trainer_image="trainer:1", coordinator_image="coordinator:1", api_url="http://api")
API = ApiAccess(DEFAULTS.api_url)
NAME = "tiny"
RELEASE = "1.2.3"  # of the operator
KEY = Key("default", NAME)
EVERY_STEPS = 10
HANG = HangTimeouts(factor=3.0, floor_seconds=60.0)
PATIENCE = 10  # looks at a gang that is not complete before fewer go on


def run_manifest(name: str = NAME, **spec: Any) -> Json:
    """A run of two nodes with two ranks each."""
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": "default", "generation": 1},
        "spec": {
            "model": {
                "layers": 2,
                "hiddenSize": 64,
                "attentionHeads": 4,
                "vocabularySize": 512,
                "contextLength": 64,
            },
            "data": {"uri": "/shared/data"},
            "training": {
                "steps": 100,
                "globalBatchSize": 8,
                "microBatchSize": 2,
                "optimizer": {"learningRate": 0.001},
            },
            "compute": {"profile": "local-cpu", "nodes": 2},
            "checkpoint": {"uri": "/shared/checkpoints", "everySteps": EVERY_STEPS},
            **spec,
        },
    }


def profile_manifest(name: str = "local-cpu", **spec: Any) -> Json:
    """Two gloo ranks a node."""
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "ComputeProfile",
        "metadata": {"name": name},
        "spec": {"backend": "gloo", "processesPerNode": 2, **spec},
    }


@dataclass
class FakeQueue:
    """A work-queue whose time is the test's."""

    clock: Clock
    due: dict[Key, float] = field(default_factory=dict)  # seconds of the clock

    def add(self, key: Key) -> None:
        self.due[key] = 0.0

    def add_last(self, key: Key) -> None:
        self.add(key)

    def add_after(self, key: Key, seconds: float) -> None:
        at = self.clock().timestamp() + seconds
        self.due[key] = min(at, self.due.get(key, at))

    def ready(self) -> list[Key]:
        """Keys whose time has come; they leave the queue."""
        now = self.clock().timestamp()
        keys = [key for key, at in self.due.items() if at <= now]
        for key in keys:
            del self.due[key]
        return keys


@dataclass
class FakeHistories(RecordingTracker):
    """An API that is asked at once; it has every final status unless `missing` says why not."""

    missing: str = ""
    asked_for: float = 0.0
    asked: list[FinalStatus] = field(default_factory=list)  # what it is asked for now

    def get_status(self, final: FinalStatus) -> RecordingStatus:
        return RecordingStatus(not self.missing, self.missing, self.asked_for)

    def start_polling(self, final: FinalStatus) -> None:
        self.asked = [final]

    def stop_polling(self, uid: RunUid) -> None:
        self.asked = []

    def forget(self, uid: RunUid) -> None:
        self.asked = []


def hide_secrets(cluster: FakeCluster) -> None:
    """Refuse whatever a Secret could be read by, as the operator's role does."""
    for verb in ("get", "find", "delete_all", "merge", "replace"):
        cluster.refuse[verb, SECRET] = RequestForbidden("secrets is forbidden", 403, "Forbidden")


@dataclass
class FakeKeys(CredentialSource):
    """A key that is known from the beginning, and what was handed over."""

    key: bytes = bytes(KEY_BYTES)
    handed_over: dict[str, RunCredentials] = field(default_factory=dict)  # by uid of the run

    @property
    def current_key_id(self) -> str:
        return key_id(self.key)

    def credentials(
        self, uid: str, names: Sequence[str], created: datetime, key: str | None
    ) -> RunCredentials | None:
        if key == self.current_key_id:
            return derive_credentials(self.key, uid, names, created)
        return self.handed_over.get(uid)


def services_of(
    cluster: Cluster,
    clock: Callable[[], datetime],
    requeue: Callable[[Key], None],
    api: ApiAccess = API,
    scope: Scope = EVERYTHING,
    credentials: CredentialSource | None = None,
) -> Services:
    """What a kind gets of an operator that leads."""
    fenced = FencedCluster(cluster, lambda: None)
    return Services(
        cluster=fenced,
        clock=clock,
        requeue=requeue,
        registry=CollectorRegistry(),
        api=api,
        scope=scope,
        usage=UsageRecorder(fenced, clock, (TRAINING_RUN,), scope=scope),
        credentials=credentials or FakeKeys(),
    )


@dataclass
class FakeCoordinator:
    """One coordinator pod of one run."""

    epoch: int
    directives: Directives  # as it was told last
    illegal: frozenset[int] = frozenset()  # numbers of nodes that cannot train
    gathered: int = 0
    spares: list[Json] = field(default_factory=list)  # pods that wait
    promoted: dict[str, WorkerId] = field(default_factory=dict)  # spares that are workers now, by uid
    version: int = 1
    state: RunState = RunState.GATHERING
    number: int = 0
    generation: GenerationId | None = None
    members: dict[int, Json] = field(default_factory=dict)  # index -> pod, of the newest generation
    here: set[int] = field(default_factory=set)  # indices of live workers
    step: int = 0
    start_step: int = 0
    checkpoint: CheckpointRecord | None = None
    saved: list[int] = field(default_factory=list)  # steps of all that became durable
    failures: list[NumberedFailure] = field(default_factory=list)
    backlog: int = 0
    given_up: DroppedTelemetry = field(default_factory=DroppedTelemetry)
    refusals: dict[str, str] = field(default_factory=dict)
    total_steps: int = 0  # in force
    nodes: int = 0
    least: int | None = None  # so few may go on
    reachable: bool = True
    saving: bool = False  # all ranks wait for a checkpoint
    sampling: tuple[RankPhase, int] | None = None  # rollout or scoring, and what is finished of it
    run: str = ""  # uid
    standing: dict[int, GenerationId] = field(default_factory=dict)  # checkpoints, newest first
    losses: dict[int, float] = field(default_factory=dict)  # of validation, by step

    def __post_init__(self) -> None:
        self.direct(self.directives)

    def direct(self, directives: Directives) -> None:
        """The operator's word; what cannot be is refused, and the rest holds."""
        self.directives, self.version, self.refusals = directives, self.version + 1, {}
        if directives.nodes in self.illegal:
            self.refusals["nodes"] = f"{directives.nodes} cannot train"
        else:
            self.nodes, self.least = directives.nodes, directives.min_nodes
        assert directives.limits is not None
        steps = directives.limits.steps
        over = self.state is RunState.FINISHED and steps != self.total_steps
        if steps < self.step or over:
            self.refusals["limits"] = f"it is at step {self.step}"
        else:
            self.total_steps = steps

    @property
    def fewest(self) -> int:
        """So few go on."""
        return self.least or self.nodes

    def view(self, now: float) -> CoordinatorState:
        """What the operator is told."""
        return CoordinatorState(
            version=self.version,
            epoch=self.epoch,
            state=self.state,
            directives=self.directives,
            knows=[directive.path for directive in LATER_DIRECTIVES],
            refusals=self.refusals,
            generation=self.generation,
            members=[
                Member(agent=identity(pod), group_rank=index, first_rank=2 * index, store_port=1)
                for index, pod in sorted(self.members.items())
            ],
            waiting=[spare_identity(pod) for pod in self.spares],
            missing=[index for index in range(self.nodes) if index not in self.here],
            progress=Progress(
                step=self.step,
                total_steps=self.total_steps,
                tokens=512 * self.step,
                loss=3.0 if self.step else None,
                step_seconds=0.1,
                time=now if self.step else None,
                saving=self.saving,
                phase=self.sampling[0] if self.sampling else None,
                finished=self.sampling[1] if self.sampling else None,
            ),
            start_step=self.start_step,
            checkpoint=self.checkpoint,
            checkpoint_steps=self.saved[-3:],
            failures=self.failures[-32:],
            failures_by_cause=dict(Counter(failure.failure.cause.value for failure in self.failures)),
            telemetry_backlog=self.backlog,
            given_up=self.given_up,
        )

    def save(self, now: float) -> CheckpointRecord:
        """A checkpoint of its step is durable, and retention removes others."""
        limits = self.directives.limits
        assert limits is not None
        self.saved.append(self.step)
        self.standing[self.step] = GenerationId(epoch=self.epoch, number=self.number)
        steps = sorted(self.standing, reverse=True)
        named = set(limits.kept_steps or ())
        kept = {*steps[: limits.keep_last], *named}
        self.standing = {step: self.standing[step] for step in steps if step in kept}
        told = sorted(self.standing, key=lambda step: (step not in named, -step))[:MOST_STANDING]
        self.checkpoint = CheckpointRecord(
            step=self.step,
            uri=f"/shared/checkpoints/step-{self.step}.e{self.epoch}g{self.number}",
            time=now,
            standing=[
                RetainedCheckpoint(
                    step=step,
                    generation=generation,
                    digest=f"{step:064x}",
                    validation_loss=self.losses.get(step),
                )
                for step, generation in self.standing.items()
                if step in told
            ],
        )
        return self.checkpoint

    def promote(self, pod: Json, index: int) -> Json:
        """A spare takes the slot of worker `index`; the pod as it would be labelled."""
        self.promoted[pod["metadata"]["uid"]] = WorkerId(index, 100 + len(self.promoted))
        worker = self.as_worker(pod)
        assert worker is not None
        return worker

    def as_worker(self, pod: Json) -> Json | None:
        """A spare that has a slot, as it would be labelled; None for one that waits."""
        own = self.promoted.get(pod["metadata"]["uid"])
        if own is None:
            return None
        worker = copied(pod)
        worker["metadata"]["labels"] |= {
            "footplate.dev/index": str(own.index),
            "footplate.dev/incarnation": str(own.incarnation),
        }
        return worker

    def adopt(self, before: FakeCoordinator) -> None:
        """Take over a generation that trains on."""
        self.generation, self.number = before.generation, 0
        self.members, self.step, self.start_step = dict(before.members), before.step, before.start_step
        self.here = set(before.here)
        self.standing = dict(before.standing)
        self.state = RunState.LOADING

    def fail(self, cause: Cause, reason: str, message: str, pod: Json, now: float, **more: Any) -> None:
        """A failure ends the generation."""
        report = FailureReport(cause=cause, reason=reason, message=message, time=now, step=self.step, **more)
        self.failures.append(
            NumberedFailure(
                number=len(self.failures) + 1,
                failure=report,
                agent=identity(pod),
                generation=self.generation,
                checkpoint_step=self.saved[-1] if self.saved else None,
            )
        )
        self.state = RunState.GATHERING
        self.version += 1


def spare_identity(pod: Json) -> AgentIdentity:
    """The agent in a spare pod, which has no slot yet."""
    own = identity(pod)
    return own.model_copy(update={"index": FIRST_SPARE + own.index})


def identity(pod: Json) -> AgentIdentity:
    """The agent that runs in a worker pod."""
    labels = pod["metadata"]["labels"]
    return AgentIdentity(
        index=int(labels["footplate.dev/index"]),
        incarnation=int(labels["footplate.dev/incarnation"]),
        pod_name=pod["metadata"]["name"],
        pod_uid=pod["metadata"]["uid"],
        node_name=pod.get("spec", {}).get("nodeName", ""),
        address=pod.get("status", {}).get("podIP", ""),
        local_world_size=2,
    )


# -- watches ---------------------------------------------------------------------------------------


class Watches:
    """Of one operator process, on all kinds that it watches."""

    def __init__(self, listed: Iterable[Json]) -> None:
        self.cut = False  # what happens now is never told: a list tells no end
        self.late: set[str] = set()  # names of objects that are told of once they are taken out of here
        self.pending = [("ADDED", body) for body in listed]

    def note(self, event: str, body: Json) -> None:
        """Something happened in the cluster."""
        if not self.cut:
            self.pending.append((event, body))

    async def deliver(self, handlers: Mapping[Kind, Handler]) -> None:
        """Tell as kopf does what there is to tell now."""
        by_kind = {(kind.api_version, kind.name): handler for kind, handler in handlers.items()}
        while due := [told for told in self.pending if told[1]["metadata"]["name"] not in self.late]:
            self.pending = [told for told in self.pending if told[1]["metadata"]["name"] in self.late]
            for event, body in due:
                if handler := by_kind.get((body["apiVersion"], body["kind"])):
                    await handler({"type": event, "object": body})
