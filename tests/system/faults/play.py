"""Cells, played side by side: all runs are brought into their phases, the faults come, and all goes on.

bring     each run into its phase, where it is held
prove     that each is there, just before the faults come
inject    once for all where the whole cluster is hit, one for each run otherwise
follow    each run to its end, and hold it to what is right
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from datetime import datetime
from threading import Lock
from typing import Final

from footplate_contracts.v1alpha1.training import Stage
from tests.support.matrix import Family, Fault, Phase, bound_on_pods
from tests.support.processes import wait_for
from tests.support.runs import Json, check_same_history
from tests.system.faults.disk import Disk
from tests.system.faults.ground import Ground, apply_profile, insist
from tests.system.faults.inject import inject
from tests.system.faults.mending import Mending
from tests.system.faults.over_cluster import CLUSTER
from tests.system.faults.over_runs import ON_A_DISK
from tests.system.faults.results import Result
from tests.system.faults.stand import APPROACH, BROUGHT, ENTER, Stand
from tests.system.faults.training import COURSES
from tests.system.faults.watch import Seen

AT_ONCE: Final = 2  # runs that start side by side: imports of more keep two cores from answering in time
ENDED: Final = 300.0  # seconds for all the steps
LATE: Final = 180.0  # seconds for rows to reach an API that was away
GONE: Final = 90.0  # seconds for pods to end after their run
DRAINED: Final = ("EvictionByEvictionAPI", "NodeDraining")  # reasons of an end before which all save


def play(
    ground: Ground, cells: Sequence[tuple[Fault, Phase]], expected: Mapping[Stage, list[Json]], mark: str
) -> list[Result]:
    """Play the cells side by side; one result for each, in their order.

    What is of the whole cluster comes once, over all of its cells, which wait in their phases until the
    last one is there. What is of one run comes over a few at a time, as each of them starts processes.

    Args:
        expected: the histories of runs that nothing happened to, of each stage that the cells train.
        mark: what makes the names of these runs their own.
    """
    played = [
        _Played(stand, expected[stand.stage])
        for stand in (Stand(ground, fault, phase, name_of(fault, phase, mark)) for fault, phase in cells)
    ]
    mending, one_coordinator = Mending(), Lock()
    ground.prepare()
    own = [cell for cell in played if cell.stand.fault.name not in CLUSTER]
    with ThreadPoolExecutor(max_workers=AT_ONCE) as few:
        for name in dict.fromkeys(cell.stand.fault.name for cell in played if cell not in own):
            cells_of_it = [cell for cell in played if cell.stand.fault.name == name]
            list(few.map(_Played.approach, cells_of_it))
            _hit(cells_of_it, mending)
        list(few.map(lambda cell: _bring_and_hit(cell, mending, one_coordinator), own))
    trouble = _tried(mending.finish)
    for cell in played:
        cell.stand.grip.let_go()
        if trouble and cell.result.green:
            cell.result.error = trouble
    with ThreadPoolExecutor(max_workers=len(played)) as all_of_them:
        list(all_of_them.map(_Played.leave, played))
    return [cell.result for cell in played]


def _bring_and_hit(cell: _Played, mending: Mending, one_coordinator: Lock) -> None:
    """The other run's coordinator is heard: an operator that hears none of two holds itself to be deaf."""
    cell.approach()
    alone = cell.stand.fault.family is Family.COORDINATOR
    with one_coordinator if alone else nullcontext():
        _hit([cell], mending)


def _hit(cells: list[_Played], mending: Mending) -> None:
    """The fault of these cells comes over those that are in their phase, which are followed to their ends."""
    with ThreadPoolExecutor(max_workers=len(cells)) as pool:
        list(pool.map(_Played.enter, cells))
    for cell in cells:
        cell.prove()
    there = [cell for cell in cells if cell.result.green]
    if not there:
        return
    trouble = _tried(lambda: inject(there[0].stand.ground, [cell.stand for cell in there], mending))
    for cell in there:
        cell.result.error = trouble
    with ThreadPoolExecutor(max_workers=len(there)) as pool:
        list(pool.map(_Played.follow, there))


class _Played:
    """A cell, what comes of it, and what is done with it only as long as nothing went wrong."""

    def __init__(self, stand: Stand, expected: list[Json]) -> None:
        self.stand, self._expected = stand, expected
        self.result = Result(stand.fault.name, stand.phase.value)

    def _try(self, act: Callable[[], object]) -> None:
        if self.result.green and (error := _tried(act)):
            self.result.error = f"{error}\n{self.stand.ground.runs.explain(self.stand.name)}"

    def approach(self) -> None:
        """To where it can wait, in its phase or just before it."""
        if self.stand.fault.name in ON_A_DISK:
            self.stand.disk = Disk(self.stand.ground.checkpoints(self.stand.name))
        self._try(lambda: APPROACH[self.stand.phase](self.stand))

    def enter(self) -> None:
        """Into its phase."""
        if (act := ENTER.get(self.stand.phase)) is not None:
            self._try(lambda: act(self.stand))

    def prove(self) -> None:
        """That it is there."""
        self._try(self.stand.prove)
        self.result.proof = self.stand.proof

    def follow(self) -> None:
        """To the end of the run."""
        self._try(lambda: _follow(self.stand, self.result, self._expected))

    def leave(self) -> None:
        """Nothing behind."""
        self._try(lambda: _leave(self.stand))
        if self.stand.disk is not None:
            self.stand.disk.remove()
        # An API server that is busy with all of them takes it a little later.
        self._try(lambda: insist(lambda: self.stand.ground.runs.delete(self.stand.name)))


