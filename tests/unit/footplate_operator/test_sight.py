"""A replica that sees nothing says so."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import pytest

from footplate_contracts.loop_lag import LoopLag
from footplate_operator.errors import WatchSilent
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime import handlers
from footplate_operator.runtime.kinds import NODE, POD
from footplate_operator.runtime.watch_liveness import (
    BLIND_SECONDS,
    LET_GO_SECONDS,
    QUIET_SECONDS,
    WatchLiveness,
    watch_paths,
)
from footplate_operator.trainingrun.run import TRAINING_RUN
from tests.support.simulation.virtual_loop import VirtualLoop, in_virtual_time

RUNS = "/apis/footplate.dev/v1alpha1/trainingruns"


@dataclass
class Time:
    seconds: float = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.mark.parametrize(
    ("namespaces", "watched"),
    [
        pytest.param([], {"/api/v1/pods", "/apis/footplate.dev/v1alpha1/computeprofiles"}, id="everywhere"),
        pytest.param(
            ["a", "b"],
            {
                "/api/v1/namespaces/a/pods",
                "/api/v1/namespaces/b/pods",
                "/apis/footplate.dev/v1alpha1/computeprofiles",
            },
            id="two-namespaces",
        ),
    ],
)
def test_where_kinds_are_watched(namespaces: list[str], watched: set[str]) -> None:
    assert set(watch_paths((POD, PROFILE), namespaces)) == watched


def test_each_watch_has_an_age_of_its_own() -> None:
    time = Time()
    sight = WatchLiveness(watch_paths((POD, TRAINING_RUN), []), time)
    assert (sight.silence_seconds(), sight.describe_silence()) == ({}, ""), "nobody watches yet"
    sight.begin()
    time.seconds += 40
    sight.record_answer("/k8s/clusters/one" + RUNS)  # behind a proxy
    sight.record_answer("/version")
    time.seconds += 40
    assert sight.silence_seconds() == {"Pod": 80.0, "TrainingRun": 40.0}
    assert sight.describe_silence() == "no event of Pod for 80 s"
    sight.record_answer("/api/v1/pods")
    assert sight.describe_silence() == ""


def test_hints_have_an_age_and_make_nobody_blind() -> None:
    time = Time()
    sight = WatchLiveness(watch_paths((POD, NODE), []), time, hints=frozenset({NODE}))
    sight.begin()
    time.seconds += 80
    sight.record_answer("/api/v1/pods")
    assert sight.silence_seconds() == {"Pod": 0.0, "Node": 80.0}
    assert sight.describe_silence() == ""
    sight.remove_kind(NODE)
    sight.begin()
    assert sight.silence_seconds() == {"Pod": 0.0}, "where it may not be seen there is no watch"


def test_the_worst_namespace_counts() -> None:
    time = Time()
    sight = WatchLiveness(watch_paths((POD,), ["a", "b"]), time)
    sight.begin()
    time.seconds += 80
    sight.record_answer("/api/v1/namespaces/a/pods")
    assert sight.silence_seconds() == {"Pod": 80.0}


@in_virtual_time
async def test_who_is_blind_for_long_lets_go() -> None:
    time = Time()
    sight = WatchLiveness(watch_paths((POD,), []), time)
    sight.begin()
    keeping = asyncio.create_task(sight.check_forever())
    await asyncio.sleep(0)
    assert not keeping.done()
    time.seconds += LET_GO_SECONDS
    with pytest.raises(WatchSilent, match="no event of Pod for 85 s"):
        await asyncio.wait_for(keeping, 30)


def test_an_idle_watch_is_not_taken_for_blind() -> None:
    """The API server says how far it is once a minute; the new connection has time to be made."""
    assert 60 < QUIET_SECONDS < BLIND_SECONDS < LET_GO_SECONDS <= 90


def test_a_watch_is_tried_again_within_seconds_however_long_the_outage_was() -> None:
    own = handlers.settings([])
    connect, backoffs = own.watching.connect_timeout, own.networking.error_backoffs
    assert isinstance(backoffs, Iterable) and connect is not None
    tries = list(islice(backoffs, 1000))
    assert len(tries) == 1000 and max(tries) + connect <= 5, "a packet that is lost costs a connection"


@in_virtual_time
async def test_a_stall_of_the_loop_is_measured() -> None:
    lag, loop = LoopLag(), asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    measuring = asyncio.create_task(lag.measure())
    await asyncio.sleep(0)
    loop.passed += 0.6  # what a computation does that takes too long
    await asyncio.sleep(0.01)
    assert lag.longest >= 0.3
    measuring.cancel()
