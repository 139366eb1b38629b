"""Client of the runs' coordinators: one long-poll for each live run, and the sending of directives.

The coordinator of a run that trains knows within a millisecond what Kubernetes
learns within a minute. A poll that fails proves nothing about the run, only
about the connection: the client retries, and declares no worker dead.

The task that polls a coordinator also sends its directives, only the newest ones, until the coordinator
has them. Reconciliations wait for no coordinator.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import logging
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, Protocol

import aiohttp
from pydantic import ValidationError

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.base import first_error
from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.directives import Directives
from footplate_contracts.logs import log_fields
from footplate_contracts.names import COORDINATOR_PORT, RunUid
from footplate_operator.errors import CoordinatorUnreachable, LeadershipLost
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.gang.coordinator import SILENT_SECONDS
from footplate_operator.trainingrun.status import disturbance

# How long the coordinator may wait for news: an answer is also a word of life.
POLL_SECONDS: Final = 4.0
ANSWER_SECONDS: Final = 2.0  # beyond that, for the answer itself
MOST_UNANSWERED: Final = 6  # so that a way that is broken for long costs a new coordinator in ten minutes
COMMAND_SECONDS: Final = 5.0
# A coordinator runs where its users may do much, and one operator listens to all. That of 4096 nodes with the
# longest names, of which all are missed, answers with 6 MB and 160,000 values. JSON of many small values
# takes thirty times its length while it is read.
ANSWER_BYTES: Final = 8 * 1024 * 1024
ANSWER_VALUES: Final = 400_000
FIRST_RETRY_SECONDS: Final = 0.2
LONGEST_RETRY_SECONDS: Final = 5.0
# A coordinator has an address some seconds before it listens; then workers may wait for its word.
STARTING_SECONDS: Final = 20.0
LONGEST_RETRY_STARTING_SECONDS: Final = 1.0
# A coordinator may have news a hundred times a second; nobody here needs them that often.
LEAST_INTERVAL_SECONDS: Final = 0.1

# Of silence, until which somebody looks once a second: something is to be said of it, and done about it.
# Whether others are heard, which have no news either, shows only after a poll of theirs.
LOOKED_AT_SECONDS: Final = SILENT_SECONDS + POLL_SECONDS
EACH_SECONDS: Final = 1.0
# From then on less often, for Leases of nodes, until Kubernetes has called a lost node so.
LEASES_SECONDS: Final = 60.0
LATER_SECONDS: Final = 3.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CoordinatorEndpoint:
    """Address and credentials of a coordinator."""

    pod_uid: str
    epoch: int
    address: str  # IP
    host: str  # the name in its certificate
    token: str
    certificate: str  # PEM; the only authority
    port: int = COORDINATOR_PORT


def retry_delay(failures: int, followed: float) -> float:
    """Return the seconds to wait after `failures` in a row; the first try was `followed` seconds ago."""
    late = followed - STARTING_SECONDS
    longest = min(LONGEST_RETRY_SECONDS, max(LONGEST_RETRY_STARTING_SECONDS, late))
    return backoff_seconds(failures, first=FIRST_RETRY_SECONDS, longest=longest, factor=1.5)


class BaseCoordinatorClient(Protocol):
    """Connection to one coordinator."""

    endpoint: CoordinatorEndpoint

    async def state(self, after: int, wait: float) -> CoordinatorState:
        """Return the state once its version is above `after` or `wait` seconds have passed.

        Raises CoordinatorUnreachable.
        """

    async def send_directives(self, directives: Directives) -> CoordinatorState:
        """Send the gang's desired state, which is idempotent; raise CoordinatorUnreachable."""


