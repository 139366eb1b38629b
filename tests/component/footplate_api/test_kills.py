"""Killed at any moment under load, the API loses no row that it gave a receipt for and has none twice.

Nor does it lose a second of what was used, or bills one twice: usage is told meanwhile, and a record goes
once it is stored.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import aiohttp
import pytest

from cluster.machine.ports import claim_ports
from footplate_api.costs import aggregation
from footplate_api.costs.aggregation import KeyFunctions
from footplate_api.tariff.service import TariffReader
from footplate_ledger.cost_sums import CostAggregator, PeriodRates
from footplate_ledger.intervals import Interval
from footplate_ledger.prices import PriceBook
from footplate_ledger.usage import RUNNING, TOLD, EndTime, Owner, PodAllocation
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.fleet import backlog, plain, stored
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.test_process import client, ready, serving
from tests.component.footplate_api.usages import known, record
from tests.support.review_server import Records, of_pod
from tests.support.usage_worlds import DAY, T0, pod

SIZES = (1, 20, 60, 300, 2000)  # rows of a batch: small ones and large ones have lanes of their own
COORDINATORS = 8
# A life of more than a minute would else thin rows, whose times are of 2026.
KEPT = {f"FOOTPLATE_RETENTION_{what}_DAYS": "100000" for what in ("FULL", "KEPT")}
LONGEST = 0.05  # seconds from a receipt to the kill: in this time some are read, stored and answered


@dataclass
class Coordinator:
    """Sends batch after batch of one run, each again until there is a receipt for it."""

    number: int
    chance: random.Random
    receipts: int = 0
    acknowledged: int = 0  # the last step of the last batch that has one
    sent: int = 0  # of the last batch that was ever sent

    async def run(self, session: aiohttp.ClientSession, up: asyncio.Event) -> None:
        while True:
            self.sent = self.acknowledged + self.chance.choice(SIZES)
            body = backlog(self.number, self.sent, first=self.acknowledged + 1)
            while not await self._stored(session, body):
                await up.wait()
            self.acknowledged = self.sent
            self.receipts += 1

    async def _stored(self, session: aiohttp.ClientSession, body: bytes) -> bool:
        headers = {"Content-Type": "application/json", **of_pod(f"uid-{self.number}", "research")}
        try:
            path = f"{RUNS}/run-{self.number}/telemetry"
            async with session.post(path, data=body, headers=headers) as answer:
                await answer.read()
                assert answer.status in (200, 429, 503), await answer.text()
                return answer.status == 200
        except aiohttp.ClientError:
            return False


@dataclass
class Operator:
    """Tells of pods while they run and when they have ended, in records of runs that are gone by then."""

    chance: random.Random
    records: Records = field(default_factory=Records)
    pods: dict[str, PodAllocation] = field(default_factory=dict)
    over: bool = False

    async def run(self) -> None:
        while not self.over:
            number = len(self.pods)
            owner = Owner("TrainingRun", "research", f"run-{number}", f"gone-{number}")
            start = T0 + number * 60
            end = EndTime(TOLD, start + self.chance.randrange(1, 60))
            node = f"node-{number % 40}"
            ended = pod(f"pod-{number}", owner=owner, node=node, start=start, end=end)
            self.pods[ended.uid] = ended
            await self._tell(ended)

    async def _tell(self, ended: PodAllocation) -> None:
        name = f"{ended.owner.uid}-0"
        self.records.put(name, record([replace(ended, end=EndTime(RUNNING, ended.start))]))
        await asyncio.sleep(self.chance.uniform(0, 0.04))
        self.records.put(name, record([ended], completed=True))


@dataclass
class Restarted:
    """An API process that is killed and started again under those that send to it."""

    folder: Path
    url: str
    port: int
    chance: random.Random
    coordinators: Sequence[Coordinator]
    operator: Operator
    up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def receipts(self) -> int:
        return sum(coordinator.receipts for coordinator in self.coordinators)

    def serving(self) -> AbstractContextManager[object]:
        url, records = plain(self.url), self.operator.records
        return serving(self.folder, self.port, url, records, FOOTPLATE_LOG_LEVEL="CRITICAL", **KEPT)

    async def take_all(self) -> None:
        """One life of it in which it takes the records that are left."""
        with self.serving():
            left = self.operator.records.known
            while fewer := len(left):  # fifty lives leave thousands: as long as some are taken, all will be
                await eventually(lambda: asyncio.sleep(0, len(left)), lambda seen: seen < fewer, seconds=60)

    async def live(self, early: bool) -> None:
        """One life of it, which is ended by SIGKILL under load, or while it starts."""
        with self.serving():
            if early:
                await asyncio.sleep(self.chance.uniform(0, 2))
                return
            async with client(self.port) as probe:
                await eventually(lambda: ready(probe), bool, seconds=60)
            self.up.set()
            enough = self.receipts + self.chance.randrange(1, 25)
            await eventually(lambda: asyncio.sleep(0, self.receipts), lambda seen: seen >= enough, seconds=60)
            await asyncio.sleep(self.chance.uniform(0, LONGEST))
            self.up.clear()


@pytest.mark.parametrize(
    ("kills", "early"),
    [
        pytest.param({"sqlite": 3, "postgresql": 2}, 0.0, id="some"),
        pytest.param({"sqlite": 50, "postgresql": 50}, 0.2, id="fifty", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("seed", [1])
async def test_what_has_a_receipt_is_there_once(
    empty_url: str, tmp_path: Path, kills: dict[str, int], early: float, seed: int
) -> None:
    chance = random.Random(seed)
    [port] = claim_ports(1)
    fleet = [Coordinator(number, random.Random(chance.random())) for number in range(COORDINATORS)]
    api = Restarted(tmp_path, empty_url, port, chance, fleet, Operator(random.Random(seed)))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        sending = [asyncio.create_task(coordinator.run(session, api.up)) for coordinator in fleet]
        telling = asyncio.create_task(api.operator.run())
        for number in range(kills[empty_url.partition("+")[0]]):
            await api.live(early=number > 0 and chance.random() < early)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        api.operator.over = True
        await telling
    taken = api.operator.records.taken
    await api.take_all()
    await check_usage(empty_url, api.operator.pods)
    print(f"{taken} of {len(api.operator.pods)} records were taken meanwhile")
    found = await stored(empty_url)
    print(f"{api.receipts} receipts for {sum(known.acknowledged for known in fleet)} rows")
    for coordinator in fleet:
        there = found.pop(f"uid-{coordinator.number}", None)
        assert there in [whole(coordinator.acknowledged), whole(coordinator.sent)]
    assert not found


def whole(last: int) -> tuple[int, ...] | None:
    """What stored() says of a run that has each step from 1 to `last` once; None for nothing."""
    return (last,) * 4 if last else None


async def check_usage(url: str, told: Mapping[str, PodAllocation]) -> None:
    """Each pod is there as it was told of last, and each of its seconds is billed once."""
    database = PatientDatabase(url)
    there = (await known(database, told)).pods
    window = Interval(T0, T0 + 400 * DAY)
    cost_sums = CostAggregator(await TariffReader(database).read(), window.end, [window.start, window.end])
    async with database.read(60) as session:
        await aggregation.add_usage(session, cost_sums, window, KeyFunctions(lambda usage: "all"))
    await database.close()
    assert there == told
    billed = cost_sums.found["all", 0].priced(PeriodRates(PriceBook([])))
    seconds = sum(usage.end.until - usage.start for usage in told.values())
    assert billed.unpriced.exact == seconds
