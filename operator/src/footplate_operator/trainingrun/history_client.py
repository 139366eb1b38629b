"""Client of the API that checks for the final status of runs due for deletion.

The API mirrors runs by a watch of its own, so it may be behind, and it may be away for
hours. Separate tasks query it run by run, a few at a time, with growing pauses:
a reconciliation reads the last answer and waits for none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
from pydantic import ValidationError

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields
from footplate_contracts.names import API_AUDIENCE, Phase, RunUid
from footplate_contracts.recorded_run import RecordedRun
from footplate_operator.api_access import ApiAccess
from footplate_operator.errors import ApiRefused, ApiUnreachable
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.observation import RecordingStatus
from footplate_operator.trainingrun.run import Run

ANSWER_SECONDS: Final = 5.0
AT_ONCE: Final = 8  # requests: an API that has just started has enough to do
FIRST_RETRY_SECONDS: Final = 2.0  # the mirror is behind by less, as a rule
LONGEST_RETRY_SECONDS: Final = 30.0
TOLD_AGAIN_SECONDS: Final = 600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FinalStatus:
    """Status that the API should have: a terminal phase, from this object version or a later one."""

    key: Key
    uid: RunUid
    phase: Phase | None
    version: int  # resourceVersion

    @classmethod
    def of(cls, run: Run) -> FinalStatus:
        """Return the final status of a run that has ended, from the operator's object."""
        return cls(run.key, run.uid, run.phase, int(run.version or 0))

    def missing(self, known: RecordedRun) -> str:
        """Return how `known` differs from this status; empty if it is this one or a later version."""
        if known.uid != self.uid:
            return f"it only has uid {known.uid}"
        if known.phase != self.phase:
            return f"it still has phase {known.phase}"
        if known.resource_version < self.version:
            return f"it has resourceVersion {known.resource_version}, but the last is {self.version}"
        return ""


class HistoryClient(Protocol):
    """Connection to the API."""

    async def missing(self, final: FinalStatus) -> str:
        """Return why the API does not have this status; empty if it has. Raise ApiUnreachable."""


class HttpHistoryClient(HistoryClient):
    """Connection to the API over HTTP."""

    def __init__(self, session: aiohttp.ClientSession, api: ApiAccess) -> None:
        self._session = session
        self._api = api

    async def missing(self, final: FinalStatus) -> str:
        path = f"/v1/namespaces/{final.key.namespace}/runs/{final.key.name}"
        try:
            async with self._session.get(
                self._api.url.rstrip("/") + path,
                params={"uid": final.uid},
                headers={"Accept": "application/json", **self._api.headers()},
                ssl=self._api.context(),
                timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
            ) as response:
                text = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ApiUnreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        if response.status == 404:
            return "it does not have the run"
        if response.status in (401, 403):
            raise ApiRefused(self._refusal(response.status, final.key.namespace))
        if response.status != 200:
            raise ApiUnreachable(f"HTTP {response.status}: {text[:200].decode(errors='replace')}")
        try:
            return final.missing(RecordedRun.model_validate_json(text))
        except ValidationError as error:
            raise ApiUnreachable(f"unreadable response: {error}") from error

    def _refusal(self, status: int, namespace: str) -> str:
        """Return what is misconfigured, for the administrator of operator and API."""
        if status == 403:
            return (
                f"HTTP 403: the operator's service account may not get trainingruns in namespace {namespace};"
                " bind the ClusterRole that the chart creates"
            )
        file = self._api.token_file
        if file is None:
            return "HTTP 401: FOOTPLATE_API_TOKEN_FILE is not set, so no token was sent"
        if not self._api.token():
            return f"HTTP 401: {file} (FOOTPLATE_API_TOKEN_FILE) holds no token"
        if not self._api.verified:
            return f"HTTP 401: tokens are not sent over plain HTTP, and FOOTPLATE_API_URL is {self._api.url}"
        return (
            f"HTTP 401: it does not accept the token in {file}: its audience must be one of the API's"
            f" (api.auth.audiences; {API_AUDIENCE} is usual)"
        )


class RecordingTracker(Protocol):
    """Queries for final statuses as a reconciliation uses them; runs are identified by uid."""

    def get_status(self, final: FinalStatus) -> RecordingStatus | None:
        """Return the API's last answer about this status; None if no API is configured."""

    def start_polling(self, final: FinalStatus) -> None:
        """Query the API until it has this status, in place of any earlier one of the same run."""

    def stop_polling(self, uid: RunUid) -> None:
        """Stop querying; retain the last answer."""

    def forget(self, uid: RunUid) -> None:
        """Stop querying, and drop the last answer."""


