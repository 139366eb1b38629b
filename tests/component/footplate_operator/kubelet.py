"""A kubelet for one namespace: coordinator pods are real processes, workers are small stand-ins.

The coordinator is the program of the image, started with the environment and
the files that its pod asks for; so Secret, ConfigMap, TLS and the long-poll are
the real ones. A stand-in for a worker speaks the agents' protocol and counts
steps instead of training.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import signal
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

from footplate_contracts.directives import Command
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import Env
from footplate_contracts.rendezvous import (
    AgentIdentity,
    Heartbeat,
    HeartbeatResponse,
    JoinRequest,
    SealedGeneration,
)
from footplate_contracts.reports import CheckpointRecord, GenerationId, RankPhase, RankReport, TelemetryItem
from footplate_operator.runtime.kinds import CONFIG_MAP, POD, SECRET
from tests.component.footplate_operator.api import Api
from tests.support import programs
from tests.support.connection import Json

COORDINATOR = "footplate_elastic.coordinator.__main__"
STEP_SECONDS = 0.05


def environment(pod: Json, address: str) -> dict[str, str]:
    """A container's environment as its kubelet would set it."""
    own = {
        "metadata.name": pod["metadata"]["name"],
        "metadata.uid": pod["metadata"]["uid"],
        "status.podIP": address,
        "spec.nodeName": "node-1",
    }
    return {
        variable["name"]: variable["value"]
        if "value" in variable
        else own[variable["valueFrom"]["fieldRef"]["fieldPath"]]
        for variable in pod["spec"]["containers"][0]["env"]
    }


@dataclass
class Node:
    """Starts and ends the pods of one namespace; the nth coordinator listens on `network`.n."""

    api: Api
    folder: Path
    network: str
    processes: dict[str, programs.Program] = field(default_factory=dict)
    agents: dict[str, StandIn] = field(default_factory=dict)
    coordinators: dict[str, str] = field(default_factory=dict)  # pod -> address, as the Service names them
    numbers: Iterator[int] = field(default_factory=lambda: count(1))  # of addresses: no two pods share one
    known: dict[str, str] = field(default_factory=dict)  # uid -> pod: it may have the name of one before it
    working: bool = True
    dead: set[str] = field(default_factory=set)  # uids of pods whose node has died
    # One thing after another, as kubelets do: no word of a start comes after the word of the end.
    turn: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        programs.zygote_of(COORDINATOR)  # by the main thread

    def keep(self, stop: threading.Event) -> None:
        """Work until stopped."""
        while not stop.wait(0.2):
            with self.turn:
                if self.working:
                    self.look()

    def look(self) -> None:
        """Start what waits, report what ended, end what was deleted or is there no more."""
        pods = self.api.find(POD)
        for uid in self.known.keys() - {pod["metadata"]["uid"] for pod in pods}:
            self._finish(self.known.pop(uid))  # of a pod without a node nobody waits for a kubelet's word
        for pod in pods:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            if uid in self.dead:
                continue
            if "deletionTimestamp" in pod["metadata"]:
                self._finish(name)
                self.api.end(name)
            elif uid not in self.known:
                files = self._files(pod)
                if files is not None:  # else they are not there yet, or no more: the next look shows
                    self.known[uid] = name
                    self._start(pod, files)
            elif pod["spec"].get("activeDeadlineSeconds") and pod["status"]["phase"] == "Running":
                self._finish(name)
                self._report(name, 137)
            else:
                self._watch(name, pod)

    def kill(self, name: str, code: int = 137) -> None:
        """The container ends without a word."""
        with self.turn:
            self._finish(name)
            self._report(name, code)

    def die(self) -> None:
        """The node of every pod is gone: nobody ends them, and nobody says that they have ended."""
        with self.turn:
            for pod in self.api.find(POD):
                self.dead.add(pod["metadata"]["uid"])
                self.api.keep(pod["metadata"]["name"])
            self.close()

    def close(self) -> None:
        """End everything that was started."""
        for name in list(self.processes) + list(self.agents):
            self._finish(name)

    def _start(self, pod: Json, files: dict[str, str]) -> None:
        name = pod["metadata"]["name"]
        if pod["metadata"]["labels"]["footplate.dev/role"] == "coordinator":
            address = f"{self.network}.{next(self.numbers)}"
            variables = environment(pod, address) | files
            arguments = ["--bind", address]
            with (self.folder / f"{name}.log").open("ab") as log:
                self.processes[name] = programs.start(
                    COORDINATOR, arguments, {**os.environ, **variables}, log.fileno()
                )
            self.coordinators[name] = address
        else:
            address = "127.0.0.1"
            variables = environment(pod, address) | files
            self.agents[name] = StandIn(variables, lambda: tuple(self.coordinators.values()))
            self.agents[name].thread.start()
        self.api.patch_status(name, _running(address))

    def _files(self, pod: Json) -> dict[str, str] | None:
        """Mounted files, moved into the test's folder, by the variables that name them; None if one lacks."""
        moved: dict[str, str] = {}
        folder = self.folder / pod["metadata"]["name"]
        for volume in pod["spec"]["volumes"]:
            contents: dict[str, bytes] = {}
            if "secret" in volume:
                secret = self.api.get(SECRET, volume["secret"]["secretName"])
                if secret is None:
                    return None
                keys = [item["key"] for item in volume["secret"]["items"]]
                contents = {key: base64.b64decode(secret["data"][key]) for key in keys}
            elif "configMap" in volume:
                found = self.api.get(CONFIG_MAP, volume["configMap"]["name"])
                if found is None:
                    return None
                contents = {key: value.encode() for key, value in found["data"].items()}
            for key, content in contents.items():
                path = folder / volume["name"] / key
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                moved[key] = str(path)
        names = {
            Env.RUN_CONFIG: "run.json",
            Env.RUN_TOKEN_FILE: "token",
            Env.TLS_CERTIFICATE_FILE: "tls.crt",
            Env.TLS_KEY_FILE: "tls.key",
        }
        return {str(name): moved[key] for name, key in names.items() if key in moved}

    def _watch(self, name: str, pod: Json) -> None:
        agent = self.agents.get(name)
        if agent is not None and agent.code is not None and pod["status"]["phase"] == "Running":
            self._report(name, agent.code)

    def _report(self, name: str, code: int) -> None:
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "startedAt": _now()}
        state = {"terminated": {**ended, "finishedAt": _now()}}
        phase = "Failed" if code else "Succeeded"
        self.api.patch_status(name, {"phase": phase, "containerStatuses": [_container(state)]})

    def _finish(self, name: str) -> None:
        self.coordinators.pop(name, None)
        process = self.processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait()
        agent = self.agents.pop(name, None)
        if agent is not None:
            agent.killed.set()
            agent.thread.join(timeout=10)