class CoordinatorClient(BaseCoordinatorClient):
    """Connection to one coordinator over HTTPS."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: CoordinatorEndpoint) -> None:
        self._session = session
        self.endpoint = endpoint
        # One TLS context serves all runs: aiohttp compares the certificate before it sends a token. It is the
        # run's own, so its name and issuer say nothing more, and the handshake has proved its key.
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(endpoint.certificate)).digest()
        self._certificate = aiohttp.Fingerprint(digest)
        address = f"[{endpoint.address}]" if ":" in endpoint.address else endpoint.address
        self._root = f"https://{address}:{endpoint.port}"
        self._said = False  # that sums of energy are passed over

    async def state(self, after: int, wait: float) -> CoordinatorState:
        query = {"after": str(after), "wait": f"{wait:g}"}
        return await self._ask("GET", "/v1/state", wait + ANSWER_SECONDS, query)

    async def send_directives(self, directives: Directives) -> CoordinatorState:
        return await self._ask("PUT", "/v1/directives", COMMAND_SECONDS, body=directives.to_json())

    async def _ask(
        self,
        method: str,
        path: str,
        seconds: float,
        query: dict[str, str] | None = None,
        body: dict[str, object] | None = None,
    ) -> CoordinatorState:
        try:
            async with self._session.request(
                method,
                self._root + path,
                params=query,
                json=body,
                ssl=self._certificate,
                server_hostname=self.endpoint.host,
                headers={"Authorization": f"Bearer {self.endpoint.token}", "Accept-Encoding": "identity"},
                timeout=aiohttp.ClientTimeout(total=seconds, connect=COMMAND_SECONDS),
                auto_decompress=False,  # a thousandth of what it unpacks to may be sent
            ) as response:
                text = await _body(response)
                if response.status != 200:
                    raise CoordinatorUnreachable(
                        f"HTTP {response.status}: {text[:200].decode(errors='replace')}"
                    )
                passed_over: list[str] = []
                state = CoordinatorState.model_validate_json(text, context=passed_over)
                self._say(passed_over)
                return state
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            refused = isinstance(error, OSError) and error.errno == errno.ECONNREFUSED
            raise CoordinatorUnreachable(f"{type(error).__name__}: {error}", refused) from error
        except ValidationError as error:
            raise CoordinatorUnreachable(f"unreadable response: {first_error(error)}") from error

    def _say(self, passed_over: list[str]) -> None:
        if passed_over:
            about = log_fields(pod=self.endpoint.pod_uid, pods=len(passed_over), why=passed_over[0])
            level = logging.DEBUG if self._said else logging.WARNING
            _log.log(level, "ignoring impossible energy readings of pods", extra=about)
            self._said = True


async def _body(response: aiohttp.ClientResponse) -> bytes:
    """Read the body of a response; raise CoordinatorUnreachable if it is larger than any run needs."""
    read = bytearray()
    async for part in response.content.iter_any():
        read += part
        if len(read) > ANSWER_BYTES:
            raise CoordinatorUnreachable(f"its response is longer than {ANSWER_BYTES} bytes")
    values = sum(map(read.count, (b",", b"[", b"{")))
    if values > ANSWER_VALUES:
        raise CoordinatorUnreachable(f"its response must have at most {ANSWER_VALUES} values, not {values}")
    return bytes(read)


class CoordinatorMonitor(Protocol):
    """Coordinators as a reconciliation uses them; runs are identified by uid."""

    def state(self, uid: RunUid) -> CoordinatorState:
        """Return the last state that the run's coordinator reported."""

    def follow(self, key: Key, uid: RunUid, endpoint: CoordinatorEndpoint) -> None:
        """Poll this coordinator, and no other one of the same run."""

    def unfollow(self, uid: RunUid) -> None:
        """Stop polling; retain the last state."""

    def forget(self, uid: RunUid) -> None:
        """Stop polling, and drop the last state."""

    def silence(self, uid: RunUid) -> float:
        """Return the seconds since the run's coordinator last answered; 0 if its silence proves nothing.

        They count half for each predecessor in a row that never answered either: then the
        network path is more likely to be broken.
        """

    def unanswered(self, uid: RunUid) -> tuple[str, float]:
        """Return the polled pod's UID and its seconds of silence, whatever other coordinators do."""

    def send_directives(self, uid: RunUid, directives: Directives | None) -> None:
        """Send `directives` to the polled coordinator, in place of any older ones; None: send nothing."""


