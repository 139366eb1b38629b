"""Memory and delays of the API while a fleet sends at once, and while one sender sends all that it may.

    python -m bench.api.at_once [--senders 300] [--rows 600] [--seconds 10] [--smoke]

An API with TLS and a SQLite file runs as a process of its own. First all `senders` send a batch of `rows`
rows in the same moment, each until it is stored. Then one coordinator sends batches of 1,000 rows at its full
rate, a burst and 20 a second, whatever the answers, while two others send a row every quarter of a second and
1,000 rows every second. Then the same, but the bodies of the fast sender stop after a kilobyte. Prints the
API's peak memory, the lost rows, and how long batches of the others took until they were stored, refusals
and retries included; ends with 1 where a bar is missed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp

from footplate_api.identity.rate_limits import RateLimits
from tests.component.footplate_api.builders import RUNS, batch
from tests.component.footplate_api.fleet import Process, api, backlog, deliver, full, peak, stored
from tests.support.review_server import of_pod

MEGABYTES: Final = 230.0  # the bars: what the fleet took with queues apart for short and long bodies
SECONDS: Final = 2.0
RATE: Final = RateLimits.telemetry
BATCH: Final = 1000  # rows, as real coordinators send them
SHORT_EVERY, LONG_EVERY = 0.25, 1.0  # seconds
FAST, SHORT, LONG = 1000, 1001, 1002  # numbers of the runs
STALLING: Final = 1003


@dataclass
class Delays:
    """Measurements while one sender has its full rate."""

    short: list[float] = field(default_factory=list)  # seconds until a batch is stored
    long: list[float] = field(default_factory=list)
    answers: Counter[int] = field(default_factory=Counter)  # of the fast sender; 0: none
    rows: int = 0  # of the fast sender that were stored


async def repeat(
    every: float, until: float, send: Callable[[int], Coroutine[Any, Any, int]], taken: list[float]
) -> None:
    """Send a batch every so many seconds, one after the other."""
    number = 0
    while time.monotonic() < until:
        began = time.monotonic()
        assert await send(number) == 200
        taken.append(time.monotonic() - began)
        number += 1
        await asyncio.sleep(max(0.0, began + every - time.monotonic()))


def bodies(run: int, rows: int, count: int) -> list[bytes]:
    """Batches of consecutive steps."""
    return [
        json.dumps(batch(f"uid-{run}", [full(step) for step in range(first, first + rows)])).encode()
        for first in range(1, count * rows, rows)
    ]


async def send_all(send: Callable[[int], Coroutine[Any, Any, None]], seconds: float) -> None:
    """Call `send` at the full rate of one coordinator: a burst, and then so many a second."""
    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for number in range(count_sent(seconds)):
            due = began + max(0, number - RATE.burst) / RATE.per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            group.create_task(send(number))


def count_sent(seconds: float) -> int:
    """Return how many batches the fast sender sends."""
    return RATE.burst + int(seconds * RATE.per_second)


async def observe(process: Process, seconds: float, stalling: bool) -> Delays:
    """Send short and long batches beside a sender at its full rate."""
    seen = Delays()
    fast = [] if stalling else bodies(FAST, BATCH, count_sent(seconds))
    short = bodies(SHORT + 10 * stalling, 1, int(seconds / SHORT_EVERY) + 2)
    long = bodies(LONG + 10 * stalling, BATCH, int(seconds / LONG_EVERY) + 2)
    async with process.callers() as session:

        async def store(number: int) -> None:
            headers = {"Content-Type": "application/json", **of_pod(f"uid-{FAST}", "research")}
            path = f"{RUNS}/run-{FAST}/telemetry"
            status = 0
            with suppress(aiohttp.ClientError):
                async with session.post(path, data=fast[number], headers=headers) as answer:
                    await answer.read()
                    status = answer.status
            seen.answers[status] += 1
            seen.rows += BATCH * (status == 200)

        async def stall(number: int) -> None:
            seen.answers[await stop_early(process, 750_000)] += 1

        until = time.monotonic() + seconds
        async with asyncio.TaskGroup() as group:
            loading = group.create_task(send_all(stall if stalling else store, seconds))
            for run, every, own, taken in (
                (SHORT, SHORT_EVERY, short, seen.short),
                (LONG, LONG_EVERY, long, seen.long),
            ):
                number = run + 10 * stalling
                send = partial(send_one, session, number, own)
                group.create_task(repeat(every, until, send, taken))
            await asyncio.sleep(seconds)
            if stalling:
                loading.cancel()
    return seen


async def send_one(session: aiohttp.ClientSession, run: int, own: list[bytes], number: int) -> int:
    """Send one batch until it is answered, as a coordinator does."""
    while True:
        with suppress(aiohttp.ClientError):
            return await deliver(session, run, own[number])
        await asyncio.sleep(0.1)


async def send_fleet(process: Process, senders: int, rows: int) -> list[int]:
    """Send a batch of each of `senders` in the same moment, and return the answers."""
    sent = [backlog(number, rows) for number in range(senders)]
    async with process.callers() as session:
        return await asyncio.gather(*(send_one(session, run, [sent[run]], 0) for run in range(senders)))


async def stop_early(process: Process, length: int) -> int:
    """Announce a body of `length` bytes, send a kilobyte, and return the status of the answer."""
    headers = {
        "Host": "api",
        "Content-Type": "application/json",
        "Content-Length": length,
        **of_pod(f"uid-{STALLING}", "research"),
    }
    lines = [
        f"POST {RUNS}/run-{STALLING}/telemetry HTTP/1.1",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    line = b""
    with suppress(OSError):
        trust = process.issuer.trusting()
        reader, writer = await asyncio.open_connection("127.0.0.1", process.port, ssl=trust)
        try:
            writer.write("\r\n".join([*lines, "", ""]).encode() + b" " * 1000)
            line = await reader.readline()
        finally:
            writer.transport.abort()
    return int(line.split()[1]) if line else 0


@dataclass(frozen=True)
class Seen:
    """Measurements of one run of the benchmark."""

    rest: float  # MB before
    fleet: float  # MB at most, while all sent at once
    most: float  # MB at most, at the end
    seconds: float  # until all of the fleet were stored
    lost: int  # rows
    full_rate: Delays
    stalling: Delays


async def measure(arguments: argparse.Namespace, folder: Path) -> Seen:
    """Run the three loads against a new API."""
    url = f"sqlite:///{folder}/footplate.db"
    async with api(folder, url) as process:
        rest, began = peak(process.pid), time.monotonic()
        answers = await send_fleet(process, arguments.senders, arguments.rows)
        seconds, fleet = time.monotonic() - began, peak(process.pid)
        full_rate = await observe(process, arguments.seconds, stalling=False)
        stalling = await observe(process, arguments.seconds, stalling=True)
        most = peak(process.pid)
    found = await stored(url)
    expected = {f"uid-{number}": arguments.rows for number in range(arguments.senders)}
    expected |= {
        f"uid-{SHORT}": len(full_rate.short),
        f"uid-{LONG}": BATCH * len(full_rate.long),
        f"uid-{FAST}": full_rate.rows,
        f"uid-{SHORT + 10}": len(stalling.short),
        f"uid-{LONG + 10}": BATCH * len(stalling.long),
    }
    lost = sum(max(0, rows - found.get(uid, (0,))[0]) for uid, rows in expected.items())
    assert set(answers) == {200}
    return Seen(rest / 1e6, fleet / 1e6, most / 1e6, seconds, lost, full_rate, stalling)


def report(what: str, seen: Delays) -> float:
    """Print the delays, and return the longest."""
    for name, seconds in (("a row", seen.short), (f"{BATCH} rows", seen.long)):
        print(
            f"  {what}: {name} of another: {len(seconds)} batches, median"
            f" {statistics.median(seconds) * 1e3:.0f} ms, longest {max(seconds) * 1e3:.0f} ms"
        )
    print(
        f"  {what}: answers to the fast sender {dict(sorted(seen.answers.items()))}, {seen.rows} rows stored"
    )
    return max(seen.short + seen.long)


def main() -> int:
    """Print what was seen; return 1 where a bar is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench.api.at_once", description=__doc__)
    parser.add_argument("--senders", type=int, default=300)
    parser.add_argument("--rows", type=int, default=600)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the later loads")
    parser.add_argument("--smoke", action="store_true", help="20 senders, and a second of each later load")
    arguments = parser.parse_args()
    if arguments.smoke:
        arguments.senders, arguments.seconds = 20, 1.0
    with tempfile.TemporaryDirectory() as folder:
        seen = asyncio.run(measure(arguments, Path(folder)))
    print(
        f"{arguments.senders} senders of {arguments.rows} rows at once: stored after {seen.seconds:.1f} s\n"
        f"memory: {seen.rest:.0f} MB before, {seen.fleet:.0f} MB at most (bar {MEGABYTES:g}),"
        f" {seen.most:.0f} MB with the later loads; rows lost: {seen.lost} (bar 0)"
    )
    print(f"one sender at its full rate, {arguments.seconds:g} s (bar {SECONDS:g} s)")
    longest = max(report("full", seen.full_rate), report("stops", seen.stalling))
    return int(seen.fleet > MEGABYTES or seen.lost != 0 or longest > SECONDS)


if __name__ == "__main__":
    raise SystemExit(main())
