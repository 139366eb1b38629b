"""`python -m footplate_api` as a process: starts, says why it cannot, ends well."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from cluster.machine.ports import claim_ports
from footplate_contracts.names import ExitCode
from tests.component.footplate_api.builders import RUNS, eventually
from tests.support import programs
from tests.support.review_server import BEARER, HASTE_VARIABLES, Handler, Records, beside_reviews, reviewing

# Nobody answers at its server: the API must serve its history all the same.
KUBECONFIG = """
apiVersion: v1
kind: Config
clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
"""
PROGRAM = "footplate_api"
IDLE_MEGABYTES = 150


def elsewhere() -> dict[str, str]:
    """The environment of a process that runs in no pod, wherever the tests themselves run."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")}


def unreachable(folder: Path) -> Path:
    """A kubeconfig in `folder` whose server does not answer."""
    kubeconfig = folder / "kubeconfig"
    kubeconfig.write_text(KUBECONFIG)
    return kubeconfig


def command(folder: Path, port: int, kubeconfig: Path | None = None) -> list[str]:
    return [sys.executable, "-m", PROGRAM, *arguments(port, kubeconfig or unreachable(folder))]


def arguments(port: int, kubeconfig: Path) -> list[str]:
    return ["--port", str(port), "--kubeconfig", str(kubeconfig)]


@contextmanager
def serving(
    folder: Path,
    port: int,
    url: str | None = None,
    records: Records | None = None,
    fresh: bool = False,
    **variables: str,
) -> Iterator[programs.Running]:
    """A process on the database at `url`, by default a file in `folder`, with these environment variables.

    Args:
        records: what its API server has of usage.
        fresh: it is started as in a pod, for a test of its start or of its memory.
    """
    url = url or f"sqlite:///{folder}/data/footplate.db"
    environment = {**elsewhere(), "FOOTPLATE_DATABASE_URL": url, **HASTE_VARIABLES, **variables}
    handler = Handler if records is None else beside_reviews(records)
    with reviewing(folder, handler) as kubeconfig:
        process = (
            subprocess.Popen(command(folder, port, kubeconfig), env=environment)
            if fresh
            else programs.start(f"{PROGRAM}.__main__", arguments(port, kubeconfig), environment)
        )
        with ended(process):
            yield process


@contextmanager
def ended(process: programs.Running) -> Iterator[programs.Running]:
    """The process is killed after the block."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def once(
    folder: Path, port: int, url: str, kubeconfig: Path | None = None, **variables: str
) -> tuple[int, str]:
    """The exit code of a process that ends by itself, and what it said."""
    environment = {**elsewhere(), "FOOTPLATE_DATABASE_URL": url, **variables}
    chosen = arguments(port, kubeconfig or unreachable(folder))
    with (folder / "said").open("w+") as said:
        with ended(programs.start(f"{PROGRAM}.__main__", chosen, environment, said.fileno())) as process:
            code = process.wait(60)
        said.seek(0)
        return code, said.read()


async def ready(client: httpx.AsyncClient) -> bool:
    return await answers(client, "/readyz")


async def alive(client: httpx.AsyncClient) -> bool:
    return await answers(client, "/healthz")


async def answers(client: httpx.AsyncClient, path: str) -> bool:
    try:
        return (await client.get(path)).status_code == 200
    except httpx.TransportError:
        return False


def client(port: int) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20, headers=BEARER)


def resident(pid: int) -> float:
    """Megabytes that a process has in memory."""
    status = Path(f"/proc/{pid}/status").read_text()
    [kilobytes] = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")]
    return int(kilobytes) / 1024


async def test_idles_small_and_ends_well_on_sigterm(tmp_path: Path) -> None:
    [port] = claim_ports(1)
    with serving(tmp_path, port, fresh=True) as process:
        async with client(port) as probe:
            await eventually(lambda: ready(probe), bool, seconds=30)
            assert (await probe.get(RUNS)).json() == {"items": [], "nextCursor": None}
        await asyncio.sleep(0.5)
        assert resident(process.pid) < IDLE_MEGABYTES
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == ExitCode.SUCCESS


@pytest.mark.parametrize(
    ("url", "says"),
    [
        pytest.param("sqlite:///", "names no file", id="no-file"),
        pytest.param("sqlite:////proc/none/footplate.db", "/proc/none cannot be created", id="no-folder"),
    ],
)
def test_a_database_that_cannot_be_is_a_sentence(tmp_path: Path, url: str, says: str) -> None:
    code, said = once(tmp_path, 8000, url)
    assert code == ExitCode.CONFIG
    assert says in said and "Traceback" not in said


def test_without_any_cluster_it_ends_at_once_with_a_sentence() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", PROGRAM],
        env={**elsewhere(), "KUBECONFIG": "/nowhere", "FOOTPLATE_DATABASE_URL": "sqlite://"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == ExitCode.CONFIG
    assert "no Kubernetes API server is configured" in ended.stderr
    assert "Traceback" not in ended.stderr


async def test_a_second_process_on_the_same_file_ends_with_a_sentence(
    migrated_file: Path, tmp_path: Path
) -> None:
    [port, other] = claim_ports(2)
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "data")
    shutil.copy(migrated_file, tmp_path / "data")
    with serving(tmp_path, port) as first:
        async with client(port) as probe:
            await eventually(lambda: ready(probe), bool, seconds=30)
            for folder in ("data", "link"):
                code, said = once(tmp_path, other, f"sqlite:///{tmp_path}/{folder}/footplate.db")
                assert code == ExitCode.CONFIG and "Traceback" not in said
                assert f"{tmp_path}/data/footplate.db is in use by another process" in said
                assert f"pid {first.pid} on {socket.gethostname()}" in said
            assert await ready(probe)
        first.send_signal(signal.SIGKILL)
        first.wait()
    with serving(tmp_path, other):
        async with client(other) as probe:
            await eventually(lambda: ready(probe), bool, seconds=30)


def test_a_migration_that_fails_ends_the_process_with_a_sentence(tmp_path: Path) -> None:
    [port] = claim_ports(1)
    with closing(sqlite3.connect(tmp_path / "footplate.db")) as database:
        database.execute("CREATE TABLE checkpoints (x INTEGER)")
    code, said = once(tmp_path, port, f"sqlite:///{tmp_path}/footplate.db")
    assert code == ExitCode.USER_ERROR
    last = said.splitlines()[-1]
    assert last.startswith("footplate-api: the database cannot be migrated: OperationalError: ")
    assert "table checkpoints already exists" in last and last.endswith("; it is unchanged")


async def test_a_process_that_waits_for_its_database_ends_well_on_sigterm(tmp_path: Path) -> None:
    [port] = claim_ports(1)
    environment = {**elsewhere(), "FOOTPLATE_DATABASE_URL": "postgresql://u@127.0.0.1:1/none"}
    chosen = arguments(port, unreachable(tmp_path))
    with ended(programs.start(f"{PROGRAM}.__main__", chosen, environment)) as process:
        async with client(port) as probe:
            await eventually(lambda: alive(probe), bool, seconds=30)
            answer = await probe.get("/readyz")
            assert answer.status_code == 503 and "does not answer" in answer.json()["detail"]
        process.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(process.wait, 20) == ExitCode.SUCCESS


def test_a_lock_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "footplate.db.lock").mkdir()
    code, said = once(tmp_path, 8000, f"sqlite:///{tmp_path}/footplate.db")
    assert code == ExitCode.CONFIG and "Traceback" not in said
    assert f"{tmp_path}/footplate.db.lock cannot be opened (Is a directory)" in said
