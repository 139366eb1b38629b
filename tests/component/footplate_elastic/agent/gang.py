"""A coordinator and its agents as real processes on loopback, and what a test does to them."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cluster.machine.ports import claim_ports
from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.names import Env
from footplate_contracts.reports import GenerationRow, TelemetryBatch, TelemetryReceipt
from footplate_contracts.runconfig import RunConfig, RunIdentity
from footplate_elastic.agent.launch import MEMORY
from footplate_elastic.coordinator.timing import Timing
from tests.support import programs

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[3]
TOKEN = "a-token"
FORKED = "tests.component.footplate_elastic.agent.forked"  # imports torch
COORDINATOR = """
import sys
from footplate_elastic.coordinator.__main__ import main
from footplate_elastic.coordinator.timing import Timing

"""


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # the latter when it is reaped while we read
        return False


def eventually(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait for `condition`; AssertionError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.01)


class FakeApi:
    """Stores telemetry as the API does: by step, a newer generation replaces an older one. `away` refuses."""

    def __init__(self) -> None:
        self.away = False
        self.rows: dict[int, GenerationRow] = {}
        self.checkpoints: set[int] = set()
        self.heard: set[str | None] = set()  # what it was shown as authorization
        api, receipt = self, TelemetryReceipt(rows=0, checkpoints=0).model_dump_json(by_alias=True).encode()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                api.heard.add(self.headers["Authorization"])
                if not api.away:
                    api.take(self.path, TelemetryBatch.model_validate_json(body))
                self.send_response(503 if api.away else 200)
                self.end_headers()
                self.wfile.write(b"" if api.away else receipt)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the base names it
                """Not in a test's output."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def take(self, path: str, batch: TelemetryBatch) -> None:
        """Store a batch."""
        assert path == "/v1/namespaces/default/runs/gang/telemetry" and batch.run_uid == "uid-1"
        for row in batch.rows:
            before = self.rows.get(row.metrics.step)
            if before is None or not before.generation.is_newer_than(row.generation):
                self.rows[row.metrics.step] = row
        self.checkpoints |= {record.step for record in batch.checkpoints}

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()


