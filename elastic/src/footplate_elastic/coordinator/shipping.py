"""Brings queued telemetry to the API: in batches, again and again until it is stored.

The API may be away for minutes. Nothing is dropped for that and nobody waits:
training goes on, the queue grows, and it is emptied oldest first when the API
answers again. Only what the API will never take is given up, with a line in
the log: one bad row must not keep all rows after it from being stored.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp

from footplate_contracts.backoff import backoff
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.telemetry import BATCH, TelemetryBuffer

_log = logging.getLogger(__name__)

INVALID: Final = frozenset({400, 413, 422})  # something within the batch cannot be taken
FOREIGN: Final = 409  # the name belongs to another run by now
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0, sock_connect=5.0)


def retry_delay(failures: int, chance: float) -> float:
    """Seconds to wait after so many failures in a row; `chance` in [0, 1) spreads runs."""
    return backoff(
        failures, first=timing.FIRST_RETRY, longest=timing.LONGEST_RETRY, jitter=(0.5, 1.0), chance=chance
    )


@dataclass(frozen=True)
class Destination:
    """Where the batches go, and what shows there who sends them."""

    url: str
    token_file: Path | None
    run_uid: str
    epoch: int

    def headers(self) -> dict[str, str]:
        """Of the next request: the kubelet writes a new token into the file well before the old one ends.

        The run's own token is for its coordinator alone, and never among them.
        """
        headers = {"Content-Type": "application/json"}
        token = _content(self.token_file) if self.token_file else ""
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers


def _content(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


@dataclass
class Shipper:
    """One task that empties `buffer` into the API; `chance` spreads what runs try again."""

    buffer: TelemetryBuffer
    destination: Destination
    chance: random.Random
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _most: int = BATCH  # entries of the next batch

    def wake(self) -> None:
        """Something was queued."""
        self._news.set()

    async def run(self) -> None:
        """Ship until cancelled."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            failures = 0
            while True:
                if len(self.buffer) == 0:
                    self._news.clear()
                    await self._news.wait()
                    await asyncio.sleep(timing.GATHER)
                if await self.ship(session):
                    failures = 0
                    continue
                failures += 1
                await asyncio.sleep(retry_delay(failures, self.chance.random()))

    async def flush(self, seconds: float) -> None:
        """Ship what waits, for at most `seconds`: this process is the only one that has it."""
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            failures = 0
            try:
                async with asyncio.timeout(seconds):
                    while len(self.buffer) > 0:
                        failures = 0 if await self.ship(session) else failures + 1
                        if failures:
                            await asyncio.sleep(retry_delay(failures, self.chance.random()))
            except TimeoutError:
                _log.warning("%d rows of telemetry were not stored in time", len(self.buffer))

    async def ship(self, session: aiohttp.ClientSession) -> bool:
        """Send the oldest batch; False when it has to be sent again later."""
        batch = self.buffer.batch(self.destination.run_uid, self.destination.epoch, self._most)
        if batch is None:
            return True
        body, count = batch
        headers = self.destination.headers()
        text = body.model_dump_json(by_alias=True, exclude_none=True)  # unlike json.dumps, quotes NaN
        try:
            async with session.post(self.destination.url, data=text, headers=headers) as answer:
                if not answer.ok:
                    return self._refused(count, answer.status, (await answer.text(errors="replace"))[:200])
        except (aiohttp.ClientError, TimeoutError) as error:
            _log.warning("telemetry is kept, the API cannot be reached: %r", error)
            return False
        self.buffer.settle(count)
        self._most = min(BATCH, 2 * self._most)
        return True

    def _refused(self, count: int, status: int, reason: str) -> bool:
        """Narrow down to the entry that the API will never take, and give that one up."""
        if status in INVALID and count > 1:
            self._most = count // 2
            return True
        if status in INVALID or status == FOREIGN:
            _log.error("%d rows of telemetry are given up: %d %s", count, status, reason)
            self.buffer.settle(count)
            return True
        _log.warning("the API did not take telemetry: %d %s", status, reason)
        return False
