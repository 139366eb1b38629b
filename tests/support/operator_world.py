"""A whole small world around the operator: cluster, kubelet, coordinator, training, and time.

All is in one process and nothing waits: a test moves the clock, lets the world act, and looks at what stands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.directives import Command, Directives
from footplate_contracts.names import Cause, Env, Reason, RunUid
from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_operator.errors import OperatorError
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.actor import Actor
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.handlers import Handlers
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.runtime.metrics import Metrics
from footplate_operator.runtime.objects import Key
from footplate_operator.runtime.reconcile import Reconciler
from footplate_operator.runtime.status_writer import StatusWriter
from footplate_operator.scope import Scope
from footplate_operator.tariff.tariffs import KINDS as TARIFF_KINDS
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.coordinator_client import CoordinatorEndpoint
from footplate_operator.trainingrun.metrics import RunMetrics
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import Clock, FakeCluster, copied
from tests.support.operator_fakes import (
    API,
    DEFAULTS,
    EVERY_STEPS,
    NAME,
    PATIENCE,
    RELEASE,
    FakeCoordinator,
    FakeHistories,
    FakeKeys,
    FakeQueue,
    Watches,
    hide_secrets,
    identity,
    profile_manifest,
    run_manifest,
    services_of,
)

RESYNC_SECONDS = 300.0


async def running(**spec: Any) -> World:
    """A world whose run trains."""
    world = World()
    world.submit(**spec)
    await world.live(30, until=lambda: world.phase == "Running")
    return world


class World:
    """Cluster, nodes and time; `operator` is replaced when it dies."""

    def __init__(self) -> None:
        self.clock = Clock()
        kinds = (TRAINING_RUN, PROFILE, USAGE_RECORD, *TARIFF_KINDS)
        self.cluster = FakeCluster(self.clock, kinds=kinds)
        self.cluster.watches.append(lambda event, body: self.watches.note(event, body))
        hide_secrets(self.cluster)
        self.coordinators: dict[str, FakeCoordinator] = {}  # by pod name
        self.saved: dict[str, CheckpointRecord] = {}  # by uid of the run: the shared volume
        self.kubelet_works = True
        self.unreachable: set[str] = set()  # uids of pods whose node is dead
        self.trains = True
        self.addresses = 0
        self.histories = FakeHistories()
        self.api = API
        self.scope, self.defaults = Scope(), DEFAULTS
        self.keys = FakeKeys()
        self.start_operator()

    # -- the operator ------------------------------------------------------------------

    def start_operator(self) -> None:
        """A new process: it knows what the API server tells, and nothing else."""
        self.queue = FakeQueue(self.clock)
        self.metrics = Metrics()
        self.followed: dict[RunUid, CoordinatorEndpoint] = {}
        self.key_of: dict[RunUid, Key] = {}
        self.heard: dict[RunUid, CoordinatorState] = {}
        services = services_of(self.cluster, self.clock, self.queue.add, self.api, self.scope, self.keys)
        told = (self.histories, self.defaults, RunMetrics(self.metrics.registry), RELEASE)
        self.cache = Cache(controller := TrainingRunController(services, self, *told))
        self.recorder = services.usage
        self.usage, self.prices = self.recorder.tracker, self.recorder.prices
        actor = Actor(controller, self.cluster, self.cache)
        writer = StatusWriter(controller, self.cluster, self.cache, self.queue, self.clock, "operator")
        works = (self.queue, actor, writer, self.clock, RESYNC_SECONDS)
        self.reconciler = Reconciler(controller, self.cluster, self.cache, *works)
        self.handlers = Handlers(controller, self.cache, self.queue).watches()
        self.watches = Watches(copied(body) for kind in self.handlers for body in self.cluster.all(kind))

    async def reconcile(self) -> int:
        """Work on what is due until nothing is; the number of reconciliations."""
        count = 0
        await self.watches.deliver(self.handlers)
        while keys := self.queue.ready():
            for key in keys:
                count += 1
                assert count < 200, "the operator never comes to rest"
                try:
                    await self.reconciler(key)
                except OperatorError:
                    self.queue.add_after(key, 1.0)
            await self.watches.deliver(self.handlers)
        return count

    # -- Coordinators, as the operator sees them ------------------------------------------

    def state(self, uid: RunUid) -> CoordinatorState:
        return self.heard.get(uid, CoordinatorState.empty())

    def follow(self, key: Key, uid: RunUid, endpoint: CoordinatorEndpoint) -> None:
        self.followed[uid] = endpoint
        self.key_of[uid] = key

    def unfollow(self, uid: RunUid) -> None:
        self.followed.pop(uid, None)

    def forget(self, uid: RunUid) -> None:
        self.unfollow(uid)
        self.heard.pop(uid, None)

    def silence(self, uid: RunUid) -> float:
        return 0.0

    def unanswered(self, uid: RunUid) -> tuple[str, float]:
        return "", 0.0

    def send_directives(self, uid: RunUid, directives: Directives | None) -> None:
        coordinator = self._followed(uid)
        if coordinator is None or directives is None:
            return
        coordinator.direct(directives)
        self.heard[uid] = coordinator.view(self._seconds())

    # -- time ----------------------------------------------------------------------------

    async def live(self, seconds: float, until: Callable[[], bool] | None = None) -> None:
        """Let the world go on, half a second at a time; `until` ends it, or the test fails."""
        for _ in range(int(seconds * 2)):
            await self.reconcile()
            await self.usage.write_due()
            if until is not None and until():
                return
            self.pass_unseen(0.5)
            self._speak()
        await self.reconcile()
        assert until is None or until(), self.describe()

    def pass_unseen(self, seconds: float) -> None:
        """Let the world go on while nobody operates it."""
        for _ in range(int(seconds * 2)):
            self.clock.advance(0.5)
            self._kubelet()
            self._train()

    def _kubelet(self) -> None:
        if not self.kubelet_works:
            return
        for pod in self.cluster.all(POD):
            name, status = pod["metadata"]["name"], pod.get("status", {})
            if pod["metadata"]["uid"] in self.unreachable:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                self.cluster.bury(POD, name)
            elif status.get("phase") == "Pending" and not status.get("containerStatuses"):
                self.addresses += 1
                self.start_pod(name, f"10.0.0.{self.addresses}")
            elif pod["spec"].get("activeDeadlineSeconds") and status.get("phase") == "Running":
                self.end_pod(name, 137, reason="DeadlineExceeded")

    def start_pod(self, name: str, address: str) -> None:
        """The kubelet has started it."""
        pod = copied(self.cluster.objects[POD, name])
        pod["spec"]["nodeName"] = self.node_of(name)
        pod["status"] = {
            "phase": "Running",
            "podIP": address,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": self._now()}],
            "containerStatuses": [{"state": {"running": {"startedAt": self._now()}}}],
        }
        self.cluster.put(pod)

    def node_of(self, pod: str) -> str:
        """Return the node that the pod of this name is bound to."""
        return f"node-{len(pod) % 3}"

    def end_pod(
        self, name: str, code: int, reason: str = "", terminated: str = "", message: str = ""
    ) -> None:
        """Its container has ended."""
        pod = copied(self.cluster.objects[POD, name])
        ended = {
            "exitCode": code,
            "reason": terminated or ("Completed" if code == 0 else "Error"),
            "startedAt": self._now(),
            "finishedAt": self._now(),
        }
        pod["status"] |= {
            "phase": "Succeeded" if code == 0 else "Failed",
            "containerStatuses": [{"state": {"terminated": ended}}],
        }
        pod["status"] |= ({"reason": reason} if reason else {}) | ({"message": message} if message else {})
        self.cluster.put(pod)

    def _train(self) -> None:
        for pod in self._pods("coordinator"):
            if pod.get("status", {}).get("phase") != "Running":
                continue
            coordinator = self._coordinator(pod)
            uid = pod["metadata"]["labels"]["footplate.dev/run-uid"]
            spares = self._running("spare", uid)
            running = [
                *self._running("worker", uid),
                *(worker for worker in map(coordinator.as_worker, spares) if worker),
            ]
            workers = {identity(pod).index: pod for pod in running}
            coordinator.spares = [spare for spare in spares if coordinator.as_worker(spare) is None]
            self._advance(coordinator, workers, uid)

    def _advance(self, coordinator: FakeCoordinator, workers: dict[int, Json], uid: RunUid) -> None:
        if coordinator.state in (RunState.FINISHED, RunState.SUSPENDED):
            return
        uids = {index: pod["metadata"]["uid"] for index, pod in workers.items()}
        members = {index: pod["metadata"]["uid"] for index, pod in coordinator.members.items()}
        lost = next((index for index in members if uids.get(index) != members[index]), None)
        if coordinator.state in (RunState.TRAINING, RunState.LOADING) and lost is not None:
            gone = coordinator.members[lost]
            coordinator.here.discard(lost)
            coordinator.fail(
                Cause.NODE_LOST, Reason.AGENT_LOST, "its connection ended", gone, self._seconds()
            )
            return
        wanted = {index: pod for index, pod in workers.items() if index < coordinator.nodes}
        if coordinator.state is RunState.GATHERING:
            coordinator.gathered += 1
            for index in sorted(set(range(coordinator.nodes)) - wanted.keys()) if coordinator.number else ():
                if coordinator.spares:
                    wanted[index] = coordinator.promote(coordinator.spares.pop(0), index)
            coordinator.here = set(wanted)
            if coordinator.directives.command is Command.CHECKPOINT_AND_EXIT:
                coordinator.state = RunState.SUSPENDED
            elif len(wanted) >= (
                coordinator.fewest if coordinator.gathered > PATIENCE else coordinator.nodes
            ):
                coordinator.gathered = 0
                coordinator.members = wanted
                coordinator.number += 1
                coordinator.generation = GenerationId(epoch=coordinator.epoch, number=coordinator.number)
                coordinator.state = RunState.LOADING
                saved = self.saved.get(uid)
                coordinator.start_step = coordinator.step = saved.step if saved else 0
            coordinator.version += 1
            return
        if not self.trains:
            return
        if coordinator.directives.command is Command.CHECKPOINT_AND_EXIT:
            self._save(coordinator, uid)
            coordinator.state = RunState.SUSPENDED
            for pod in workers.values():
                self.end_pod(pod["metadata"]["name"], 79)
        else:
            coordinator.state = RunState.TRAINING
            coordinator.step = min(coordinator.step + 5, coordinator.total_steps)
            if coordinator.step % EVERY_STEPS == 0:
                self._save(coordinator, uid)
                if wanted.keys() != coordinator.members.keys():
                    coordinator.state = RunState.GATHERING
            if coordinator.step == coordinator.total_steps:
                coordinator.state = RunState.FINISHED
                for pod in workers.values():
                    self.end_pod(pod["metadata"]["name"], 0)
        coordinator.version += 1

    def _save(self, coordinator: FakeCoordinator, uid: RunUid) -> None:
        self.saved[uid] = coordinator.save(self._seconds())

    def _speak(self) -> None:
        for uid in list(self.followed):
            coordinator = self._followed(uid)
            if coordinator is None or not coordinator.reachable:
                continue
            view = coordinator.view(self._seconds())
            if self.heard.get(uid) != view:
                self.heard[uid] = view
                self.queue.add(self.key_of[uid])

    # -- looking -------------------------------------------------------------------------

    def submit(self, **spec: Any) -> str:
        """Create the run (and its profile, unless it is there); its uid."""
        if (PROFILE, "local-cpu") not in self.cluster.objects:
            self.cluster.put(profile_manifest())
        return str(self.cluster.put(run_manifest(**spec))["metadata"]["uid"])

    def change(self, **spec: Any) -> None:
        """Edit the run's spec."""
        body = copied(self.run)
        body["spec"] |= spec
        body["metadata"]["generation"] += 1
        self.cluster.put(body)

    @property
    def run(self) -> Json:
        """The TrainingRun."""
        return self.cluster.objects[TRAINING_RUN, NAME]

    @property
    def status(self) -> Json:
        """Its status, empty before there is one."""
        status: Json = self.run.get("status", {})
        return status

    @property
    def phase(self) -> str:
        """Its phase."""
        return str(self.status.get("phase", ""))

    def condition(self, kind: str) -> Json:
        """One condition, empty before there is one."""
        found = [condition for condition in self.status.get("conditions", []) if condition["type"] == kind]
        return found[0] if found else {}

    def workers(self, phase: str = "") -> list[str]:
        """Names of worker pods, of all or of those in `phase`."""
        return [
            pod["metadata"]["name"]
            for pod in self._pods("worker")
            if not phase or pod.get("status", {}).get("phase") == phase
        ]

    def coordinator(self) -> FakeCoordinator:
        """The coordinator with the highest epoch."""
        return max(self.coordinators.values(), key=lambda coordinator: coordinator.epoch)

    def describe(self) -> str:
        """For the message of a test that fails."""
        pods = {pod["metadata"]["name"]: pod.get("status", {}).get("phase") for pod in self.cluster.all(POD)}
        return f"phase {self.phase}, pods {pods}, conditions {self.status.get('conditions')}"

    # -- particulars ---------------------------------------------------------------------

    def _pods(self, role: str) -> list[Json]:
        pods = self.cluster.all(POD)
        return [pod for pod in pods if pod["metadata"]["labels"].get("footplate.dev/role") == role]

    def _running(self, role: str, uid: RunUid) -> list[Json]:
        running = [
            pod
            for pod in self._pods(role)
            if pod["metadata"]["labels"]["footplate.dev/run-uid"] == uid
            and pod.get("status", {}).get("phase") == "Running"
            and "deletionTimestamp" not in pod["metadata"]
        ]
        return sorted(running, key=lambda pod: identity(pod).incarnation)

    def _coordinator(self, pod: Json) -> FakeCoordinator:
        name = pod["metadata"]["name"]
        if name not in self.coordinators:
            epoch = int(pod["metadata"]["labels"]["footplate.dev/epoch"])
            told = {
                variable["name"]: variable.get("value", "")
                for variable in pod["spec"]["containers"][0]["env"]
            }
            uid = pod["metadata"]["labels"]["footplate.dev/run-uid"]
            wanted = Directives.model_validate_json(told[Env.DIRECTIVES])
            coordinator = FakeCoordinator(epoch, wanted, run=uid)
            known = self.coordinators.values()
            before = [other for other in known if (other.epoch, other.run) == (epoch - 1, uid)]
            if before and before[0].state in (RunState.TRAINING, RunState.LOADING):
                coordinator.adopt(before[0])
            self.coordinators[name] = coordinator
        return self.coordinators[name]

    def _followed(self, uid: RunUid) -> FakeCoordinator | None:
        endpoint = self.followed.get(uid)
        for pod in self._pods("coordinator"):
            running = pod.get("status", {}).get("phase") == "Running"
            if endpoint is not None and pod["metadata"]["uid"] == endpoint.pod_uid and running:
                return self._coordinator(pod)
        return None

    def _now(self) -> str:
        return self.clock().isoformat()

    def _seconds(self) -> float:
        return self.clock().timestamp()