class NullRecordingTracker(RecordingTracker):
    """Null implementation for an operator without an API: nothing waits for one."""

    def get_status(self, final: FinalStatus) -> None:
        return None

    def start_polling(self, final: FinalStatus) -> None:
        return None

    def stop_polling(self, uid: RunUid) -> None:
        return None

    def forget(self, uid: RunUid) -> None:
        return None


@dataclass
class _Asked:
    final: FinalStatus
    began: float  # by the loop's clock
    missing: str | None = None  # None: not answered yet; empty: nothing is
    task: asyncio.Task[None] | None = None


@dataclass(eq=False)
class RecordingPoller(RecordingTracker):
    """Queries to the API, in a task per waiting run; calls `requeue` with runs whose final status it has."""

    client: HistoryClient
    requeue: Callable[[Key], None]
    _asked: dict[RunUid, _Asked] = field(default_factory=dict)
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _fault: tuple[type[ApiUnreachable], float] | None = None  # as it was told last, and when

    def get_status(self, final: FinalStatus) -> RecordingStatus:
        asked = self._asked.get(final.uid)
        if asked is None:
            return RecordingStatus()
        known = asked.final == final and asked.missing == ""
        return RecordingStatus(known, asked.missing or "", asyncio.get_running_loop().time() - asked.began)

    def start_polling(self, final: FinalStatus) -> None:
        asked = self._asked.get(final.uid)
        if asked is not None and asked.final == final and asked.task is not None:
            return
        if asked is not None and asked.task is not None:
            asked.task.cancel()
        began = asked.began if asked is not None else asyncio.get_running_loop().time()
        asked = self._asked[final.uid] = _Asked(final, began)
        asked.task = asyncio.create_task(self._ask(asked), name=f"final status of {final.key}")

    def stop_polling(self, uid: RunUid) -> None:
        asked = self._asked.get(uid)
        if asked is not None and asked.task is not None:
            asked.task.cancel()
            asked.task = None

    def forget(self, uid: RunUid) -> None:
        self.stop_polling(uid)
        self._asked.pop(uid, None)

    async def close(self) -> None:
        """Stop querying for all runs."""
        tasks = [asked.task for asked in self._asked.values() if asked.task is not None]
        for uid in list(self._asked):
            self.forget(uid)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _ask(self, asked: _Asked) -> None:
        tries = 0
        while True:
            async with self._turn:
                asked.missing = await self._answer(asked.final)
            if not asked.missing:
                self.requeue(asked.final.key)
                return
            if not tries:
                about = log_fields(run=asked.final.key, uid=asked.final.uid, why=asked.missing)
                _log.info("deletion waits until the API has the final status", extra=about)
            tries += 1
            await asyncio.sleep(
                backoff_seconds(tries, first=FIRST_RETRY_SECONDS, longest=LONGEST_RETRY_SECONDS, factor=1.5)
            )

    async def _answer(self, final: FinalStatus) -> str:
        """Return why the API does not have this status, including that it is unreachable."""
        try:
            missing = await self.client.missing(final)
        except ApiUnreachable as error:
            self._tell(error)
            return str(error) if isinstance(error, ApiRefused) else f"it does not answer ({error})"
        if self._fault is not None:
            _log.info("the API answers")
        self._fault = None
        return missing

    def _tell(self, error: ApiUnreachable) -> None:
        """Log an unreachable API once, and a refusal every TOLD_AGAIN_SECONDS, as somebody has to mend it."""
        refused, now = isinstance(error, ApiRefused), asyncio.get_running_loop().time()
        again = refused and self._fault is not None and now - self._fault[1] >= TOLD_AGAIN_SECONDS
        if self._fault is None or self._fault[0] is not type(error) or again:
            told = "the API rejects the operator" if refused else "the API does not answer"
            _log.warning(told, extra=log_fields(error=error))
            self._fault = type(error), now


@asynccontextmanager
async def open_tracker(
    session: aiohttp.ClientSession, api: ApiAccess, requeue: Callable[[Key], None]
) -> AsyncIterator[RecordingTracker]:
    """Open the queries to the API for the block; none if no API is configured."""
    if not api.url:
        yield NullRecordingTracker()
        return
    askers = RecordingPoller(HttpHistoryClient(session, api), requeue)
    try:
        yield askers
    finally:
        await askers.close()