def undisturbed(ground: Ground, stage: Stage) -> list[Json]:
    """The history of a run of `stage` that nothing happens to; it is trained for it."""
    name = f"calm-{stage.value}-{int(time.time()) % 100_000:05d}"
    ground.runs.apply(ground.manifest(name, stage=stage))
    ground.watch.until(name, lambda status: status.get("phase") == "Succeeded", ENDED)
    rows = ground.runs.whole_history(name, COURSES[stage].steps)
    ground.runs.delete(name)
    return rows


def name_of(fault: Fault, phase: Phase, mark: str) -> str:
    """A run's name, of at most the 40 characters that it may have; `mark` has up to five."""
    words = fault.name.lower().replace(" ", "-")[:20].rstrip("-")
    return f"{words}-{phase.value}-{mark}"


def _tried(act: Callable[[], object]) -> str:
    """What went wrong, in words; empty where nothing did."""
    try:
        act()
    except Exception as error:  # noqa: BLE001 - the edge of a cell: whatever it was makes this one red
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({where.name}:{where.lineno})"
    return ""


def _follow(stand: Stand, result: Result, expected: list[Json]) -> None:
    ground, fault = stand.ground, stand.fault
    bound = bound_on_pods(fault)
    if stand.phase is Phase.QUEUED:
        insist(lambda: apply_profile(ground.kube, stand.name))
    if stand.phase is Phase.SUSPENDING:
        stand.until_phase("Suspended", seconds=bound)
        result.seconds = round(time.time() - stand.at, 1)
        _check_acknowledged(stand.status)
        wait_for(lambda: not _alive(stand), GONE, 0.5)
        ground.patch(stand.name, {"suspend": False})
    stand.until_phase("Succeeded", seconds=bound + ENDED)
    rows = ground.runs.whole_history(stand.name, stand.course.steps, late_seconds=LATE)
    if result.seconds is None:
        result.seconds = _recovered(stand, rows)
    after = stand.status.get("failures", {})
    result.causes = sorted(cause for cause in after if after[cause] > stand.failures.get(cause, 0))
    result.detected = detected(stand.ground.watch.history(stand.name), stand.at, stand.failures)
    check_same_history(rows, expected)
    drained = [it for it in stand.status.get("attempts", []) if it.get("reason") in DRAINED]
    assert drained or (fault.name, stand.phase) != ("node drained", Phase.STEPPING), "nothing was drained"
    assert not any(attempt["lostSteps"] for attempt in drained), f"steps were lost: {drained}"
    assert not (excess := fault.find_excess(stand.failures, after)), excess
    assert result.seconds <= bound, f"back in work after {result.seconds} s, where {bound} is right"
    late = f"detected after {result.detected} s, where {fault.detected} is right"
    assert (result.detected or 0.0) <= fault.detected, late


def _check_acknowledged(status: Json) -> None:
    """What is said of a suspension is true: which step is durable, and how many after it are lost."""
    durable = status.get("checkpoint", {}).get("latestStep", 0)
    lost = status["progress"]["step"] - durable
    [said] = [item["message"] for item in status["conditions"] if item["type"] == "Progressing"]
    assert f"step {durable} is durable" in said, said
    assert (f"{lost} step" in said) is (lost > 0), f"{lost} steps are lost, and it says: {said}"


def _recovered(stand: Stand, rows: list[Json]) -> float:
    """Seconds from the fault to the first step after it that the status knows of.

    Where the fault ended an attempt, steps before that end are none: a worker that is told to end
    trains on until all have saved.
    """
    begun = max([stand.at, *_ends(stand)])
    first = min((row["time"] for row in rows if row["time"] > begun), default=begun)
    seen = [
        seen.time
        for seen in stand.ground.watch.history(stand.name)
        if seen.time >= first and seen.phase in ("Running", "Succeeded")
    ]
    return round(min(seen) - stand.at, 1)


def detected(history: Sequence[Seen], at: float, before: Mapping[str, int]) -> float | None:
    """Seconds from the fault, which came `at`, to the first status that counts more than `before`."""
    for seen in history:
        counted = seen.status.get("failures", {})
        if seen.time > at and any(count > before.get(cause, 0) for cause, count in counted.items()):
            return round(seen.time - at, 1)
    return None


def _ends(stand: Stand) -> list[float]:
    """When attempts ended since the fault that failed (Unix times)."""
    ends = [
        datetime.fromisoformat(attempt["end"]).timestamp()
        for attempt in stand.status.get("attempts", [])
        if attempt.get("end") and attempt.get("cause")
    ]
    return [end for end in ends if end > stand.at]


def _alive(stand: Stand) -> list[Json]:
    """Workers that run, where somebody can know."""
    ready = stand.ground.ready_nodes()
    return [pod for pod in stand.ground.pods(stand.name) if pod["spec"]["nodeName"] in ready]


def _leave(stand: Stand) -> None:
    """After its end no pod of the run runs, and after its deletion nothing of it is there."""
    ground = stand.ground
    if stand.phase is Phase.QUEUED:
        ground.kube.kubectl("delete", "computeprofile", stand.name, "--ignore-not-found")

    def ended() -> bool:
        return not (ground.pods(stand.name) or ground.pods(stand.name, "coordinator"))

    wait_for(ended, GONE, 0.5)
    ground.runs.delete(stand.name)
    wait_for(lambda: not ground.children(stand.name), BROUGHT, 0.5)
