"""Sends queued telemetry to the API in batches, retrying until it is stored.

The API may be away for minutes. Nothing is dropped for that and nothing waits: training goes on, the queue
grows, and it is emptied oldest first when the API answers again. Nor is anything dropped for a 401 or 403: a
token may have expired a moment before the kubelet renewed it, and a pod sends before the operator has written
into the status that it is the coordinator. Nor for an answer that is no receipt, as from a proxy, whatever
its status. Only entries that the API itself reports as never acceptable are given up, with a line in the log:
one bad row must not keep all rows after it from being stored.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import aiohttp
from pydantic import ValidationError

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.problems import ProblemBody, ProblemType
from footplate_contracts.reports import TelemetryReceipt
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.telemetry import BATCH, EncodedBatch, TelemetryBuffer

BUSY: Final = frozenset({429, 503})  # statuses that may say when to come back


_log = logging.getLogger(__name__)

TOO_LARGE: Final = 413
ANSWER_BYTES: Final = 1024 * 1024  # receipts have a hundred; problems name the fields that are wrong
_TIMEOUT: Final = aiohttp.ClientTimeout(total=30.0, sock_connect=5.0)


@dataclass(frozen=True)
class TelemetryDestination:
    """The API's URL and the sender's credentials."""

    url: str
    token_file: Path | None
    run_uid: str
    epoch: int
    # Certificates in PEM that vouch for the API, which the kubelet renews; None: those of the system.
    authorities: Path | None = None
    _trust: dict[bytes, ssl.SSLContext] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def _verified(self) -> bool:
        return self.url.startswith("https://")

    def headers(self) -> dict[str, str]:
        """Return the next request's headers, with the token file's current content.

        The kubelet writes a new token into the file well before the old one expires. The token is sent only
        to an API that has proven its identity, never over plain HTTP. The run's own token is for its
        coordinator alone and is never sent. Raises ValueError while the file holds no text.
        """
        headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        token = _content(self.token_file) if self.token_file and self._verified else ""
        return {**headers, "Authorization": f"Bearer {token}"} if token else headers

    def tls_context(self) -> ssl.SSLContext | bool:
        """Return the TLS trust for the next request; True over plain HTTP, which verifies nothing.

        Raises OSError, or ValueError, while the file was never there or holds no certificates.
        """
        if not self._verified:
            return True
        try:
            bundle = self.authorities.read_bytes() if self.authorities is not None else b""
        except FileNotFoundError:
            if not self._trust:
                raise
            [bundle] = self._trust  # its ConfigMap is deleted with the run, and the last rows are still here
        if self.authorities is not None and not bundle.strip():
            raise ValueError(f"{self.authorities} is empty; it must hold the API's CA certificate")
        if bundle not in self._trust:
            try:
                context = ssl.create_default_context(cadata=bundle.decode() or None)
            except (ssl.SSLError, UnicodeDecodeError) as error:
                raise ValueError(f"{self.authorities} holds no PEM certificates: {error}") from None
            self._trust.clear()
            self._trust[bundle] = context
        return self._trust[bundle]


def _content(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} must hold a token, but is not UTF-8: {error.reason}") from None


@dataclass
class TelemetrySender:
    """A task that empties `buffer` into the API; `chance` spreads the retries of runs.

    `over` returns whether the run has ended: then gathering more rows is not worthwhile.
    """

    buffer: TelemetryBuffer
    destination: TelemetryDestination
    chance: random.Random
    over: Callable[[], bool] = lambda: False
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _last: asyncio.Event = field(default_factory=asyncio.Event)  # the run has ended
    _gather: float = timing.GATHER  # seconds before the next batch
    _failures: int = 0  # in a row
    _trouble: str = ""  # of the last try: said in the log when it begins, changes and ends
    _most: int = BATCH  # entries of the next batch

    def wake(self) -> None:
        """Wake the task: rows were queued, or the run has ended."""
        self._news.set()
        if self.over():
            self._last.set()

    async def run(self) -> None:
        """Ship until cancelled."""
        with suppress(OSError, ValueError):
            self.destination.tls_context()  # while the file is there
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            pause: float | None = None
            while True:
                if pause is None:
                    await self._batch()
                else:
                    await asyncio.sleep(pause)
                pause = await self.send_batch(session)

    async def flush(self, seconds: float) -> None:
        """Ship the queue, for at most `seconds`: this process is the only one that has it."""
        deadline = asyncio.get_running_loop().time() + seconds
        async with aiohttp.ClientSession(timeout=_TIMEOUT) as session:
            try:
                async with asyncio.timeout_at(deadline):
                    while self.buffer.has_pending:
                        pause = await self.send_batch(session)
                        await asyncio.sleep(_within(pause or 0.0, deadline))
            except TimeoutError:
                _log.warning("%d rows of telemetry were not stored in time", len(self.buffer))

    async def send_batch(self, session: aiohttp.ClientSession) -> float | None:
        """Send the oldest batch; return seconds until the next try, None where that batch is settled."""
        batch = self.buffer.batch(self.destination.run_uid, self.destination.epoch, self._most)
        if batch is None:
            return None
        try:
            headers, trust = self.destination.headers(), self.destination.tls_context()
            # A redirection is not followed: it becomes a GET, whose answer says nothing of the batch.
            async with session.post(
                self.destination.url,
                data=batch.text,
                headers=headers,
                ssl=trust,
                allow_redirects=False,
                auto_decompress=False,
            ) as answer:
                said = await _said(answer)
                receipt = _receipt(said) if answer.status < 300 else None
                if receipt is None:
                    told = parse_retry_after(answer.status, answer.headers.get("Retry-After"))
                    return self._refused(batch, answer.status, said, told)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            self._say(type(error).__name__, f"the API cannot be reached: {error!r}")
            return self._failed()
        self._say("")
        self.buffer.mark_stored(batch.count, batch.given_up)
        self._failures, self._gather = 0, next_batch_delay(receipt)
        self._most = min(BATCH, 2 * self._most)
        return None

    def _refused(self, batch: EncodedBatch, status: int, said: bytes, told: float | None) -> float | None:
        """Halve the batch to find the entry that the API will never accept, and give that one up."""
        reason, final = said[:200].decode(errors="replace"), _final(status, said)
        narrower = final is not ProblemType.RUN_MISMATCH and (final is not None or status == TOO_LARGE)
        if narrower and batch.count > 1:
            self._most = batch.count // 2
            return 0.0
        if final is not None:
            _log.error("dropping %d rows of telemetry: %d %s", batch.count, status, reason)
            self.buffer.drop_refused(batch.count, batch.given_up)
            return None
        self._say(str(status), f"the API rejected the batch: {status} {reason}")
        return self._failed(told)

    def _say(self, trouble: str, why: str = "") -> None:
        """Log once why telemetry is retained, however often it is retried, and when it is accepted again."""
        if trouble != self._trouble:
            if trouble:
                _log.warning("telemetry is kept and resent: %s", why)
            else:
                _log.info("the API accepts telemetry again")
        self._trouble = trouble

    def _failed(self, told: float | None = None) -> float:
        self._failures += 1
        return retry_delay(self._failures, self.chance.random(), told)

    async def _batch(self) -> None:
        """Wait for something to send, and for more of it, unless it fills a batch."""
        if not self.buffer.has_pending:
            self._news.clear()
            await self._news.wait()
        if len(self.buffer) < self._most:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._gather):
                    await self._last.wait()


def _within(pause: float, deadline: float) -> float:
    """Return `pause`, or less to fit a last try before `deadline`, a time of the running loop."""
    left = deadline - asyncio.get_running_loop().time()
    return left - timing.LAST_TRY if pause >= left > timing.LAST_TRY else pause


async def _said(answer: aiohttp.ClientResponse) -> bytes:
    """Return the answer's body; raises ValueError if it is longer than any answer of the API."""
    said = bytearray()
    async for part in answer.content.iter_any():
        said += part
        if len(said) > ANSWER_BYTES:
            raise ValueError(f"its response is longer than {ANSWER_BYTES} bytes")
    return bytes(said)


