"""How often one caller may call."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from footplate_api.errors import TooManyRequests
from footplate_api.identity.authentication_middleware import CALLER
from footplate_api.identity.caller import Caller
from footplate_api.identity.rate_limits import RateLimit, RateLimitMiddleware, RateLimits, TokenBuckets
from tests.support.clock import Clock

RATES = RateLimits(RateLimit(10.0, 3), RateLimit(2.0, 2))
RUNS = "/v1/namespaces/a/runs"
TELEMETRY = f"{RUNS}/gpt/telemetry"


def taken(buckets: TokenBuckets, key: str, times: int) -> int:
    return sum(buckets.take(key) == 0.0 for _ in range(times))


@pytest.mark.parametrize(("seconds", "more"), [(0.0, 0), (0.1, 1), (0.25, 2), (0.3, 3), (1000.0, 3)], ids=str)
def test_a_burst_and_then_the_rate(seconds: float, more: int) -> None:
    clock = Clock()
    clock.seconds = 0.0
    buckets = TokenBuckets(RateLimit(10.0, 3), clock)
    assert taken(buckets, "a", 20) == 3
    clock.seconds = seconds
    assert taken(buckets, "a", 20) == more
    assert taken(buckets, "b", 20) == 3


def test_who_goes_on_in_spite_of_a_refusal_waits_no_longer() -> None:
    clock = Clock()
    buckets = TokenBuckets(RateLimit(4.0, 1), clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.25, 0.25]
    clock.seconds += 0.25
    assert buckets.take("a") == 0.0


@pytest.mark.parametrize(("amount", "seconds"), [(1.0, 0.0), (3.0, 0.1), (4.0, 0.1), (1000.0, 0.1)], ids=str)
def test_what_one_takes_beyond_a_request_is_owed(amount: float, seconds: float) -> None:
    buckets = TokenBuckets(RateLimit(10.0, 3), Clock())
    assert buckets.take("a", amount) == 0.0
    assert buckets.take("a") == pytest.approx(seconds), "no more than a burst is"
    assert buckets.take("b") == 0.0


def test_the_callers_of_long_ago_are_forgotten() -> None:
    clock = Clock()
    buckets = TokenBuckets(RateLimit(1.0, 1), clock, most=100)
    for number in range(1000):
        assert buckets.take(str(number)) == 0.0
    assert taken(buckets, "999", 1) == 0 and taken(buckets, "900", 1) == 0
    assert len(buckets) == 100


class Behind:
    """What the gate stands before."""

    def __init__(self) -> None:
        self.passed = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.passed += 1


def gate_of(app: Behind, rates: RateLimits) -> RateLimitMiddleware:
    clock = Clock()
    return RateLimitMiddleware(app, rates, clock, TokenBuckets(rates.requests, clock))


async def sent(gate: RateLimitMiddleware, path: str, caller: Caller | None, times: int) -> float | None:
    """How long the last of so many requests has to wait; None: it passed."""
    scope: Scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        **({} if caller is None else {CALLER: caller}),
    }

    async def nothing(*_: object) -> None:
        raise AssertionError("a body was read, or an answer sent")

    wait = None
    for _ in range(times):
        try:
            await gate(scope, nothing, nothing)
            wait = None
        except TooManyRequests as error:
            wait = error.retry_after
    return wait


POD = "authentication.kubernetes.io/pod-uid"
ALICE, BOB = Caller("alice"), Caller("bob")
PODS = [Caller("system:serviceaccount:a:default", extra=((POD, (uid,)),)) for uid in "12"]


async def test_each_caller_has_a_limit_and_telemetry_one_of_its_own() -> None:
    behind = Behind()
    gate = gate_of(behind, RATES)
    assert await sent(gate, RUNS, ALICE, 4) == 1
    assert await sent(gate, RUNS, BOB, 3) is None
    for pod in PODS:
        assert await sent(gate, TELEMETRY, pod, 2) is None
        assert await sent(gate, TELEMETRY, pod, 1) == 1
    assert await sent(gate, RUNS, PODS[0], 3) is None
    assert await sent(gate, RUNS, PODS[1], 1) == 1  # the account is one caller
    assert behind.passed == 3 + 3 + 2 * 2 + 3


async def test_scrapes_and_what_is_open_have_none() -> None:
    gate = gate_of(Behind(), RATES)
    assert await sent(gate, "/metrics", ALICE, 50) is None
    assert await sent(gate, "/healthz", None, 50) is None


async def test_one_is_told_how_long_to_wait() -> None:
    gate = gate_of(Behind(), RateLimits(RateLimit(0.1, 1)))
    assert await sent(gate, RUNS, ALICE, 2) == 10