@dataclass
class _Watch:
    key: Key
    client: BaseCoordinatorClient
    followed: float  # since when, by the loop's clock
    heard: float  # by the same clock: the last answer, or when this watch began
    unanswered: int  # so many before this one never answered, in a row
    is_vague: Callable[[], bool]  # its silence says nothing of it, as no other coordinator is heard
    answered: bool = False
    refused: bool = False  # the last poll was, at its port
    wanted: Directives | None = None  # what is still to be told
    listening: asyncio.Task[None] | None = None
    telling: asyncio.Task[None] | None = None  # while there is something to be told
    timer: asyncio.TimerHandle | None = None  # of the next look at its silence

    def tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self.listening, self.telling) if task is not None]

    @property
    def silence(self) -> float:
        return asyncio.get_running_loop().time() - self.heard

    def answers(self, look: Callable[[Key], None]) -> None:
        if self.silence >= disturbance.SILENT_SECONDS:
            look(self.key)  # what was said of it is over
        self.heard, self.unanswered, self.answered = asyncio.get_running_loop().time(), 0, True
        self.expects(look)

    def expects(self, look: Callable[[Key], None]) -> None:
        """Schedule a reconciliation once it has been silent for SILENT_SECONDS, even without other events."""
        if self.timer is not None:
            self.timer.cancel()
        first = disturbance.SILENT_SECONDS + LEAST_INTERVAL_SECONDS
        self.timer = asyncio.get_running_loop().call_later(first, self._silent, look)

    def _silent(self, look: Callable[[Key], None]) -> None:
        look(self.key)
        if self.silence < (LEASES_SECONDS if self.is_vague() else LOOKED_AT_SECONDS):
            pause = EACH_SECONDS if self.silence < LOOKED_AT_SECONDS else LATER_SECONDS
            self.timer = asyncio.get_running_loop().call_later(pause, self._silent, look)

    def cancel(self) -> None:
        for task in self.tasks():
            task.cancel()
        if self.timer is not None:
            self.timer.cancel()