def _running(address: str) -> Json:
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": _now()}],
        "containerStatuses": [_container({"running": {"startedAt": _now()}})],
    }


def _container(state: Json) -> Json:
    return {"name": "main", "image": "x", "imageID": "", "ready": True, "restartCount": 0, "state": state}


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


class StandIn:
    """An agent of two ranks that steps, saves when told to, and ends as agents end.

    `found` are the addresses of coordinators that run, which a cluster's DNS has for their Service.
    """

    saved: ClassVar[Counter[str]] = Counter()  # newest checkpoints by folder, as on a shared volume

    def __init__(self, variables: dict[str, str], found: Callable[[], Sequence[str]]) -> None:
        config = json.loads(Path(variables[Env.RUN_CONFIG]).read_text())
        self._steps = int(config["training"]["steps"])
        self._folder = config["checkpoint"]["uri"]
        self._local_world_size = int(config["world"]["processesPerNode"])
        self._found = found
        self._address = variables.get(Env.COORDINATOR_ADDRESS, "")
        self._port = variables[Env.COORDINATOR_PORT]
        self._token = Path(variables[Env.RUN_TOKEN_FILE]).read_text()
        self._tls = ssl.create_default_context(cafile=variables[Env.TLS_CERTIFICATE_FILE])
        self._tls.check_hostname = False  # urllib cannot ask for another name than the address
        self._outbox: list[TelemetryItem] = []
        self._sequence = 0
        self.identity = AgentIdentity(
            index=int(variables[Env.WORKER_INDEX]),
            incarnation=int(variables[Env.WORKER_INCARNATION]),
            pod_name=variables[Env.POD_NAME],
            pod_uid=variables[Env.POD_UID],
            node_name="node-1",
            address="127.0.0.1",
            local_world_size=self._local_world_size,
        )
        self.code: int | None = None
        self.killed = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self.killed.is_set() and self.code is None:
            try:
                sealed = self._join()
                if sealed is not None:
                    self._train(sealed)
                    continue
            except (urllib.error.URLError, OSError, ssl.SSLError):
                self._address = next(reversed(self._found()), self._address)  # the newest
            self.killed.wait(0.2)

    def _join(self) -> SealedGeneration | None:
        port = 1024 + time.monotonic_ns() % 60000
        answered = threading.Event()
        threading.Thread(target=self._speak, args=[answered], daemon=True).start()
        try:
            status, text = self._post("/v1/join", JoinRequest(agent=self.identity, store_port=port).to_json())
        finally:
            answered.set()
        if status != 200:
            return None
        sealed = SealedGeneration.model_validate_json(text)
        mine = (member.agent for member in sealed.members if member.agent.pod_name == self.identity.pod_name)
        self.identity = next(mine)  # a spare learns its place here
        self._steps = sealed.limits.steps if sealed.limits else self._steps
        return sealed

    def _speak(self, answered: threading.Event) -> None:
        """One that waits for its answer is not silent."""
        while not answered.wait(1.0) and not self.killed.is_set():
            with contextlib.suppress(OSError):
                self._post("/v1/heartbeat", Heartbeat(agent=self.identity).to_json())

    def _train(self, sealed: SealedGeneration) -> None:
        step, saving = self.saved[self._folder], False
        while not self.killed.is_set():
            done = step >= self._steps
            answer = self._beat(sealed, step, finished=done, suspended=saving)
            if answer.evicted:
                self.code = 80
                return
            if answer.closed:
                self.code = 79 if saving else 0
                return
            if answer.rendezvous_open:
                return
            if answer.command is Command.CHECKPOINT_AND_EXIT and not done:
                saving = True
                self._save(step, sealed.generation)
            elif not done and not saving:
                step += 1
                self._tell(
                    StepMetrics(
                        step=step,
                        time=time.time(),
                        loss=3.0,
                        gradient_norm=1.0,
                        learning_rate=1e-3,
                        tokens=512 * step,
                        tokens_per_second=1.0,
                        sample_digest="0" * 16,
                    )
                )
                if step % 20 == 0 or step == self._steps:
                    self._save(step, sealed.generation)
            time.sleep(STEP_SECONDS)

    def _save(self, step: int, generation: GenerationId) -> None:
        if self.identity.index == 0 and step > self.saved[self._folder]:
            uri = f"{self._folder}/step-{step}.e{generation.epoch}g{generation.number}"
            record = CheckpointRecord(step=step, uri=uri, time=time.time(), generation=generation)
            self._sequence += 1
            self._outbox.append(TelemetryItem(sequence=self._sequence, checkpoint=record))
            self.saved[self._folder] = step

    def _tell(self, row: StepMetrics) -> None:
        if self.identity.index == 0:
            self._sequence += 1
            self._outbox.append(TelemetryItem(sequence=self._sequence, metrics=row))

    def _beat(
        self, sealed: SealedGeneration, step: int, finished: bool, suspended: bool
    ) -> HeartbeatResponse:
        saved = self.saved[self._folder]
        ranks = [
            RankReport(
                rank=self.identity.index * self._local_world_size + local,
                local_rank=local,
                step=step,
                phase=RankPhase.COMPUTE,
                step_seconds=STEP_SECONDS if step > saved or finished else None,
            )
            for local in range(self._local_world_size)
        ]
        word = Heartbeat(
            agent=self.identity,
            generation=sealed.generation,
            members=sealed.members,
            ranks=ranks,
            total_steps=self._steps,
            outbox=self._outbox[:1000],
            outbox_oldest=self._outbox[0].sequence if self._outbox else self._sequence + 1,
            finished=finished,
            suspended=suspended,
        )
        status, text = self._post("/v1/heartbeat", word.to_json())
        if status == 409:
            self.code = 80
            raise OSError("turned away")
        answer = HeartbeatResponse.model_validate_json(text)
        self._steps = answer.limits.steps if answer.limits else self._steps
        self._outbox = [item for item in self._outbox if item.sequence > answer.acknowledged]
        return answer

    def _post(self, path: str, body: dict[str, Any]) -> tuple[int, bytes]:
        request = urllib.request.Request(
            f"https://{self._address}:{self._port}{path}",
            data=json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=15, context=self._tls) as answer:
                return int(answer.status), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
