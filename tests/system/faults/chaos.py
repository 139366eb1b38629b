"""`make chaos SEED=n`: one calm run, and one under random faults of every family, from its first second on.

Both have the same losses and samples, each step once, and nothing is left behind. The stormy run is held
back so that it lasts as long as the faults come. What a fault breaks for good is mended a while
later, and the next one does not wait for that.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import threading
import time
from bisect import insort
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from cluster.errors import ClusterError
from cluster.native.pods import Process
from demo.kube import DemoError, Kube
from footplate_contracts.names import Cause
from tests.support import processes
from tests.support.matrix import FAULTS, Family, Fault, Phase
from tests.support.processes import wait_for
from tests.support.runs import Json, changed, check_same_history
from tests.support.settle import settle
from tests.system.faults.disk import Disk
from tests.system.faults.ground import Ground, asked, cluster, ground_in, hang, insist
from tests.system.faults.mending import Mending
from tests.system.faults.over_cluster import CLUSTER
from tests.system.faults.over_runs import RUNS
from tests.system.faults.stand import Stand

NAMESPACE: Final = "footplate-chaos"
STEPS: Final = 400
COUNT: Final = 50  # faults
STORM: Final = 330.0  # seconds in which they come
LAST: Final = 420.0  # seconds after which no fault comes any more, even if some have hit nobody
PAUSE: Final = 3.0  # seconds between those that come again
BROKEN: Final = 20.0  # seconds for which what a fault breaks stays broken
READY: Final = 8.0  # seconds that a node takes to be of use again
BOUND: Final = 20.0  # seconds for a step, and for whatever else a rank does
ENDED: Final = 200.0  # seconds for the rest of the run, once no fault comes any more
NODES: Final = (
    Family.NODES,
    Family.NETWORK,
)  # families of which one fault comes at a time: there are two nodes
# They wait, for substitutes or room, while others come: the cells play them.
LEFT_OUT: Final = frozenset(
    {
        "GPU broken again",
        "cordon without room elsewhere",
        "image gone for the substitute",
        "no room",
        "quota refuses half",
        "zygote killed at import",
    }
)


@dataclass(frozen=True)
class Drawn:
    """A fault, and when it comes: seconds after the run was applied."""

    seconds: float
    fault: Fault


def draw(chance: random.Random, count: int = COUNT, storm: float = STORM) -> list[Drawn]:
    """So many faults, in their order: of each family as many, and the first within the first second."""
    by_family: dict[Family, list[Fault]] = {}
    for name in (*RUNS, *CLUSTER):
        if name in FAULTS and name not in LEFT_OUT:
            by_family.setdefault(FAULTS[name].family, []).append(FAULTS[name])
    families = list(by_family)
    chosen = [families[number % len(families)] for number in range(count)]
    chance.shuffle(chosen)
    moments = sorted([chance.uniform(0, 1), *(chance.uniform(0, storm) for _ in range(count - 1))])
    return [
        Drawn(seconds, chance.choice(by_family[family]))
        for seconds, family in zip(moments, chosen, strict=True)
    ]


class _Brief(Mending):
    """Mends after a while what a run of a cell would have to get along without."""

    def at_end(self, act: Callable[[], object]) -> None:
        self.later(BROKEN, partial(insist, act))  # the API server may be away by then


@dataclass
class _Stormy(Stand):
    """The run, of which any worker may be hit."""

    chance: random.Random = field(default_factory=random.Random)
    frozen: list[Process] = field(default_factory=list)  # ranks that a fault has stopped

    @property
    def victim(self) -> Json:
        return self._one_of(self._workers(), "worker runs")

    @property
    def keeper(self) -> Json:
        return self._one_of([pod for pod in self._workers() if processes.ranks(pod)], "rank runs")

    def _workers(self) -> list[Json]:
        return [pod for pod in self.ground.pods(self.name) if processes.main(pod)]

    def _one_of(self, pods: list[Json], what: str) -> Json:
        """LookupError where there is none."""
        if not pods:
            raise LookupError(f"no {what}")
        return self.chance.choice(pods)


def main() -> int:
    """The exit status: 1 where the storm has left a trace."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of what comes when (default %(default)s)")
    seed = parser.parse_args().seed
    kube = Kube.of_cluster_tool()
    try:
        with ground_in(kube, NAMESPACE) as ground:
            return 0 if _compare(ground, seed) else 1
    finally:
        cluster("up")
        settle(kube)


def _compare(ground: Ground, seed: int) -> bool:
    calm, stormy = f"calm-{seed}", f"storm-{seed}"
    ground.runs.apply(_manifest(ground, calm))
    ground.watch.until(calm, lambda status: status.get("phase") == "Succeeded", 300)
    expected = ground.runs.whole_history(calm, STEPS)
    begun = time.monotonic()
    chance = random.Random(seed)
    disk = Disk(ground.checkpoints(stormy))
    stand = _Stormy(ground, FAULTS["rank killed"], Phase.STEPPING, stormy, disk=disk, chance=chance)
    hits: list[Fault] = []
    try:
        ground.runs.apply(_manifest(ground, stormy))
        mending = _Brief()
        with _held_back(stand):
            hits = _storm(stand, draw(chance), mending)
        try:
            mending.finish()
        except AssertionError as error:
            print(f"not mended in time: {error}", flush=True)
        cluster("up")
        insist(ground.ready_nodes)
        ground.watch.until(stormy, lambda status: status.get("phase") == "Succeeded", ENDED)
        rows = ground.runs.whole_history(stormy, STEPS, late_seconds=180)
        check_same_history(rows, expected)
        wait_for(lambda: not (ground.pods(stormy) or ground.pods(stormy, "coordinator")), 120, 0.5)
        status = ground.watch.status(stormy)
        _check_causes(status, hits)
        ground.runs.delete(stormy)
        wait_for(lambda: not ground.children(stormy), 120, 0.5)
    except (AssertionError, TimeoutError) as error:
        print(f"seed {seed}: {error}\n{ground.runs.explain(stormy)}", flush=True)
        return False
    finally:
        ground.runs.delete(stormy)
        ground.runs.delete(calm)
        disk.remove()
    worst = max(abs(row["loss"] - other["loss"]) for row, other in zip(rows, expected, strict=True))
    print(
        f"seed {seed}: {len(hits)} of {COUNT} faults hit, {status['restarts']} restarts {status['failures']},"
        f" {STEPS} steps once each, losses within {worst:.1e}, nothing left,"
        f" {time.monotonic() - begun:.0f} s",
        flush=True,
    )
    return True