@dataclass(eq=False)
class CoordinatorPoller:
    """Long-polls of all live runs, and their last states; calls `requeue` with runs whose state is new."""

    connect: Callable[[CoordinatorEndpoint], BaseCoordinatorClient]
    requeue: Callable[[Key], None]
    check: Callable[[], None] = lambda: None  # before anything is told; may raise LeadershipLost
    _watches: dict[RunUid, _Watch] = field(default_factory=dict)
    _states: dict[RunUid, CoordinatorState] = field(default_factory=dict)

    def state(self, uid: RunUid) -> CoordinatorState:
        return self._states.get(uid, CoordinatorState.empty())

    def follow(self, key: Key, uid: RunUid, endpoint: CoordinatorEndpoint) -> None:
        known = self._watches.get(uid)
        if known is not None:
            if known.client.endpoint == endpoint:
                return
            known.cancel()
        unanswered = 0 if known is None or known.answered else known.unanswered + 1
        now = asyncio.get_running_loop().time()
        watch = _Watch(key, self.connect(endpoint), now, now, unanswered, lambda: not self.silence(uid))
        watch.expects(self.requeue)
        watch.listening = asyncio.create_task(self._listen(uid, watch), name=f"coordinator of {key}")
        self._watches[uid] = watch

    def unfollow(self, uid: RunUid) -> None:
        watch = self._watches.pop(uid, None)
        if watch is not None:
            watch.cancel()

    def forget(self, uid: RunUid) -> None:
        self.unfollow(uid)
        self._states.pop(uid, None)

    def send_directives(self, uid: RunUid, directives: Directives | None) -> None:
        watch = self._watches.get(uid)
        if watch is None:
            return
        watch.wanted = directives
        if directives is not None and (watch.telling is None or watch.telling.done()):
            watch.telling = asyncio.create_task(self._tell(uid, watch), name=f"directives of {watch.key}")

    def silence(self, uid: RunUid) -> float:
        """Return the seconds of silence; 0 if the others are silent too, and its port has not refused."""
        watch = self._watches.get(uid)
        if watch is None:
            return 0.0
        others = [other.heard for other in self._watches.values() if other is not watch]
        if others and max(others) - watch.heard <= POLL_SECONDS + 0.5 and not watch.refused:
            return 0.0
        return self.unanswered(uid)[1]

    def unanswered(self, uid: RunUid) -> tuple[str, float]:
        watch = self._watches.get(uid)
        if watch is None:
            return "", 0.0
        return watch.client.endpoint.pod_uid, watch.silence / 2.0 ** min(watch.unanswered, MOST_UNANSWERED)

    async def close(self) -> None:
        """Stop polling all coordinators."""
        tasks = [task for watch in self._watches.values() for task in watch.tasks()]
        for uid in list(self._watches):
            self.unfollow(uid)
        for task in tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def _tell(self, uid: RunUid, watch: _Watch) -> None:
        failures = 0
        while (wanted := watch.wanted) is not None:
            try:
                self.check()
                answer = await watch.client.send_directives(wanted)
            except LeadershipLost as error:
                _log.warning("directives not sent", extra=self._about(uid, watch, error=error))
                return
            except CoordinatorUnreachable as error:
                about = self._about(uid, watch, error=error)
                _log.log(logging.DEBUG if failures else logging.WARNING, "directives not sent", extra=about)
                failures += 1
                await self._pause(watch, failures)
                continue
            if watch.wanted == wanted:
                watch.wanted = None
            watch.answers(self.requeue)
            known = self._states.get(uid)
            # The long-poll may have been faster, and would not say again what it has said.
            if known is None or (known.epoch, known.version) <= (answer.epoch, answer.version):
                self._states[uid] = answer
            if not _says_as(known, answer):
                self.requeue(watch.key)

    async def _listen(self, uid: RunUid, watch: _Watch) -> None:
        version, failures = -1, 0
        while True:
            try:
                state = await watch.client.state(version, POLL_SECONDS)
            except CoordinatorUnreachable as error:
                if not failures:
                    about = self._about(uid, watch, epoch=watch.client.endpoint.epoch, error=error)
                    _log.info("coordinator unreachable", extra=about)
                failures += 1
                version, watch.refused = -1, error.refused
                if self.silence(uid) >= SILENT_SECONDS:
                    self.requeue(watch.key)
                await self._pause(watch, failures)
                continue
            if failures or version < 0:
                about = self._about(uid, watch, epoch=state.epoch, state=state.state.value)
                _log.info("coordinator answers", extra=about)
            failures, watch.refused = 0, False
            watch.answers(self.requeue)
            known, self._states[uid] = self._states.get(uid), state
            if state.version != version or not _says_as(known, state):
                version = state.version
                self.requeue(watch.key)
            await asyncio.sleep(LEAST_INTERVAL_SECONDS)

    def _about(self, uid: RunUid, watch: _Watch, **more: object) -> dict[str, object]:
        """Return log fields about a run; its tasks outlive generations."""
        return log_fields(run=watch.key, uid=uid, generation=self.state(uid).generation, **more)

    async def _pause(self, watch: _Watch, failures: int) -> None:
        followed = asyncio.get_running_loop().time() - watch.followed
        await asyncio.sleep(retry_delay(failures, followed))


def _says_as(known: CoordinatorState | None, state: CoordinatorState) -> bool:
    """Return whether only the energy differs, which grows by itself and is read along with other changes."""
    return known is not None and known.model_copy(update={"energy": state.energy}) == state
