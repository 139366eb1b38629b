"""A day that a Prometheus has scraped, made in minutes: its folder of blocks, recorded series among them.

What it would have scraped goes through `promtool tsdb create-blocks-from openmetrics`, two hours at a time,
as a Prometheus writes blocks. The chart's recording rules are then asked for as queries of the whole day, and
their answers become blocks as well, which Prometheus merges with the others.
"""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from bench.monitoring.lives import WORKERS, Exposition, Life, lives
from bench.monitoring.programs import Node, Program, Target, api, labels, operator, stamped
from tools.monitoring import questions

from cluster.machine.locks import exclusive
from footplate_api.system.cost_metrics import Pod
from footplate_contracts.names import Role
from tests.support import prometheus, seen

BLOCK: Final = 7200  # seconds that a block of Prometheus has
MERGE_SECONDS: Final = 900.0
CORES: Final = 2
# Blocks stay as they are while queries are timed; in a day's time Prometheus would make them larger.
OPTIONS: Final = ("--storage.tsdb.min-block-duration=2h", "--storage.tsdb.max-block-duration=2h")


@dataclass(frozen=True)
class Size:
    """What is scraped, and for how long: runs at any time; seconds."""

    runs: int
    nodes: int
    seconds: int
    scrape: int


@dataclass(frozen=True)
class Day:
    """What is there to be asked for."""

    begin: int
    end: int  # of the last scrape; Unix seconds both
    lives: list[Life]


class Scrapes:
    """What is scraped, time after time, as lines of OpenMetrics."""

    def __init__(self, size: Size, begin: int, chance: Random) -> None:
        self._size, self._begin, self._chance = size, begin, chance
        self.lives = lives(size.runs, begin, size.seconds, chance)
        self._runs = Exposition(self.lives, begin, chance)
        self._apis = [Target("footplate-api", f"10.0.0.{number}:8443") for number in (1, 2)]
        operators = [Target("footplate-operator", f"10.0.0.{number}:8080") for number in (3, 4)]
        self._programs = [
            *(Program(target, api(chance)) for target in self._apis),
            *(Program(target, operator(chance, leads=n == 0)) for n, target in enumerate(operators)),
        ]
        self._nodes = [Node(number) for number in range(size.nodes)]
        # Runs take nodes in their order, each as many as it has workers, as long as there are any.
        self._first = list(
            itertools.accumulate((WORKERS[place % len(WORKERS)] for place in range(size.runs)), initial=0)
        )

    def at(self, at: int) -> Iterator[str]:
        """All lines of that time; at noon the other replica of the API begins to export runs."""
        share = (at - self._begin) / self._size.seconds
        for program in self._programs:
            yield from program.lines(at, share, self._chance)
        text, pods = self._runs.at(at)
        yield from stamped(text, self._apis[share >= 0.5], at)
        yield f"footplate_api_exports_runs{{{self._apis[share < 0.5].labels}}} 0.0 {at}\n"
        places = self._places(pods)
        for node in self._nodes:
            yield from node.lines(at, places.get(node.number), self._chance)

    def _places(self, pods: Iterable[Pod]) -> Mapping[int, Pod]:
        """Which pod is on which node."""
        found: dict[int, Pod] = {}
        for _, workers in itertools.groupby(
            (pod for pod in pods if pod.role == Role.WORKER), key=lambda pod: pod.name
        ):
            for number, pod in enumerate(workers):
                found[self._first[int(pod.name.split("-")[1])] + number] = pod
        return found


def day(folder: Path, size: Size, *, merged: bool) -> Day:
    """Has the day's blocks in `folder`, where a Prometheus looks for them; made, unless they are there.

    Args:
        merged: wait until the recorded series are in the blocks of the others: until then Prometheus works.
    """
    begin = 1_768_435_200  # a midnight (UTC) in the middle of a month, at which blocks begin
    end = begin + size.seconds
    scrapes = Scrapes(size, begin, Random(7))
    found = Day(begin, end, scrapes.lives)
    blocks = folder / "tsdb"
    with exclusive(folder / ".lock", "making the day"):
        if not blocks.exists():
            half = folder / "half"
            shutil.rmtree(half, ignore_errors=True)  # of a call that was killed
            half.mkdir()
            _import(half, range(begin, end + 1, size.scrape), scrapes.at)
            with server(half) as running:
                _record(running, half, found, size.scrape)
                if merged:
                    _wait_merged(half / "tsdb")
            (half / "tsdb").rename(blocks)
    return found


def server(folder: Path) -> AbstractContextManager[prometheus.Server]:
    """A Prometheus on two cores that has `folder`, and scrapes nothing."""
    return prometheus.server(folder, [], options=OPTIONS, environment={"GOMAXPROCS": str(CORES)})


def _import(folder: Path, moments: Iterable[int], lines: Callable[[int], Iterable[str]]) -> None:
    """A block for each two hours; one is made while the next one's lines are written."""
    blocks = folder / "tsdb"
    blocks.mkdir()
    making: _Making | None = None
    for number, block in itertools.groupby(moments, key=lambda at: at // BLOCK):
        text = folder / f"{number}.openmetrics"
        with text.open("w") as file:
            for at in block:
                file.writelines(lines(at))
            file.write("# EOF\n")
        if making is not None:
            making.end()
        making = _Making(text, blocks)
    assert making is not None
    making.end()


class _Making:
    """promtool makes a block of `text` in the folder `blocks`."""

    def __init__(self, text: Path, blocks: Path) -> None:
        self._text = text
        command = [prometheus.program("promtool"), "tsdb", "create-blocks-from", "openmetrics", text, blocks]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def end(self) -> None:
        """Waits, and deletes the text. Raises CalledProcessError where promtool has refused it."""
        if code := self._process.wait():
            raise subprocess.CalledProcessError(code, self._process.args)
        self._text.unlink()


def _record(running: prometheus.Server, folder: Path, day: Day, scrape: int) -> None:
    rules = [rule for rule in questions.of_rules(seen.rule_groups()) if rule.where.startswith("rule ")]
    for begin in range(day.begin, day.end + 1, BLOCK):
        text = folder / f"recorded-{begin}.openmetrics"
        with text.open("w") as file:
            for rule in rules:
                found = running.get(
                    "query_range",
                    query=rule.query,
                    start=str(begin),
                    end=str(min(day.end, begin + BLOCK - scrape)),
                    step=str(scrape),
                )
                file.writelines(_lines(rule.where.removeprefix("rule "), found["result"]))
            file.write("# EOF\n")
        _Making(text, folder / "tsdb").end()


def _lines(name: str, series: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for known in series:
        written = f"{name}{{{labels(**known['metric'])}}}"
        for at, value in known["values"]:
            yield f"{written} {value} {at}\n"


def _wait_merged(blocks: Path) -> None:
    """Until no two blocks are of one time: Prometheus merges those in its first minutes."""
    deadline = time.monotonic() + MERGE_SECONDS
    while len({meta["minTime"] // (BLOCK * 1000) for meta in metas(blocks)}) != len(metas(blocks)):
        if time.monotonic() > deadline:
            raise TimeoutError("Prometheus has not merged the blocks")
        time.sleep(0.5)


def metas(blocks: Path) -> list[dict[str, Any]]:
    """What each block says of itself."""
    found = []
    for path in blocks.glob("*/meta.json"):
        try:
            found.append(json.loads(path.read_text()))
        except FileNotFoundError:  # merged into another one meanwhile
            continue
    return found