def _final(status: int, said: bytes) -> ProblemType | None:
    """Return why the API will never accept it; None where it may, or where another server answers."""
    try:
        kind = ProblemType(ProblemBody.model_validate_json(said).type)
    except ValueError:  # also of what is no JSON
        return None
    return kind if kind is not ProblemType.HTTP_ERROR or status == TOO_LARGE else None


def _receipt(text: bytes) -> TelemetryReceipt | None:
    """Return the API's receipt for a batch; None where it cannot be parsed."""
    try:
        return TelemetryReceipt.model_validate_json(text)
    except ValidationError:
        return None


def parse_retry_after(status: int, retry_after: str | None) -> float | None:
    """Return the seconds of Retry-After in an answer; None without them, or for a date."""
    if status not in BUSY or retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds > 0.0 else None


def retry_delay(failures: int, chance: float, told: float | None = None) -> float:
    """Return seconds to wait after `failures` in a row, of which the last requested `told`.

    `chance` in [0, 1) spreads runs. The requested delay is never undercut, except for the longest wait of
    all.
    """
    if told is not None:
        return min(told * (1.0 + timing.LONGER_THAN_TOLD * chance), timing.LONGEST_TOLD)
    return backoff_seconds(
        failures, first=timing.FIRST_RETRY, longest=timing.LONGEST_RETRY, jitter=(0.5, 1.0), chance=chance
    )


def next_batch_delay(receipt: TelemetryReceipt | None) -> float:
    """Return seconds to gather rows before the batch after the one that `receipt` is for."""
    asked = receipt.gather_seconds if receipt is not None else None
    if asked is None or math.isnan(asked):
        return timing.GATHER
    return min(max(asked, timing.SHORTEST_GATHER), timing.LONGEST_GATHER)
