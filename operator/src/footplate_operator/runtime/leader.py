"""Leader election by a Lease that is acquired, renewed and released.

kopf's own peering only pauses and does not fence, so the Lease decides. Clocks of two nodes differ, and step:
a waiting replica counts the seconds since it last saw the Lease renewed, and does not compare times that a
clock wrote. The holder stops before those seconds are over, also where the API server hangs. A replica that
was stopped meanwhile has not noticed yet when it resumes: so every call that changes something first checks
that the Lease is still alive (`fence.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from footplate_contracts.logs import log_fields
from footplate_operator.errors import AlreadyExists, ClusterError, Conflict, LeadershipLost, NotFound
from footplate_operator.runtime.clock import format_time, parse_time
from footplate_operator.runtime.cluster import Cluster
from footplate_operator.runtime.kinds import LEASE, Json

RENEWALS: Final = 3  # within the life of a Lease
ATTEMPTS: Final = 15  # within that life, while they fail
LET_GO: Final = 0.9  # share of that life after which a leader that cannot renew it ends
LOOK_SECONDS: Final = 1.0  # how often whoever waits looks whether the Lease was given back
MOMENT_SECONDS: Final = 0.001  # too short for a request; and a shorter wait need not move a clock at all
_log = logging.getLogger(__name__)


class LeaseAction(StrEnum):
    """Next action on the Lease."""

    CREATE = "create"
    TAKE = "take"  # it is free, expired or ours
    WAIT = "wait"


@dataclass(frozen=True)
class LeaseView:
    """The Lease as the API server stores it."""

    holder: str
    renewed: datetime | None
    seconds: float
    transitions: int


def read_lease_view(lease: Json | None) -> LeaseView | None:
    """Return the fields of a Lease that matter; None where there is none."""
    if lease is None:
        return None
    spec = lease.get("spec", {})
    renewed = spec.get("renewTime")
    return LeaseView(
        holder=spec.get("holderIdentity") or "",
        renewed=parse_time(renewed) if renewed else None,
        seconds=float(spec.get("leaseDurationSeconds") or 0),
        transitions=int(spec.get("leaseTransitions") or 0),
    )


def next_action(lease: LeaseView | None, identity: str, unchanged: float) -> LeaseAction:
    """Create, take (also: renew) or wait; `unchanged`: seconds since this version was first seen."""
    if lease is None:
        return LeaseAction.CREATE
    if lease.holder in ("", identity) or lease.renewed is None:
        return LeaseAction.TAKE
    return LeaseAction.TAKE if unchanged > lease.seconds else LeaseAction.WAIT


def build_lease(
    namespace: str, name: str, identity: str, seconds: float, before: Json | None, now: datetime
) -> Json:
    """Return the Lease held by `identity` (empty: by nobody) from `now` on, based on `before`."""
    known = read_lease_view(before)
    moved = known is not None and known.holder != identity
    spec = dict((before or {}).get("spec", {}))
    time = format_time(now, "microseconds")
    spec |= {
        "holderIdentity": identity,
        "leaseDurationSeconds": int(seconds),
        "renewTime": time,
        "leaseTransitions": (known.transitions if known else 0) + int(moved),
    }
    if known is None or moved:
        spec["acquireTime"] = time
    metadata = {"name": name, "namespace": namespace}
    if before is not None:
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
    return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


@dataclass(eq=False)
class Leadership:
    """The Lease of one replica; `seconds` is its duration, `now` a clock in UTC, for people to read."""

    cluster: Cluster
    namespace: str
    name: str
    identity: str
    seconds: float
    now: Callable[[], datetime]
    # By the loop's clock, which never steps: the Lease and since when it is as it is; when it was renewed.
    _seen: tuple[LeaseView | None, float] | None = None
    _renewed: float | None = None

    def alive(self) -> bool:
        """Return whether the Lease is ours, and no other replica can have taken it yet."""
        return self._left() > 0

    def check(self) -> None:
        """Raise LeadershipLost unless the Lease is alive."""
        if not self.alive():
            raise LeadershipLost(f"this replica does not hold Lease {self.namespace}/{self.name}")

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        waiting = False
        while not await self._renew():
            if not waiting:
                _log.info("waiting for the Lease", extra=log_fields(name=self.name, identity=self.identity))
                waiting = True
            await asyncio.sleep(min(LOOK_SECONDS, self.seconds / RENEWALS / 2))
        _log.info("acquired the Lease", extra=log_fields(name=self.name, identity=self.identity))

    async def renew_forever(self) -> None:
        """Renew forever; raises LeadershipLost once that was impossible for most of the Lease's duration."""
        pause = self.seconds / RENEWALS
        while (left := self._left()) > MOMENT_SECONDS:
            await asyncio.sleep(min(left, pause))
            pause = self.seconds / ATTEMPTS
            try:
                async with asyncio.timeout(max(0.0, min(self._left(), self.seconds / RENEWALS))):
                    if await self._renew():
                        pause = self.seconds / RENEWALS
                    elif await self._taken():
                        break
            except TimeoutError:
                _log.warning("the Lease request timed out", extra=log_fields(name=self.name))
        self._renewed = None
        raise LeadershipLost(f"Lease {self.namespace}/{self.name} could not be renewed")

    async def release(self) -> None:
        """Release the Lease for the next replica; this one does nothing more."""
        self._renewed = None
        try:
            lease = await self._read()
            known = read_lease_view(lease)
            if known is not None and known.holder == self.identity:
                await self.cluster.replace(
                    LEASE, build_lease(self.namespace, self.name, "", 1.0, lease, self.now())
                )
                _log.info("released the Lease", extra=log_fields(name=self.name))
        except ClusterError as error:
            _log.warning("the Lease could not be released", extra=log_fields(error=error))

    async def _renew(self) -> bool:
        """Acquire or renew the Lease, valid from the request's start; return whether it is ours."""
        began = _clock()
        if not await self._take():
            return False
        self._renewed = began
        return True

    async def _take(self) -> bool:
        try:
            lease = await self._read()
            action = next_action(
                read_lease_view(lease), self.identity, self._unchanged(read_lease_view(lease))
            )
            if action is LeaseAction.WAIT:
                return False
            body = build_lease(self.namespace, self.name, self.identity, self.seconds, lease, self.now())
            await (
                self.cluster.create(LEASE, body)
                if action is LeaseAction.CREATE
                else self.cluster.replace(LEASE, body)
            )
        except (Conflict, AlreadyExists):
            return False  # somebody was faster
        except ClusterError as error:
            _log.warning("the Lease cannot be read", extra=log_fields(error=error))
            return False
        return True

    def _unchanged(self, lease: LeaseView | None) -> float:
        if self._seen is None or lease != self._seen[0]:
            self._seen = (lease, _clock())
        return _clock() - self._seen[1]

    def _left(self) -> float:
        """Return the seconds in which the Lease may still be renewed."""
        return -1.0 if self._renewed is None else self.seconds * LET_GO - (_clock() - self._renewed)

    async def _taken(self) -> bool:
        try:
            known = read_lease_view(await self._read())
        except ClusterError:
            return False
        return known is not None and known.holder not in ("", self.identity)

    async def _read(self) -> Json | None:
        try:
            return await self.cluster.get(LEASE, self.namespace, self.name)
        except NotFound:
            return None


def _clock() -> float:
    return asyncio.get_running_loop().time()
