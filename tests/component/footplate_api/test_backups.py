"""Back-ups of an API that is written to: each is one committed moment, and nobody waits for it."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import shutil
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from cluster.machine.ports import claim_ports
from footplate_api.backups import names
from footplate_api.backups.__main__ import main
from footplate_api.backups.snapshot import copy_database, free_at
from footplate_api.db.backup_plan import BackupPlan, CronSchedule
from footplate_api.instruments import ApiMetrics, BackupMetrics
from footplate_api.tasks.scheduled_backups import BackupTask
from footplate_contracts.names import ExitCode
from tests.component.footplate_api.builders import RUNS, batch, checkpoint, eventually, row
from tests.component.footplate_api.conftest import running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.fleet import deliver
from tests.component.footplate_api.histories import dump, holding, said
from tests.component.footplate_api.test_full_volume import SENDER, on_a_tiny_volume, readiness
from tests.component.footplate_api.test_metric_names import BOUNDS, PAGE
from tests.component.footplate_api.test_process import client, ready, serving
from tests.support.exposition import families, faults

PREFIX = "footplate_api_backup_"
SENDERS, OWN, ROWS = 3, 4, 20  # each sender has four runs, and sends batches of twenty rows
COPIED = 24 << 20  # bytes: copied in several steps
# In a history that is older than a month each row might be thinned.
KEPT = {f"FOOTPLATE_RETENTION_{what}_DAYS": "100000" for what in ("FULL", "KEPT")}


@dataclass
class Sender:
    """One batch after another, to its runs in turn; the next one once there is a receipt."""

    number: int
    receipts: int = 0

    async def run(self, session: aiohttp.ClientSession) -> None:
        while True:
            await self.send(session)

    async def send(self, session: aiohttp.ClientSession) -> None:
        turn, own = divmod(self.receipts, OWN)
        run, first = OWN * self.number + own, ROWS * turn + 1
        steps = [row(step) for step in range(first, first + ROWS)]
        body = batch(f"uid-{run}", steps, [checkpoint(first)])
        assert await deliver(session, run, json.dumps(body).encode()) == 200
        self.receipts += 1


def batches(file: Path, sender: int) -> int:
    """How many batches of a sender are in a database, which has each of them whole and in their order."""
    rows = "SELECT run_uid, count(*) FROM metric_rows JOIN metric_segments s ON s.id = segment_id GROUP BY 1"
    with closing(sqlite3.connect(f"file:{file}?mode=ro&immutable=1", uri=True)) as database:
        counted: dict[str, int] = dict(database.execute(rows).fetchall())
        told = dict(database.execute("SELECT run_uid, count(*) FROM checkpoints GROUP BY 1").fetchall())
    runs = [f"uid-{OWN * sender + own}" for own in range(OWN)]
    found = [counted.get(run, 0) for run in runs]
    assert [told.get(run, 0) * ROWS for run in runs] == found, "rows and checkpoint of a batch come together"
    number = sum(found) // ROWS
    assert found == [ROWS * ((number - own + OWN - 1) // OWN) for own in range(OWN)], (
        "in the order of sending"
    )
    return number


async def by_hand(url: str, folder: Path, inside: Sequence[str] = ()) -> Path:
    """A back-up as an administrator has one made in the API's pod; `inside` is a command that goes there."""
    environment = {**os.environ, "FOOTPLATE_DATABASE_URL": url, "FOOTPLATE_BACKUP_FOLDER": str(folder)}
    command = (*inside, sys.executable, "-m", "footplate_api.backups", "make")
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*command, env=environment, stdout=pipe, stderr=pipe)
    said_of_it, complaint = await child.communicate()
    assert child.returncode == 0, complaint.decode()
    return Path(said_of_it.decode().partition(": ")[0])


