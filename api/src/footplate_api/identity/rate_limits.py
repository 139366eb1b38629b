"""Rate limits of callers: a token bucket for each, by its name.

The package `limits` counts in windows, which have no burst, stores the time of each request, and requires
four distributions; a bucket here is one number. That is when it would be full again, the generic cell rate
algorithm of ATM: a full bucket equals none, so the bucket that is deleted first has nothing to lose.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from footplate_api.errors import TooManyRequests
from footplate_api.http.public_paths import SCRAPED
from footplate_api.identity.authentication_middleware import CALLER
from footplate_api.identity.caller import Caller

MOST: Final = 20_000  # callers of the last seconds that are told apart
_ROUNDING: Final = 1e-6  # seconds, of sums of floats
_TELEMETRY: Final = re.compile("/v1/namespaces/[^/]+/runs/[^/]+/telemetry")


@dataclass(frozen=True)
class RateLimit:
    """Limit of `per_second` requests for ever, and `burst` of them at once after a pause."""

    per_second: float
    burst: int


@dataclass(frozen=True)
class RateLimits:
    """Limits of a person or a program by name, and of a coordinator that sends telemetry.

    `noted_refusals` refuses no request: the audit log stores denied writes for ever, and whoever has a token
    could fill its database with them.
    """

    requests: RateLimit = RateLimit(50.0, 200)
    telemetry: RateLimit = RateLimit(20.0, 100)
    noted_refusals: RateLimit = RateLimit(1.0 / 60.0, 20)


class TokenBuckets:
    """Token buckets by key; `clock` returns monotonic seconds."""

    def __init__(self, rate: RateLimit, clock: Callable[[], float], most: int = MOST) -> None:
        self._interval = 1.0 / rate.per_second
        self._room = (rate.burst - 1) * self._interval  # seconds
        self._clock = clock
        self._most = most
        self._full: OrderedDict[str, float] = OrderedDict()  # when each would be

    def take(self, key: str, amount: float = 1.0) -> float:
        """Take a token and return 0.0, or return in how many seconds there is one.

        An `amount` above one, of a burst at most, is owed: it delays the next requests.

        >>> bucket = TokenBuckets(RateLimit(per_second=2.0, burst=1), lambda: 0.0)
        >>> bucket.take("alice"), bucket.take("alice"), bucket.take("bob")
        (0.0, 0.5, 0.0)
        """
        now = self._clock()
        full = max(self._full.get(key, now), now)
        wait = full - now - self._room
        if wait > _ROUNDING:
            return wait
        self._full[key] = full + min(amount * self._interval, self._room + self._interval)
        self._full.move_to_end(key)
        if len(self._full) > self._most:
            self._full.popitem(last=False)
        return 0.0

    def __len__(self) -> int:
        return len(self._full)


class RateLimitMiddleware:
    """Middleware after authentication: refuses a caller that calls too often, before it reads a body."""

    def __init__(
        self, app: ASGIApp, rates: RateLimits, clock: Callable[[], float], requests: TokenBuckets
    ) -> None:
        self._app = app
        self._rates = rates
        self._requests = requests
        self._telemetry = TokenBuckets(rates.telemetry, clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        caller: Caller | None = scope.get(CALLER)
        if caller is not None and scope["path"] != SCRAPED:
            self._admit(caller, is_telemetry(scope["method"], scope["path"]))
        await self._app(scope, receive, send)

    def _admit(self, caller: Caller, of_a_coordinator: bool) -> None:
        if of_a_coordinator:
            rate, wait = self._rates.telemetry, self._telemetry.take(caller.sender_id)
        else:
            rate, wait = self._rates.requests, self._requests.take(caller.username)
        if wait > 0.0:
            raise TooManyRequests.wait(
                f"{caller.username} may send {rate.per_second:g} such requests per second, in bursts of at"
                f" most {rate.burst}; this one was not processed.",
                wait,
            )


def is_telemetry(method: str, path: str) -> bool:
    """Return whether the request is a run's telemetry batch, whether or not a run has this name."""
    return method == "POST" and _TELEMETRY.fullmatch(path) is not None
