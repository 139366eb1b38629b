"""Keys that coalesce, wait, and come back later and later."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from footplate_operator.errors import ClusterError, OperatorError
from footplate_operator.runtime.workqueue import LONG_SECONDS, WorkQueue, retry_delay
from tests.support.simulation.virtual_loop import in_virtual_time


async def _work(queue: WorkQueue[str], rounds: int, work: Any, workers: int = 2) -> None:
    task = asyncio.create_task(queue.run(workers, work))
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_key_that_waits_is_not_queued_twice() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    await _work(queue, 10, work)
    assert done == ["a", "b"]


async def test_a_key_is_worked_on_by_one_worker_and_again_if_named_meanwhile() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    at_once = most = rounds = 0

    async def work(key: str) -> None:
        nonlocal at_once, most, rounds
        at_once, rounds = at_once + 1, rounds + 1
        most = max(most, at_once)
        if rounds == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0)
        at_once -= 1

    queue.add("a")
    await _work(queue, 20, work, workers=4)
    assert (most, rounds) == (1, 2)


async def test_a_failure_comes_back_later_and_stops_nobody() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "bad":
            raise OperatorError("no")
        done.append(key)

    queue.add("bad")
    queue.add("good")
    await _work(queue, 20, work)
    assert done == ["good"] and len(queue) == 0


@in_virtual_time
async def test_what_happens_during_a_failure_does_not_wait_for_its_long_retry() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    rounds = 0

    async def work(key: str) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 5:
            queue.add(key)  # an event, while the fifth try is about to fail
        raise OperatorError("not yet")

    for _ in range(5):
        queue.add("a")
        await _work(queue, 5, work)
    clock = asyncio.get_running_loop().time
    began = clock()
    working = asyncio.create_task(queue.run(1, work))
    while rounds == 5:
        await asyncio.sleep(0.01)
    working.cancel()
    assert clock() - began < retry_delay(5, 0.0)


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [
        pytest.param(1, 0.18, 0.32, id="first"),
        pytest.param(5, 3, 5, id="fifth"),
        pytest.param(50, 45, 75, id="at-most-a-minute"),
    ],
)
def test_retry_delay(failures: int, least: float, most: float) -> None:
    assert least <= retry_delay(failures, 0.0) < retry_delay(failures, 1.0) <= most


@in_virtual_time
async def test_work_that_hangs_holds_up_no_other() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []
    finished = asyncio.Event()

    async def work(key: str) -> None:
        if key.startswith("hangs"):
            await asyncio.Event().wait()
        done.append(key)
        finished.set()

    for number in range(100):
        queue.add(f"hangs-{number}")
    queue.add("works")
    working = asyncio.create_task(queue.run(8, work))
    await asyncio.wait_for(finished.wait(), 100 / 8 * LONG_SECONDS + 1)
    assert done == ["works"]
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


@in_virtual_time
async def test_whoever_refuses_work_says_when_it_is_tried_again() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    clock = asyncio.get_running_loop().time
    tried: list[float] = []
    refused, finished = asyncio.Event(), asyncio.Event()

    async def work(key: str) -> None:
        tried.append(clock())
        if len(tried) == 1:
            refused.set()
            raise ClusterError("too many requests", 429, retry_after=0.5)
        finished.set()

    queue.add("a")
    working = asyncio.create_task(queue.run(1, work))
    await refused.wait()
    queue.add("a")  # named while it is worked on
    await asyncio.sleep(0)
    queue.add("a")  # and while it waits
    queue.add_after("a", 0.01)
    await asyncio.wait_for(finished.wait(), 30)
    assert tried[1] - tried[0] >= 0.5
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)


async def test_what_can_wait_is_not_lost_while_it_is_worked_on() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)
        if len(done) == 1:
            queue.add_last(key)

    queue.add("a")
    await _work(queue, 10, work, workers=1)
    assert done == ["a", "a"]


async def test_what_can_wait_comes_when_nothing_else_is_to_be_done() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    for key in ("ended-1", "ended-2", "ended-3"):
        queue.add_last(key)
    queue.add("live")
    queue.add("ended-3")  # something happened to it
    queue.add_last("live")
    assert len(queue) == 4
    await _work(queue, 10, work, workers=1)
    assert done == ["live", "ended-3", "ended-1", "ended-2"]