class Gang:
    """Processes that are all gone after close()."""

    def __init__(
        self, directory: Path, nodes: int = 2, local_world_size: int = 2, silence: float = 5.0
    ) -> None:
        self.directory = directory
        self.nodes = nodes
        self.local_world_size = local_world_size
        self.silence = silence
        self.hang_seconds = 60  # floor of a standstill that is a hang
        self.least: int | None = None  # so few nodes may go on
        self.substitute = 15.0  # seconds, how long a lost node is awaited before that
        [self.port] = claim_ports(1)
        self.agents: list[programs.Running] = []
        self.processes: list[programs.Running] = []
        self.forked = False  # coordinator and agents of `small_rank`, or they are started as in a pod
        # Nobody is done before a test has looked, however long the machine lets it wait.
        self.steps, self.step_seconds = 100_000, 0.02
        self.program = "footplate_elastic.agent"
        self.entry, self.warm = "small_rank:run", ["torch.distributed", "small_rank"]
        self.extra: dict[str, str] = {}
        self.address = "127.0.0.1"  # of the coordinator, and of agents on no machine of their own
        self._scratch = tempfile.mkdtemp(prefix="gang-")  # short: the path of a socket has 107 bytes
        (directory / "token").write_text(TOKEN)
        outline = {
            "run": {"name": "gang", "namespace": "default", "uid": "uid-1"},
            "world": {"nodes": nodes, "processesPerNode": local_world_size},
            "training": {"steps": self.steps},
            "checkpoint": {"everySteps": 500, "keepLast": 3},
        }
        (directory / "run.json").write_text(json.dumps(outline))

    def use_trainer(self, config: RunConfig) -> None:
        """Run the trainer itself instead of `small_rank`; its world becomes the gang's."""
        size = {"nodes": self.nodes, "processes_per_node": self.local_world_size, "min_nodes": self.least}
        world = config.world.model_copy(update=size)
        run = RunIdentity(name="gang", uid="uid-1")
        told = config.model_copy(update={"world": world, "run": run}).to_json()
        (self.directory / "run.json").write_text(json.dumps(told))
        self.program = "footplate_trainer.worker"
        self.entry, self.warm = "footplate_trainer.stages.programs:run_rank", ["footplate_trainer.warm"]

    def environment(self) -> dict[str, str]:
        """What every process of the run is given."""
        return {
            **os.environ,
            str(Env.RUN_CONFIG): str(self.directory / "run.json"),
            str(Env.RUN_TOKEN_FILE): str(self.directory / "token"),
            str(Env.COORDINATOR_HOST): self.address,
            str(Env.COORDINATOR_PORT): str(self.port),
            "TMPDIR": self._scratch,
            **self.extra,
        }

    def start_coordinator(self, epoch: int = 1) -> programs.Running:
        """A coordinator on the gang's port."""
        told = json.loads((self.directory / "run.json").read_text())
        told["hang"] = {"factor": 3, "floorSeconds": self.hang_seconds}
        (self.directory / "run.json").write_text(json.dumps(told))
        timing = Timing(silence=self.silence, substitute=self.substitute)
        arguments = ["--bind", self.address]
        environment = {**self.environment(), str(Env.COORDINATOR_EPOCH): str(epoch)}
        name = f"coordinator-{epoch}"
        if self.forked:
            return self._fork(["coordinator", json.dumps(asdict(timing)), *arguments], environment, name)
        command = [sys.executable, "-c", f"{COORDINATOR}sys.exit(main({timing!r}))", *arguments]
        return self._start(command, environment, name)

    def start_agent(self, index: int, incarnation: int = 0) -> programs.Running:
        """An agent whose ranks run `small_rank`."""
        arguments = ["--entry", self.entry, *(word for module in self.warm for word in ("--warm", module))]
        environment = {
            **self.environment(),
            str(Env.WORKER_INDEX): str(index),
            str(Env.WORKER_INCARNATION): str(incarnation),
            str(Env.POD_IP): self.address,
            "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            "TEST_DIRECTORY": str(self.directory),
            "TEST_STEPS": str(self.steps),
            "TEST_STEP_SECONDS": str(self.step_seconds),
        }
        name = f"agent-{index}-{incarnation}"
        if self.forked and self.program == "footplate_elastic.agent":
            _, there = self.placed([], environment)
            return self._fork(["agent", *arguments], there, name)
        command = [sys.executable, "-m", self.program, *arguments]
        return self._start(*self.placed(command, environment), name)

    def placed(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """`command` and `environment` of the next agent, where it is to run."""
        return command, environment

    def start(self) -> list[programs.Running]:
        """The coordinator and all agents; the agents."""
        self.start_coordinator()
        self.agents = [self.start_agent(index) for index in range(self.nodes)]
        return self.agents

    def state(self, after: int = 0, wait: float = 0.0) -> CoordinatorState | None:
        """The operator's view; None while there is no coordinator."""
        try:
            return CoordinatorState.from_json(self._ask("GET", f"/v1/state?after={after}&wait={wait}", None))
        except (OSError, http.client.HTTPException):
            return None

    def direct(self, **changes: Any) -> None:
        """The operator's word: what it said last, with `changes`."""
        state = self.state()
        assert state is not None and state.directives is not None
        directives = state.directives.model_copy(update=changes)
        body = directives.model_dump_json(by_alias=True, exclude_none=True)
        self._ask("PUT", "/v1/directives", body)

    def wait_for(
        self, condition: Callable[[CoordinatorState], bool], seconds: float = 120.0
    ) -> CoordinatorState:
        """The first state that fulfils `condition`; AssertionError with the last one after `seconds`."""
        deadline = time.monotonic() + seconds
        state: CoordinatorState | None = None
        while time.monotonic() < deadline:
            state = self.state(after=state.version if state else 0, wait=0.5)
            if state is None:
                time.sleep(0.02)
            elif condition(state):
                return state
        raise AssertionError(f"not within {seconds} s: {state}\n{self.logs()}")

    def children(self, index: int) -> list[int]:
        """Ranks of the running agent `index` in the order of their start: the children of its zygote."""
        agent = self.agents[index].pid
        [zygote] = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
        return [int(pid) for pid in Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()]

    def log(self, name: str) -> str:
        """What the process has written so far."""
        path = self.directory / f"{name}.log"
        return path.read_text() if path.exists() else ""

    def logs(self) -> str:
        """The ends of all logs, for a failed test."""
        parts = [
            f"--- {path.name}\n{path.read_text()[-3000:]}" for path in sorted(self.directory.glob("*.log"))
        ]
        return "\n".join(parts)

    def close(self) -> None:
        """SIGKILL to everything that still runs: ranks die with their agents, a moment later."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait()
        eventually(lambda: not self._living())
        shutil.rmtree(self._scratch)
        for folder in self.memory_folders():  # of agents that were killed: a pod's memory ends with it
            shutil.rmtree(folder, ignore_errors=True)

    def memory_folders(self) -> list[Path]:
        """What the agents have made in memory."""
        owners = tuple(f"footplate-memory-{process.pid}-" for process in self.processes)
        return [path for path in Path(MEMORY).iterdir() if path.name.startswith(owners)]

    def _living(self) -> list[int]:
        """Processes whose output is one of our logs, as that of all is that ours have started."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if (process / "fd" / "1").readlink().parent == self.directory:
                    found.append(int(process.name))
        return found

    def _start(self, command: list[str], environment: dict[str, str], name: str) -> subprocess.Popen[bytes]:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                command, env=environment, stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )
        self.processes.append(process)
        return process

    def _fork(self, arguments: list[str], environment: dict[str, str], name: str) -> programs.Program:
        with (self.directory / f"{name}.log").open("ab") as log:
            process = programs.start(FORKED, arguments, environment, log.fileno())
        self.processes.append(process)
        return process

    def _ask(self, method: str, path: str, body: str | None) -> object:
        connection = http.client.HTTPConnection(self.address, self.port, timeout=10.0)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()