def _manifest(ground: Ground, name: str) -> Json:
    manifest = changed(ground.manifest(name), "training.steps", STEPS)
    manifest = changed(manifest, "resilience.hang", hang(BOUND))
    # What comes here would come over a run in years: no restart limit is to end it.
    return changed(
        manifest, "resilience.restartLimits", {cause.value: 1000 for cause in Cause if cause != ""}
    )


def _check_causes(status: Json, hits: Sequence[Fault]) -> None:
    """Nothing ended an attempt but what one of the faults that hit may be counted as."""
    allowed = {cause.value for fault in hits for cause in fault.causes}
    ended = [attempt for attempt in status.get("attempts", []) if attempt.get("cause")]
    strange = [attempt for attempt in ended if attempt["cause"] not in allowed]
    assert not strange, f"no fault explains {strange}"


def _storm(stand: _Stormy, drawn: list[Drawn], mending: Mending) -> list[Fault]:
    """Let them come when their time is there; those that found somebody to hit.

    One that finds nobody, as no rank runs, comes again a little later, and one for which another node
    is away, when that is back.
    """
    begun, whole_again = time.monotonic(), 0.0
    hits: list[Fault] = []
    waiting, told_before = list(drawn), dict[str, str]()  # by fault
    while waiting and waiting[0].seconds < LAST and stand.run_phase != "Succeeded":
        item = waiting.pop(0)
        time.sleep(max(0.0, begun + item.seconds - time.monotonic()))
        now, family = time.monotonic() - begun, item.fault.family
        if family in NODES and now < whole_again:
            told, later = "not while another node is away", whole_again
        else:
            told, later = _hit(stand, item.fault, mending), now + PAUSE
        if told:
            insort(waiting, Drawn(later, item.fault), key=lambda drawn: drawn.seconds)
        else:
            hits.append(item.fault)
            whole_again = now + BROKEN + READY if family in NODES else whole_again
        if not told or told_before.get(item.fault.name) != told:
            print(
                f"{now:6.1f} s  {stand.run_phase or 'applied':<11} step {stand.steps:>3}"
                f"  {item.fault.name}{f': {told}' if told else ''}",
                flush=True,
            )
        told_before[item.fault.name] = told
    seen = Counter(fault.family for fault in hits)
    print(", ".join(f"{family.value} {seen[family]}" for family in Family), flush=True)
    return hits


def _hit(stand: _Stormy, fault: Fault, mending: Mending) -> str:
    """Why it hit nobody; empty where it did."""
    ground = stand.ground
    ground.left, ground.right = stand.chance.sample([ground.left, ground.right], 2)
    try:
        if fault.name == "rank stopped":
            stand.frozen += processes.ranks(stand.keeper)
            processes.send(stand.frozen, signal.SIGSTOP)
        elif fault.name in RUNS:
            RUNS[fault.name](stand, mending)
        else:
            CLUSTER[fault.name](ground, [stand], mending)
    except (AssertionError, ClusterError, DemoError, LookupError, OSError, TimeoutError, ValueError) as error:
        return f"hit nobody yet: {' '.join(str(error).split())[:80] or type(error).__name__}"
    return ""


@contextmanager
def _held_back(stand: _Stormy) -> Iterator[None]:
    """The run makes its steps as slowly as the storm lasts, within the block."""
    over, begun = threading.Event(), time.monotonic()
    # As the API server said last, which is away now and then: address and token, and who is held.
    coordinator, keeper = ("127.0.0.1", ""), Json()

    def look() -> None:
        nonlocal coordinator, keeper
        while not over.wait(0.3):
            with suppress(DemoError, OSError, LookupError, TimeoutError, AssertionError):
                coordinator = stand.ground.coordinator(stand.name) or coordinator
                keeper = stand.keeper

    def hold() -> None:
        unknown = 0  # looks in a row that nobody answered
        while not over.wait(0.3):
            allowed = 5 + (STEPS - 25) * (time.monotonic() - begun) / LAST
            view = asked(*coordinator)
            unknown = 0 if view else unknown + 1
            # Nobody knows how far it is: it gets a tenth of the time.
            if view.progress.step < allowed if view else unknown % 10 == 0:
                _let_go(stand)
            elif not stand.grip.holds and keeper:
                _let_go(stand)  # who was held has ended
                with suppress(TimeoutError):
                    stand.grip.stop(*processes.ranks(keeper))
        _let_go(stand)

    with ThreadPoolExecutor(max_workers=2) as pool:
        both = [pool.submit(look), pool.submit(hold)]
        try:
            yield
        finally:
            over.set()
            for thread in both:
                thread.result()


def _let_go(stand: _Stormy) -> None:
    """All that are held but those that a fault has stopped."""
    stand.grip.held = [process for process in stand.grip.held if process not in stand.frozen]
    stand.grip.let_go()


if __name__ == "__main__":
    sys.exit(main())
