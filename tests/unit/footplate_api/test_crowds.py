"""Strangers and crowds: what they may cost others, and what is said to whom."""

from __future__ import annotations

import asyncio
import base64
from collections import Counter
from collections.abc import Sequence

import pytest

from footplate_api.errors import ClusterUnavailable, TooManyTokens, Unauthenticated
from footplate_api.identity.authentication import AT_ONCE, WAITING, Authentication, review_limit
from footplate_api.identity.caller import Caller
from footplate_api.identity.rate_limits import is_telemetry
from footplate_api.identity.review_cache import FRESH_SECONDS, RETRY_SECONDS, ReviewCache
from tests.support.clock import Clock
from tests.support.review_server import ADMIN, Asked, FakeReviewer


def authentication(reviewer: FakeReviewer) -> Authentication:
    return Authentication(reviewer, clock=Clock(), now=lambda: 0.0)


class HeldReviewer(FakeReviewer):
    """Answers about tokens of nobody when it is told to."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.answers = asyncio.Event()
        self.in_flight = self.most = 0

    async def authenticate(self, token: str, audiences: Sequence[str]) -> Caller | None:
        if token not in self.tokens:
            self.in_flight += 1
            self.most = max(self.most, self.in_flight)
            await self.answers.wait()
            self.in_flight -= 1
        return await super().authenticate(token, audiences)


async def test_strangers_neither_flood_the_api_server_nor_keep_known_callers_waiting() -> None:
    clock, reviewer = Clock(), HeldReviewer()
    door = Authentication(reviewer, clock=clock, now=lambda: 0.0)
    await door.authenticate(f"Bearer {ADMIN}")
    strangers = [asyncio.create_task(door.authenticate(f"Bearer garbage-{number}")) for number in range(2000)]
    await asyncio.sleep(0)
    clock.seconds += FRESH_SECONDS
    assert (
        await door.authenticate(f"Bearer {ADMIN}")
    ).username == "admin"  # asked for anew, past all of them
    assert reviewer.asked == [ADMIN, ADMIN]
    reviewer.answers.set()
    answers = Counter(type(error) for error in await asyncio.gather(*strangers, return_exceptions=True))
    assert answers == {Unauthenticated: AT_ONCE + WAITING, TooManyTokens: 2000 - AT_ONCE - WAITING}
    assert reviewer.most == AT_ONCE


async def test_who_waits_too_long_for_a_turn_is_told_to_come_back() -> None:
    turns = review_limit(at_once=1, waiting=5, seconds=0.01)
    async with turns.acquire():
        with pytest.raises(TooManyTokens, match="slow"):
            async with turns.acquire():
                pass
    async with turns.acquire():
        pass


async def test_who_leaves_gives_up_the_turn() -> None:
    turns, entered = review_limit(at_once=1, waiting=1), asyncio.Event()

    async def enter() -> None:
        async with turns.acquire():
            entered.set()
            await asyncio.Event().wait()

    for _ in range(3):
        entered.clear()
        inside, waiting = asyncio.create_task(enter()), asyncio.create_task(enter())
        await entered.wait()
        waiting.cancel()
        inside.cancel()
        await asyncio.wait({inside, waiting})
    async with turns.acquire():
        pass


async def test_refusals_push_no_good_verdict_out() -> None:
    good, bad = Asked(True), Asked(False)
    verdicts = ReviewCache[str, object](Clock(), most=10, refused=10)
    await verdicts.get("good", good)
    for number in range(100):
        await verdicts.get(f"bad-{number}", bad)
    await verdicts.get("good", good)
    await verdicts.get("bad-99", bad)
    assert (good.times, bad.times) == (1, 100)


async def test_what_was_good_and_is_refused_is_good_no_longer() -> None:
    clock, ask = Clock(), Asked(True)
    verdicts = ReviewCache[str, object](clock)
    for answer in (True, False, True):
        ask.answer = answer
        clock.seconds += FRESH_SECONDS
        assert await verdicts.get("a", ask) is answer
        assert verdicts.has_usable("a") is answer


async def test_a_silent_api_server_is_waited_for_once_and_not_by_every_request() -> None:
    clock, silent = Clock(), asyncio.Event()
    ask = Asked(True)
    verdicts = ReviewCache[str, object](clock, timeout=0.01)
    await verdicts.get("a", ask)
    clock.seconds += FRESH_SECONDS

    async def say_nothing() -> object:
        ask.times += 1
        await silent.wait()
        raise ClusterUnavailable("silent")

    for _ in range(100):
        assert await verdicts.get("a", say_nothing) is True
        clock.seconds += 0.1
    assert ask.times == 2
    silent.set()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for _ in range(10):  # it failed just now: nobody asks again at once
        assert await verdicts.get("a", say_nothing) is True
    assert ask.times == 2
    clock.seconds += RETRY_SECONDS
    ask.answer = False
    assert await verdicts.get("a", ask) is False


async def test_who_is_refused_an_answer_takes_none_from_others() -> None:
    clock, away, ask = Clock(), Asked(True), Asked(True)
    away.away = True
    verdicts = ReviewCache[str, object](clock)
    await verdicts.get("known", ask)
    clock.seconds += FRESH_SECONDS
    with pytest.raises(ClusterUnavailable):
        await verdicts.get("stranger", away)
    ask.answer = False
    assert await verdicts.get("known", ask) is False


async def test_an_answer_that_comes_late_counts() -> None:
    clock, late = Clock(), asyncio.Event()
    verdicts = ReviewCache[str, object](clock, timeout=0.0)
    await verdicts.get("a", Asked(True))
    clock.seconds += FRESH_SECONDS

    async def refuse() -> object:
        await late.wait()
        return False

    assert await verdicts.get("a", refuse) is True
    late.set()
    while verdicts.has_usable("a"):
        await asyncio.sleep(0)
    assert await verdicts.get("a", Asked(True)) is False


@pytest.mark.parametrize("said", ["1e999", "9" * 400, "NaN", "-Infinity"])
async def test_an_end_that_is_no_moment_is_kubernetes_to_judge(said: str) -> None:
    claims = base64.urlsafe_b64encode(b'{"exp": %s}' % said.encode()).rstrip(b"=").decode()
    with pytest.raises(Unauthenticated):
        await authentication(FakeReviewer()).authenticate(f"Bearer a.{claims}.c")


@pytest.mark.parametrize(
    ("header", "challenge"),
    [
        pytest.param(None, 'Bearer realm="footplate"', id="none"),
        pytest.param("Basic YTpi", 'Bearer realm="footplate"', id="another-scheme"),
        pytest.param("Bearer ö", 'Bearer realm="footplate", error="invalid_token"', id="no-token"),
        pytest.param("Bearer nobodys", 'Bearer realm="footplate", error="invalid_token"', id="refused"),
    ],
)
async def test_a_token_that_is_refused_is_told_apart_from_none(header: str | None, challenge: str) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await authentication(FakeReviewer()).authenticate(header)
    assert refused.value.headers == {"WWW-Authenticate": challenge}


async def test_a_question_that_fails_keeps_no_other_verdict_in_use() -> None:
    clock, failing, withdrawn = Clock(), Asked(True), Asked(True)
    verdicts = ReviewCache[str, object](clock)
    await verdicts.get("failing", failing)
    await verdicts.get("withdrawn", withdrawn)
    failing.away, withdrawn.answer = True, False
    clock.seconds += FRESH_SECONDS
    assert await verdicts.get("failing", failing) is True
    assert await verdicts.get("withdrawn", withdrawn) is True  # asked, and not waited for
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert await verdicts.get("withdrawn", withdrawn) is False


def test_only_what_a_coordinator_sends_counts_as_telemetry() -> None:
    paths = {
        ("POST", "/v1/namespaces/a/runs/gpt/telemetry"): True,
        ("GET", "/v1/namespaces/a/runs/gpt/telemetry"): False,
        ("DELETE", "/v1/namespaces/a/runs/telemetry"): False,
        ("POST", "/nowhere/telemetry"): False,
    }
    assert {key: is_telemetry(*key) for key in paths} == paths
