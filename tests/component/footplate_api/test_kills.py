"""Killed at any moment under load, the API loses no row that it gave a receipt for and has none twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
import pytest

from cluster.machine.ports import claim_ports
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.fleet import backlog, plain, stored
from tests.component.footplate_api.test_process import client, ready, serving
from tests.support.review_server import of_pod

SIZES = (1, 20, 60, 300, 2000)  # rows of a batch: small ones and large ones have lanes of their own
COORDINATORS = 8
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
class Restarted:
    """An API process that is killed and started again under those that send to it."""

    folder: Path
    url: str
    port: int
    chance: random.Random
    coordinators: Sequence[Coordinator]
    up: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def receipts(self) -> int:
        return sum(coordinator.receipts for coordinator in self.coordinators)

    async def live(self, early: bool) -> None:
        """One life of it, which is ended by SIGKILL under load, or while it starts."""
        with serving(self.folder, self.port, plain(self.url), FOOTPLATE_LOG_LEVEL="ERROR"):
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
    api = Restarted(tmp_path, empty_url, port, chance, fleet)
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
        sending = [asyncio.create_task(coordinator.run(session, api.up)) for coordinator in fleet]
        for number in range(kills[empty_url.partition("+")[0]]):
            await api.live(early=number > 0 and chance.random() < early)
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
    found = await stored(empty_url)
    print(f"{api.receipts} receipts for {sum(known.acknowledged for known in fleet)} rows")
    for coordinator in fleet:
        there = found.pop(f"uid-{coordinator.number}", None)
        assert there in [whole(coordinator.acknowledged), whole(coordinator.sent)]
    assert not found


def whole(last: int) -> tuple[int, ...] | None:
    """What stored() says of a run that has each step from 1 to `last` once; None for nothing."""
    return (last,) * 4 if last else None
