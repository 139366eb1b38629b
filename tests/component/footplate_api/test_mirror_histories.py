"""Random histories of two mirrors on one database: lists in pages, watches that lag, set-backs, deletions.

Whatever came between what, once both watches have brought all that there was the table shows the
cluster: no list is needed to make up for anything.
"""

from __future__ import annotations

import os
import random
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import select

from footplate_api.db.database import Database
from footplate_api.errors import ListExpired
from footplate_api.kubernetes.client import ListPage, Manifest, WatchEvent
from footplate_api.models.run import RunRow
from footplate_api.runs import service
from tests.component.footplate_api.fakes import Backup, FakeCluster
from tests.component.footplate_api.mirrors import Clock, mirror, running

STEPS = 80
NAMES = ("a", "b", "c", "d")
FEW = 3  # for `make test`
SEEDS = [pytest.param(seed, marks=[pytest.mark.long] * (seed >= FEW)) for seed in range(20)]


class Interrupted(FakeCluster):
    """Lets the rest of the world go on between the pages of a list."""

    def __init__(self, history: History) -> None:
        super().__init__(page_size=2)
        self._history = history

    async def list_runs(self, token: str | None) -> ListPage:
        start = int(token.split("/")[0]) if token else 0
        if not token:
            self._history.snapshots.append((str(self.version), sorted(self.backup().objects.items())))
        number = int(token.split("/")[1]) if token else len(self._history.snapshots) - 1
        version, objects = self._history.snapshots[number]
        page = [manifest for _, manifest in objects[start : start + 2]]
        await self._history.meanwhile()
        return ListPage(page, version, f"{start + 2}/{number}" if start + 2 < len(objects) else None)

    async def get_run(self, namespace: str, name: str) -> Manifest:
        await self._history.meanwhile()
        return await super().get_run(namespace, name)


class History:
    """A cluster, two mirrors and what happens to them, as chance has it."""

    def __init__(self, database: Database, seed: int) -> None:
        self.chance = random.Random(seed)
        self.database = database
        self.cluster = Interrupted(self)
        self.snapshots: list[Any] = []
        self.backups: list[Backup] = []
        self.mirrors = [mirror(database, self.cluster, Clock()) for _ in range(2)]
        self.heard: dict[int, int] = {}  # by mirror: the version up to which its watch has come
        self.late: dict[int, list[WatchEvent]] = {}  # of a watch that has ended
        self.depth = 0

    async def meanwhile(self) -> None:
        """A few things happen while something else is on its way."""
        self.depth += 1
        for _ in range(self.chance.randrange(3) if self.depth < 3 else 0):
            await self.step()
        self.depth -= 1

    async def step(self) -> None:
        """One thing happens."""
        changes = (self.put, self.put, self.remove, self.submit)
        looks = (self.watch, self.watch, self.watch, self.relist)
        if self.depth == 0 and self.chance.random() < 0.06:
            await self.turn_back()
        else:
            await self.chance.choice(changes + looks)()

    async def put(self) -> None:
        step = self.chance.randrange(1_000_000)
        await self.cluster.put("research", self.chance.choice(NAMES), status=running(step))

    async def remove(self) -> None:
        if self.cluster.objects:
            await self.cluster.remove(*self.chance.choice(sorted(self.cluster.objects)))

    async def submit(self) -> None:
        free = [name for name in NAMES if ("research", name) not in self.cluster.objects]
        if free:
            manifest = {"metadata": {"name": free[0], "namespace": "research"}, "spec": {}}
            await service.submit(self.cluster, self.database, manifest, Clock())

    async def turn_back(self) -> None:
        """A backup is taken, or the cluster is set back to one, and its API servers start anew.

        What a watch had brought by then may still be on its way into the database.
        """
        if not self.backups or self.chance.random() < 0.5:
            self.backups.append(self.cluster.backup())
        else:
            for which, version in self.heard.items():
                self.late[which] = self.cluster.events_after(version)
            self.heard.clear()
            self.cluster.restore(self.chance.choice(self.backups))

    async def relist(self) -> None:
        await self.list(self.chance.randrange(2))

    async def watch(self) -> None:
        await self.bring(self.chance.randrange(2), self.chance.randrange(1, 4))

    async def list(self, which: int) -> None:
        """One of the mirrors lists, as often as it is told to."""
        while True:
            try:
                self.heard[which] = int(await self.mirrors[which].list())
                self.late.pop(which, None)
                return
            except ListExpired:
                continue

    async def bring(self, which: int, most: int) -> bool:
        """Some of what a mirror's watch has not brought yet; whether there was anything."""
        late = self.late.pop(which, [])
        if late and which not in self.heard:
            with suppress(ListExpired):
                await self.mirrors[which].apply(late[:most])
        if which not in self.heard or not self.cluster.oldest <= self.heard[which] <= self.cluster.version:
            await self.list(which)
        news = self.cluster.events_after(self.heard[which])[:most]
        if not news:
            return False
        try:
            await self.mirrors[which].apply(news)
            self.heard[which] = int(news[-1].resource_version)
        except ListExpired:
            await self.list(which)
        return True


@pytest.mark.parametrize("seed", [int(os.environ["SEED"])] if "SEED" in os.environ else SEEDS)
async def test_the_table_shows_the_cluster(database: Database, seed: int) -> None:
    history = History(database, seed)
    for _ in range(STEPS):
        await history.step()
    history.depth = 9  # nothing happens meanwhile any more
    for which in (0, 1):
        while await history.bring(which, 3):
            pass
    there = {
        (manifest["metadata"]["uid"], manifest["status"].get("progress", {}).get("step", 0))
        for manifest in history.cluster.objects.values()
    }
    assert await live(database) == there


async def live(database: Database) -> set[tuple[str, int]]:
    async with database.read() as session:
        rows = await session.execute(select(RunRow.uid, RunRow.step).where(RunRow.deleted_at.is_(None)))
    return {(row.uid, row.step) for row in rows}
