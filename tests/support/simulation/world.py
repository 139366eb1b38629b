"""The whole: what stands where, faults to inject, and what must never be seen."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import random
from collections import defaultdict
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Final

from footplate_contracts.names import RUN_CONFIG_FILE
from footplate_contracts.rendezvous import SealedGeneration
from footplate_contracts.reports import GenerationId, TelemetryBatch
from footplate_elastic.protocol.outline import RunOutline
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, Json
from footplate_operator.tariff.tariffs import KINDS as TARIFF_KINDS
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.writes import USAGE_RECORD
from tests.support.fake_cluster import FakeCluster, copied
from tests.support.operator_fakes import NAME, profile_manifest, run_manifest
from tests.support.simulation import virtual_loop
from tests.support.simulation.agent import Agent
from tests.support.simulation.api_server import ApiServer
from tests.support.simulation.coordinator import CoordinatorProcess
from tests.support.simulation.history import History
from tests.support.simulation.invariants import Invariants, UsageTruth
from tests.support.simulation.network import CONTROL_PLANE, Network, Process
from tests.support.simulation.nodes import GRACE, Nodes
from tests.support.simulation.operator import OperatorReplica
from tests.support.simulation.training import Group, Sampling, Volume, shown
from tests.support.simulation.virtual_loop import Clock

OPERATOR_NODE: Final = "operator-node"
LOOK: Final = 0.1  # seconds between two looks at what is waited for
SAVE: Final = 0.2  # for a rank to write a checkpoint
STEP: Final = 1.0  # seconds of a step
CHECKPOINT: Final = {"uri": "/shared/checkpoints", "everySteps": 10, "emergencyDeadlineSeconds": 30}


class Simulation:
    """One cluster with `nodes` machines and one operator."""

    def __init__(self, seed: int = 0, nodes: int = 3, slots: int = 1, replicas: int = 1) -> None:
        self.chance = random.Random(seed)
        self.clock = Clock()
        self.operators_clock = 0.0  # seconds by which those that start from now on are wrong
        self.pace = STEP
        self.sampling: Sampling | None = None
        self.save_seconds = SAVE
        self.grace = GRACE
        self.api_works = True
        self.network = Network(self.chance)
        self.objects = FakeCluster(self.clock, kinds=(TRAINING_RUN, PROFILE, USAGE_RECORD, *TARIFF_KINDS))
        api = Process(self.network, CONTROL_PLANE, "kube-apiserver")
        self.api = ApiServer(self.network, api, self.objects, self.chance, self.called)
        self.processes: dict[str, Process] = {}  # by address
        self.nodes = Nodes(self, [f"node-{number}" for number in range(nodes)], slots)
        self.steps: list[tuple[float, GenerationId, int]] = []  # when which generation did which
        self.stored: dict[int, GenerationId] = {}  # step -> whose row the API keeps
        self.phases: list[tuple[float, str]] = []
        self._volumes: dict[str, Volume] = defaultdict(Volume)
        self._groups: dict[tuple[str, str], Group] = {}
        self._ports, self._addresses = itertools.count(40_000), itertools.count(1)
        self._names = itertools.count(1)
        self.operators: list[OperatorReplica] = []
        self.objects.watches.append(self._note_phase)
        self.history = History(self)
        self.invariants = Invariants(self)
        self.usage = UsageTruth(self)
        self.objects.put(profile_manifest())
        for _ in range(replicas):
            self.start_operator()

    # -- what a person does --------------------------------------------------------------

    def apply(self, name: str = NAME, **spec: Any) -> None:
        """Create a run, or change its spec."""
        known = self.objects.objects.get((TRAINING_RUN, name))
        if known is None:
            self.objects.put(run_manifest(name, **{"checkpoint": CHECKPOINT, **spec}))
            return
        body = copied(known)
        body["spec"] |= spec
        body["metadata"]["generation"] += 1
        self.objects.put(body)

    def share(self, volume: Volume) -> None:
        """Give the run the folder of another."""
        self._volumes[self.run["metadata"]["uid"]] = volume

    def delete(self) -> None:
        """Delete the run."""
        self.objects.bury(TRAINING_RUN, NAME)

    # -- faults --------------------------------------------------------------------------

    def start_operator(self) -> OperatorReplica:
        """One more replica."""
        replica = OperatorReplica(self, f"operator-{next(self._names)}", OPERATOR_NODE)
        self.operators.append(replica)
        return replica

    def restart_operator(self) -> None:
        """Kill all replicas, and let one start anew."""
        for replica in self.operators:
            replica.kill()
        self.operators.clear()
        self.start_operator()

    def crash_after(self, calls: int) -> None:
        """Replace the operator once it has made so many calls to API server or coordinator."""
        self.api.crash_after = calls

    def called(self) -> None:
        """An operator has made a call that changes something."""
        if self.api.crash_after is None:
            return
        self.api.crash_after -= 1
        if self.api.crash_after == 0:
            self.api.crash_after = None
            asyncio.get_running_loop().call_soon(self.restart_operator)

    def ended_by_itself(self, replica: OperatorReplica) -> None:
        """A replica lost the Lease: its container starts again."""
        asyncio.get_running_loop().call_later(1.0, self._replace, replica)

    def _replace(self, replica: OperatorReplica) -> None:
        if replica in self.operators:
            replica.kill()
            self.operators.remove(replica)
            self.start_operator()

    def power_off(self, node: str) -> None:
        """The machine is gone, without a word."""
        self.network.darken(node)

    def power_on(self, node: str) -> None:
        """It boots, with nothing running."""
        self.network.light(node)
        self.nodes.objects.register(node)

    # -- looking -------------------------------------------------------------------------

    @property
    def run(self) -> Json:
        """The TrainingRun."""
        return self.objects.objects[TRAINING_RUN, NAME]

    @property
    def status(self) -> Json:
        """Its status, empty before there is one."""
        found: Json = self.objects.objects.get((TRAINING_RUN, NAME), {}).get("status", {})
        return found

    @property
    def phase(self) -> str:
        """Its phase."""
        return self.phase_of(NAME)

    def phase_of(self, name: str) -> str:
        """The phase of a run."""
        status = self.objects.objects[TRAINING_RUN, name].get("status", {})
        return str(status.get("phase", ""))

    @property
    def step(self) -> int:
        """The last step that ranks have done."""
        return self.steps[-1][2] if self.steps else -1

    def condition(self, kind: str) -> Json:
        """One condition, empty before there is one."""
        found = [c for c in self.status.get("conditions", []) if c["type"] == kind]
        return found[0] if found else {}

    def nodes_of(self, name: str) -> int:
        """How many nodes a run asks for: what its scale subresource says."""
        return int(self.objects.objects[TRAINING_RUN, name]["spec"]["compute"]["nodes"])

    def pods(self, role: str = "") -> list[Json]:
        """Its pods, or those of one role."""
        return [
            pod
            for pod in self.objects.all(POD)
            if pod["metadata"]["labels"].get("footplate.dev/run") == NAME
            and role in ("", pod["metadata"]["labels"].get("footplate.dev/role"))
        ]

    @property
    def saved(self) -> int:
        """The newest durable step; 0 before there is one."""
        newest = self.volume(self.run["metadata"]["uid"]).newest
        return newest.step if newest else 0

    @property
    def writing(self) -> int:
        """How many agents' ranks write a checkpoint now."""
        return self.volume(self.run["metadata"]["uid"]).writing

    def live_pods(self) -> list[Json]:
        """All pods that have not ended."""
        return [pod for pod in self.pods() if pod["status"].get("phase") not in ("Succeeded", "Failed")]

    def check_history(self, steps: int) -> None:
        """That one history was trained: no older generation after a newer one, all steps, each saved once."""
        generations = [generation for _, generation, _ in self.steps]
        for earlier, later in itertools.pairwise(generations):
            assert not earlier.is_newer_than(later), f"{later} steps after {earlier}"
        assert {step for _, _, step in self.steps} == set(range(1, steps + 1))
        assert set(self.stored) == set(range(1, steps + 1)), "the API has not a row of each"
        trained = self.volume(self.run["metadata"]["uid"]).trained(steps)
        assert shown(self.stored) == trained, "what the API shows is not the history of the weights"
        self.history.check_samples(self.stored)
        self.check_invariants()

    def check_invariants(self) -> None:
        """That nothing was seen which must never be."""
        assert not self.invariants.broken, self.invariants.broken
        assert not self.objects.forced, f"deleted by force while they ran: {self.objects.forced}"
        assert not (twice := [said for volume in self._volumes.values() for said in volume.twice]), twice

    def live_workers(self) -> list[Json]:
        """Worker pods that run."""
        return [
            pod
            for pod in self.pods("worker")
            if pod["status"].get("phase") == "Running" and "deletionTimestamp" not in pod["metadata"]
        ]

    def node_of(self, name: str) -> str:
        """Where a pod is."""
        return str(self.objects.objects[POD, name]["spec"].get("nodeName", ""))

    def agent(self, name: str) -> Agent:
        """The agent in a pod."""
        found = self.process_of(name)
        assert isinstance(found, Agent)
        return found

    def coordinator(self) -> CoordinatorProcess:
        """The live coordinator with the highest epoch."""
        pods = [pod for pod in self.pods("coordinator") if pod["status"].get("podIP")]
        newest = max(pods, key=lambda pod: int(pod["metadata"]["labels"]["footplate.dev/epoch"]))
        found = self.process_of(newest["metadata"]["name"])
        assert isinstance(found, CoordinatorProcess)
        return found

    def process_of(self, name: str) -> Process:
        """The main process of a pod."""
        found = self.process_at(name)
        assert found is not None, f"{name} has not started"
        return found

    def process_at(self, name: str) -> Process | None:
        """The main process of a pod; None before it has started."""
        return self.processes.get(self.objects.objects[POD, name]["status"].get("podIP", ""))

    async def until(self, fulfilled: Callable[[], bool], seconds: float) -> float:
        """Let time pass until `fulfilled`; the seconds that took. Fails after `seconds`."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not fulfilled():
            assert loop.time() - began < seconds, f"not within {seconds:g} s: {self.describe()}"
            await asyncio.sleep(LOOK)
        return loop.time() - began

    async def until_seconds(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def until_steps(self, more: int = 1, seconds: float = 60.0) -> float:
        """Let time pass until ranks have done so many `more` steps; the seconds that took."""
        wanted = len(self.steps) + more
        return await self.until(lambda: len(self.steps) >= wanted, seconds)

    def describe(self) -> str:
        """For the message of a test that fails."""
        pods = {
            pod["metadata"]["name"]: (
                pod["status"].get("phase"),
                pod["spec"].get("nodeName"),
                *(["Terminating"] if "deletionTimestamp" in pod["metadata"] else []),
            )
            for pod in self.pods()
        }
        conditions = {
            c["type"]: (c["status"], c["reason"], c["message"]) for c in self.status.get("conditions", [])
        }
        return f"phase {self.status.get('phase')} at step {self.step}, pods {pods}, conditions {conditions}"

    # -- what processes ask ----------------------------------------------------------------

    def seconds(self, place: str = "") -> float:
        """Since the Unix epoch, as the clock at `place` says; empty: as it is."""
        node = self.nodes.by_name.get(place)
        return self.clock().timestamp() + (node.clock if node is not None else 0.0)

    def step_seconds(self) -> float:
        """Of the next step of a rank."""
        return self.pace * self.chance.uniform(0.95, 1.0)

    def next_port(self) -> int:
        """One that was never used."""
        return next(self._ports)

    def next_address(self) -> str:
        """One that was never used."""
        number = next(self._addresses)
        return f"10.0.{number // 250}.{number % 250 + 1}"

    def run_config(self, pod: Json) -> RunOutline:
        """What is mounted into `pod`."""
        volumes = pod["spec"]["volumes"]
        name = next(volume["configMap"]["name"] for volume in volumes if "configMap" in volume)
        text = self.objects.objects[CONFIG_MAP, name]["data"][RUN_CONFIG_FILE]
        return RunOutline.model_validate_json(text)

    def resolve(self, run_uid: str) -> list[str]:
        """Addresses behind the run's headless Service."""
        found = [
            str(pod["status"]["podIP"])
            for pod in self.objects.all(POD)
            if pod["metadata"]["labels"]["footplate.dev/run-uid"] == run_uid
            and pod["metadata"]["labels"]["footplate.dev/role"] == "coordinator"
            and pod["status"].get("podIP")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]
        self.chance.shuffle(found)
        return found

    def coordinator_at(self, address: str) -> CoordinatorProcess | None:
        """Who listens there."""
        found = self.processes.get(address)
        return found if isinstance(found, CoordinatorProcess) else None

    def agent_at(self, address: str) -> Process | None:
        """Whose store is there."""
        return self.processes.get(address)

    def volume(self, run_uid: str) -> Volume:
        """Where the run's checkpoints are."""
        return self._volumes[run_uid]

    def group(self, run_uid: str, sealed: SealedGeneration) -> Group:
        """The ranks of a generation."""
        key = run_uid, str(sealed.generation)
        if key not in self._groups:
            generation = sealed.generation

            def stepped(step: int) -> None:
                known = self.objects.objects.get((TRAINING_RUN, NAME))
                if known is not None and run_uid == known["metadata"]["uid"]:
                    self.steps.append((asyncio.get_running_loop().time(), generation, step))

            self._groups[key] = Group(sealed, self.network, stepped)
        return self._groups[key]

    def store(self, run_uid: str, batch: TelemetryBatch) -> None:
        """Telemetry has come to the API."""
        self.history.store(batch, self.stored)

    def _note_phase(self, _: str, body: Json) -> None:
        if (body["kind"], body["metadata"]["name"]) == ("TrainingRun", NAME):
            phase = str(body.get("status", {}).get("phase", ""))
            if not self.phases or self.phases[-1][1] != phase:
                self.phases.append((asyncio.get_running_loop().time(), phase))


def simulated(
    seed: int = 0, **world: Any
) -> Callable[[Callable[..., Coroutine[Any, Any, None]]], Callable[..., None]]:
    """Make a test of a story in a Simulation, its first argument; the others are the test's parameters.

    The variable SEED says another seed, to look for one that fails.
    """

    def decorate(story: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
        @wraps(story)
        def test(*arguments: Any, **parameters: Any) -> None:
            async def whole() -> None:
                chosen = int(os.environ.get("SEED", seed))
                await story(Simulation(chosen, **world), *arguments, **parameters)

            virtual_loop.run(whole())

        test.__signature__ = _without_first(story)  # type: ignore[attr-defined]
        return test

    return decorate


def _without_first(story: Callable[..., Any]) -> Any:
    signature = inspect.signature(story)
    return signature.replace(parameters=list(signature.parameters.values())[1:])