async def written_between_steps(database: Path, target: Path, senders: Sequence[Sender]) -> None:
    """Copies `database`, and takes each step only once every sender has two receipts more.

    One of two may have been on its way; the other was sent, committed and answered between two steps.
    """
    loop, asked = asyncio.get_running_loop(), []

    async def further() -> None:
        asked.append([sender.receipts for sender in senders])
        await eventually(
            lambda: asyncio.sleep(0, [sender.receipts for sender in senders]),
            lambda now: all(more >= then + 2 for then, more in zip(asked[-1], now, strict=True)),
            seconds=60,
        )

    def free(folder: Path) -> int:
        asyncio.run_coroutine_threadsafe(further(), loop).result()
        return free_at(folder)

    before = [sender.receipts for sender in senders]
    await asyncio.to_thread(copy_database, database, target, free)
    assert len(asked) > (COPIED >> 22), "once at its beginning and after each step of 4 MiB but the last"
    found = [batches(target, sender.number) for sender in senders]
    for least, there, most in zip(before, found, asked[0], strict=True):
        assert least <= there <= most + 1, "what was committed when it began, and nothing of what came then"


@contextmanager
def environment_of(monkeypatch: pytest.MonkeyPatch, url: str, folder: Path) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("FOOTPLATE_DATABASE_URL", url)
        patched.setenv("FOOTPLATE_BACKUP_FOLDER", str(folder))
        yield


async def test_each_is_one_moment_of_what_is_written_and_is_restored_to_it(
    migrated_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = holding(migrated_file, tmp_path / "data" / "footplate.db", "mine", COPIED)
    url, folder = f"sqlite:///{file}", tmp_path / "backups"
    folder.mkdir()
    [port] = claim_ports(1)
    address = f"http://127.0.0.1:{port}"
    with serving(tmp_path, port, url, **KEPT) as process:
        async with client(port) as probe, aiohttp.ClientSession(address) as session:
            await eventually(lambda: ready(probe), bool, seconds=60)
            senders = [Sender(number) for number in range(SENDERS)]
            sending = [asyncio.create_task(sender.run(session)) for sender in senders]
            await eventually(
                lambda: asyncio.sleep(0, senders), lambda all_: all(known.receipts for known in all_)
            )
            await written_between_steps(file, tmp_path / "copied.db", senders)
            for _ in range(2):
                before = [sender.receipts for sender in senders]
                made = await by_hand(url, folder)
                after = [sender.receipts for sender in senders]
                found = [batches(made, sender) for sender in range(SENDERS)]
                for least, there, most in zip(before, found, after, strict=True):
                    assert least <= there <= most + 1, "and one that was under way"
            for task in sending:
                task.cancel()
            await asyncio.gather(*sending, return_exceptions=True)
        process.terminate()
        assert process.wait(30) == ExitCode.SUCCESS
    with environment_of(monkeypatch, url, folder):
        assert main(["restore", made.name, "--replace"]) == ExitCode.SUCCESS
    assert dump(file) == dump(made) and said(file) == "mine"
    with serving(tmp_path, port, url, **KEPT):
        async with client(port) as probe, aiohttp.ClientSession(address) as session:
            await eventually(lambda: ready(probe), bool, seconds=60)
            assert (await probe.get(RUNS)).status_code == 200
            again = Sender(0, receipts=found[0])
            await again.send(session)
        later = await by_hand(url, folder)
    assert [batches(later, sender) for sender in range(SENDERS)] == [found[0] + 1, *found[1:]]


def metrics_in(text: str) -> dict[str, float]:
    """Those of back-ups, without what all of them begin with."""
    return {
        sample.name.removeprefix(PREFIX): sample.value
        for family in families(text)
        for sample in family.samples
        if sample.name.startswith(PREFIX)
    }


async def test_the_first_is_made_at_once_and_is_shown(sqlite_url: str, tmp_path: Path) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    (folder / (names.name_of(datetime(2026, 1, 1, tzinfo=UTC)) + names.PARTIAL)).touch()
    async with running(sqlite_url, FakeCluster(), backups=BackupPlan(folder)) as api:

        async def scraped() -> str:
            return (await api.client.get("/metrics")).text

        text = await eventually(
            scraped, lambda found: metrics_in(found).get("last_success_timestamp_seconds", 0) > 0, seconds=60
        )
    [made] = folder.iterdir()
    moment = names.moment_of(made.name)
    assert moment is not None
    shown = metrics_in(text)
    assert shown["last_success_timestamp_seconds"] == moment.timestamp()
    assert (shown["bytes"], shown["failures_total"]) == (made.stat().st_size, 0)
    assert shown["free_bytes"] > 0
    assert list(faults(text, BOUNDS)) == []
    assert [name for name in shown if f"`{PREFIX}{name}`" not in PAGE.read_text()] == []


async def test_a_folder_that_is_missing_is_counted_and_said(
    sqlite_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(sqlite_url, FakeCluster(), backups=BackupPlan(tmp_path / "nowhere")) as api:

        async def shown() -> dict[str, float]:
            return metrics_in((await api.client.get("/metrics")).text)

        found = await eventually(shown, lambda found: found.get("failures_total") == 1, seconds=60)
        assert found["last_success_timestamp_seconds"] == 0
        assert (await api.client.get("/readyz")).status_code == 200
    [line] = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("the back-up failed: ") and str(tmp_path / "nowhere") in line


async def test_without_a_plan_nothing_is_shown(sqlite_url: str) -> None:
    async with running(sqlite_url, FakeCluster()) as api:
        assert metrics_in((await api.client.get("/metrics")).text) == {}


async def test_a_full_volume_is_no_trouble_of_the_api(migrated_file: Path, tmp_path: Path) -> None:
    file = holding(migrated_file, tmp_path / "elsewhere" / "footplate.db", "mine", 3 << 20)
    told = {"FOOTPLATE_DATABASE_URL": f"sqlite:///{file}", "FOOTPLATE_BACKUP_FOLDER": f"{tmp_path}/data"}
    async with on_a_tiny_volume(tmp_path, **told) as (caller, volume):

        async def shown() -> dict[str, float]:
            return metrics_in((await caller.get("/metrics")).text)

        found = await eventually(shown, lambda found: found.get("failures_total") == 1, seconds=60)
        assert found["last_success_timestamp_seconds"] == 0 and found["free_bytes"] > 0
        assert await readiness(caller) == (200, "ok")
        body = batch("uid-gpt", [row(1)])
        assert (await caller.post(f"{RUNS}/gpt/telemetry", json=body, headers=SENDER)).status_code == 200
        assert os.listdir(volume) == ["filler"]
        os.unlink(volume / "filler")
        inside = ("nsenter", f"--target={volume.parts[2]}", "--user", "--mount", "--preserve-credentials")
        made = await by_hand(told["FOOTPLATE_DATABASE_URL"], tmp_path / "data", inside)
        assert os.listdir(volume) == [made.name]
        assert said(Path(shutil.copy(volume / made.name, tmp_path))) == "mine"


async def test_one_is_made_though_a_clock_that_was_ahead_has_named_another(
    sqlite_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "backups"
    folder.mkdir()
    ahead = folder / names.name_of(datetime(2999, 1, 1, tzinfo=UTC))
    ahead.touch()
    async with running(sqlite_url, FakeCluster(), backups=BackupPlan(folder)):
        await eventually(
            lambda: asyncio.to_thread(os.listdir, folder),
            lambda found: len(names.backup_names(found)) == 2,
            seconds=60,
        )


def making() -> set[int]:
    """Processes of back-ups that this one has begun."""
    begun = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        int(pid) for pid in begun if b"footplate_api.backups" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


async def test_one_waits_for_another_and_ends_with_the_api(sqlite_url: str, tmp_path: Path) -> None:
    instruments: Any = BackupMetrics(ApiMetrics().registry)
    plan = BackupPlan(tmp_path, CronSchedule("0 0 1 1 *"))
    work = BackupTask(sqlite_url, plan, instruments, lambda: datetime.now(UTC))
    with Path(f"{sqlite_url.partition('///')[2]}.backup.lock").open("w") as another:
        fcntl.flock(another, fcntl.LOCK_EX)
        waiting = asyncio.create_task(work.make())
        [pid] = await eventually(lambda: asyncio.to_thread(making), bool, seconds=30)

        async def waits() -> bool:
            return f" -> FLOCK  ADVISORY  WRITE {pid} " in Path("/proc/locks").read_text()

        await eventually(waits, bool, seconds=30)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert making() == set() and waiting.cancelled()
    assert names.backup_names(os.listdir(tmp_path)) == []
    assert await work.make()
    assert len(names.backup_names(os.listdir(tmp_path))) == 1
