"""A run that stands in its phase: how it is brought there, held there, and proven to be there.

A rank, or the zygote that ranks are forked from, stands still: so the phase lasts until whoever holds it
lets go, at any speed of the machine. What is caught and turns out to be too late is let go, and caught
the next time; a phase that is not proven is an error, never a cell that is green by chance.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cluster.native.pods import Process
from footplate_contracts.coordinator_state import Progress, RunState
from footplate_contracts.reports import RankPhase
from footplate_contracts.v1alpha1.training import Stage
from tests.support import processes
from tests.support.matrix import Fault, Phase
from tests.support.placement import node_of
from tests.support.processes import Grip, wait_for
from tests.support.runs import Json
from tests.system.faults.disk import Disk
from tests.system.faults.ground import PROFILE, Ground, asked, hang
from tests.system.faults.training import COURSES, Course, stage_of
from tests.system.faults.watch import told

BROUGHT: Final = 120.0  # seconds, generous: eight runs may start at the same time
STEP_BOUND: Final = 5.0  # seconds of a step where a hang is to be noticed
REST_BOUND: Final = 10.0  # of whatever else a rank does
SAMPLED: Final = 240.0  # seconds until a rollout is caught, which lasts longer than a step
STILL: Final = 3.0  # seconds: far longer than one call of a reward function takes


class NotInPhase(AssertionError):
    """The run could not be brought into the phase, or did not stay there."""


@dataclass
class Stand:
    """One cell's run."""

    ground: Ground
    fault: Fault
    phase: Phase
    name: str
    grip: Grip = field(default_factory=Grip)
    at: float = 0.0  # when the fault came (Unix time)
    proof: str = ""  # of the phase, as seen at that moment
    failures: dict[str, int] = field(default_factory=dict)  # counted until then
    released: bool = True  # whether the held ones are to go on after the fault
    disk: Disk | None = None  # of its checkpoints, where the fault is one of it

    @property
    def stage(self) -> Stage:
        """What the run trains."""
        return stage_of(self.phase)

    @property
    def course(self) -> Course:
        """How long it does."""
        return COURSES[self.stage]

    @property
    def status(self) -> Json:
        """The newest."""
        return self.ground.watch.status(self.name)

    @property
    def run_phase(self) -> str:
        """The newest status's."""
        return str(self.status.get("phase", ""))

    @property
    def steps(self) -> int:
        """The newest step that the status knows."""
        return int(self.status.get("progress", {}).get("step", 0))

    @property
    def keeper(self) -> Json:
        """The worker whose processes are held."""
        return self.ground.worker_on(self.name, self.ground.right)

    @property
    def victim(self) -> Json:
        """The worker that a fault of one worker or one node hits."""
        return self.ground.worker_on(self.name, self.ground.left)

    def apply(self, profile: str = "") -> None:
        """Create the run; a profile of another name may be one that is not there."""
        self.ground.runs.apply(self.ground.manifest(self.name, profile or PROFILE, self.stage))

    def until_phase(self, *phases: str, seconds: float = BROUGHT) -> None:
        """Wait for a phase of the status."""
        self.ground.watch.until(self.name, lambda status: status.get("phase") in phases, seconds)

    def limit_hangs(self) -> None:
        """Nothing may take long any more, from now on: not even three times the step that was held."""
        self.ground.patch(self.name, {"resilience": {"hang": limits(self.stage)}})

    def prove(self) -> None:
        """Note what shows the phase; raises NotInPhase where something shows another one."""
        view = self.ground.view(self.name)
        state = view.state.value if view else "no coordinator"
        step = view.progress.step if view else 0
        seen = f"{self.run_phase}, {state}, step {step}, {len(self.grip.held)} held"
        if self.run_phase not in _SHOWN[self.phase] or state not in _STATES[self.phase]:
            raise NotInPhase(f"{self.name} is not {self.phase.value}: {seen}")
        if self.grip.held and not self.grip.holds:
            raise NotInPhase(f"{self.name}: what was held has gone: {seen}")
        if self.phase in _SAMPLING:
            seen += f", {view.progress.phase}, {view.progress.finished} finished" if view else ""
            if view is None or not _samples(self, view.progress):
                raise NotInPhase(f"{self.name} does not sample: {seen}")
        if self.phase in _WRITING and not writing(self.ground.checkpoints(self.name)):
            raise NotInPhase(f"{self.name} does not write: {seen}")
        self.proof, self.failures = seen, dict(self.status.get("failures", {}))


def begin(stands: Sequence[Stand]) -> None:
    """Note that the fault comes now; again by a fault that has prepared something until then."""
    for stand in stands:
        stand.at = time.time()


def limits(stage: Stage) -> Json:
    """`resilience.hang` by which a hang is noticed as early as a run of `stage` may have it."""
    bounds = hang(REST_BOUND) | {"floorSeconds": STEP_BOUND, "factor": 1}
    return bounds | {"scoringSeconds": max(REST_BOUND, COURSES[stage].scoring_bound)}


def writing(folder: Path) -> list[int]:
    """Steps of which a checkpoint is being written: newer than any that is committed."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    done = [int(name[5:].split(".")[0]) for name in names if name.endswith(".committed")]
    begun = [int(name[5:].split(".")[0]) for name in names if name.startswith("step-") and ".e" in name]
    return sorted(step for step in set(begun) - set(done) if step > max(done, default=0))


# -- into each phase -----------------------------------------------------------------------


def _queued(stand: Stand) -> None:
    stand.apply(profile=stand.name)
    stand.until_phase("Queued")


def _starting(stand: Stand) -> None:
    stand.apply()
    _hold_zygotes(stand)
    _until_gathering(stand)


def _until_gathering(stand: Stand) -> None:
    """Until the status says that it starts, and its coordinator can be asked."""
    stand.until_phase("Starting")
    wait_for(lambda: stand.ground.state(stand.name) is not None, BROUGHT, 0.1)


def _hold_zygotes(stand: Stand) -> None:
    """Stop each worker's zygote while it imports."""

    def held() -> bool:
        for pod in stand.ground.pods(stand.name):
            new = [zygote for zygote in processes.zygote(pod) if zygote not in stand.grip.held]
            stand.grip.stop(*new)
        return len(stand.grip.held) == 2

    wait_for(held, BROUGHT, 0.05)
    running = lambda: [pod for pod in stand.ground.pods(stand.name) if pod["status"]["phase"] == "Running"]  # noqa: E731
    wait_for(lambda: len(running()) == 2, BROUGHT, 0.1)
    if any(processes.ranks(pod) for pod in running()):
        raise NotInPhase(f"{stand.name} has ranks already")


def _rendezvous(stand: Stand) -> None:
    stand.grip.let_go()
    _catch_rank(stand)
    wait_for(lambda: stand.ground.state(stand.name) is RunState.LOADING, BROUGHT, 0.1)


def _catch_rank(stand: Stand) -> None:
    """Stop the keeper's rank as soon as there is one."""
    keeper = stand.keeper
    wait_for(lambda: bool(processes.ranks(keeper)), BROUGHT)
    stand.grip.stop(*processes.ranks(keeper))


def _stepping(stand: Stand) -> None:
    stand.apply()
    _hold_stepping(stand)


def _hold_stepping(stand: Stand) -> None:
    """Hold the keeper's rank after a few steps, between two checkpoints; the status must know it."""
    wait_for(lambda: len(stand.ground.pods(stand.name)) == 2, BROUGHT, 0.1)
    folder = stand.ground.checkpoints(stand.name)
    wait_for(lambda: _progress(stand).step >= stand.course.first, BROUGHT, 0.05)
    for _ in range(50):
        stand.grip.stop(*processes.ranks(stand.keeper))
        if not writing(folder):
            break
        stand.grip.let_go()
        time.sleep(0.02)
    _until_told(stand)


def _until_told(stand: Stand) -> None:
    """Until the status knows how far it is."""
    first = stand.course.first
    stand.ground.watch.until(
        stand.name,
        lambda status: status.get("phase") == "Running" and status["progress"]["step"] >= first,
        BROUGHT,
    )


def _progress(stand: Stand) -> Progress:
    view = stand.ground.view(stand.name)
    return view.progress if view else Progress()


def _sampling(stand: Stand) -> None:
    """Hold the keeper's rank in the middle of a rollout, or of scoring it, after a checkpoint."""
    stand.apply()
    wait_for(lambda: len(stand.ground.pods(stand.name)) == 2, BROUGHT, 0.1)
    ranks, look = list[Process](), _look(stand)

    def caught() -> bool:
        """Ranks are found before: afterwards it takes a busy machine longer than the phase may last."""
        if not any(rank.alive for rank in ranks):
            ranks[:] = _of_keeper(stand)
        seen = look()
        return stand.run_phase in _OVER or (bool(ranks) and seen is not None and _samples(stand, seen))

    last = time.monotonic() + SAMPLED
    while time.monotonic() < last and stand.run_phase not in _OVER:
        wait_for(caught, SAMPLED, 0.05)
        if stand.run_phase in _OVER:
            break
        stand.grip.stop(*ranks)
        if stands_still(stand, look):
            _until_told(stand)
            return
        stand.grip.let_go()
    raise NotInPhase(f"{stand.name} was not caught: {told(stand.status)}")


def _of_keeper(stand: Stand) -> list[Process]:
    there = [pod for pod in stand.ground.pods(stand.name) if node_of(pod) == stand.ground.right]
    return processes.ranks(there[-1]) if there else []


def _look(stand: Stand) -> Callable[[], Progress | None]:
    """What tells the progress, or None where none answers in time, which says nothing of the run.

    The address is looked up anew only then: a look has to be far shorter than what is looked for.
    """
    known: list[tuple[str, str]] = []

    def look() -> Progress | None:
        if not known and (found := stand.ground.coordinator(stand.name)):
            known.append(found)
        view = asked(*known[0]) if known else None
        if view is None:
            known.clear()
        return view.progress if view else None

    return look


def _samples(stand: Stand, seen: Progress) -> bool:
    """Whether some of the phase is done, of a rollout that is not the last."""
    course = stand.course
    return (
        course.first <= seen.step < course.steps - 1
        and seen.phase is RankPhase(stand.phase.value)
        and (seen.finished or 0) > 0
    )


def stands_still(stand: Stand, look: Callable[[], Progress | None]) -> bool:
    """Whether all that is left of the phase is what the held rank has still to do.

    Another rank may be at it for a while, when the held one had done its part already.
    """
    last, since, finished = time.monotonic() + BROUGHT, time.monotonic(), -1
    while time.monotonic() < last:
        time.sleep(0.1)
        now = look()
        if now is None:
            continue
        if not _samples(stand, now):
            return False
        if now.finished is not None and now.finished != finished:
            since, finished = time.monotonic(), now.finished
        elif time.monotonic() - since >= STILL:
            return True
    return False


def _checkpointing(stand: Stand) -> None:
    _catch_writing(stand)
    stand.until_phase("Running")


def _catch_writing(stand: Stand) -> None:
    """Let the held ranks go on, and stop them while a checkpoint is being written that is not the last one.

    They are those that were held: a look for them may take as long as a checkpoint.
    """
    ranks, folder = tuple(stand.grip.held), stand.ground.checkpoints(stand.name)
    last = time.monotonic() + BROUGHT
    while time.monotonic() < last:
        stand.grip.let_go()
        wait_for(lambda: bool(writing(folder)), BROUGHT, look=0.001)
        stand.grip.stop(*ranks)
        if writing(folder) and max(writing(folder)) < stand.course.steps:
            return
    raise NotInPhase(f"{stand.name}: no checkpoint was caught: {told(stand.status)}")


def _suspending(stand: Stand) -> None:
    stand.ground.patch(stand.name, {"suspend": True})
    stand.until_phase("Suspending")
    _catch_writing(stand)


def _resuming(stand: Stand) -> None:
    _stepping(stand)
    stand.ground.patch(stand.name, {"suspend": True})
    stand.until_phase("Suspending")
    stand.grip.let_go()
    stand.until_phase("Suspended")
    wait_for(lambda: not stand.ground.runs.pods(stand.name), BROUGHT, 0.2)
    stand.ground.patch(stand.name, {"suspend": False})
    _hold_zygotes(stand)
    _until_gathering(stand)


def _restarting(stand: Stand) -> None:
    keeper, before = stand.keeper, stand.grip.held[0]
    processes.send(processes.ranks(stand.victim), signal.SIGKILL)
    stand.grip.let_go()
    wait_for(lambda: any(rank != before for rank in processes.ranks(keeper)), BROUGHT)
    stand.grip.stop(*(rank for rank in processes.ranks(keeper) if rank != before))
    stand.until_phase("Restarting", seconds=5.0)
    wait_for(lambda: stand.ground.state(stand.name) is RunState.LOADING, BROUGHT, 0.1)


# What takes long, and can be held for as long as others take; then what is over soon, such as a
# rendezvous, in which nobody waits for a rank for more than some seconds.
APPROACH: Final[Mapping[Phase, Callable[[Stand], None]]] = {
    Phase.QUEUED: _queued,
    Phase.STARTING: _starting,
    Phase.RENDEZVOUS: _starting,
    Phase.STEPPING: _stepping,
    Phase.ROLLOUT: _sampling,
    Phase.SCORING: _sampling,
    Phase.CHECKPOINTING: _stepping,
    Phase.SUSPENDING: _stepping,
    Phase.RESUMING: _resuming,
    Phase.RESTARTING: _stepping,
}
ENTER: Final[Mapping[Phase, Callable[[Stand], None]]] = {
    Phase.RENDEZVOUS: _rendezvous,
    Phase.CHECKPOINTING: _checkpointing,
    Phase.SUSPENDING: _suspending,
    Phase.RESTARTING: _restarting,
}
_OVER: Final = ("Succeeded", "Failed")
_SAMPLING: Final = (Phase.ROLLOUT, Phase.SCORING)
_WRITING: Final = (Phase.CHECKPOINTING, Phase.SUSPENDING)
_SHOWN: Final[Mapping[Phase, tuple[str, ...]]] = {  # in the status
    Phase.QUEUED: ("Queued",),
    Phase.STARTING: ("Starting",),
    Phase.RENDEZVOUS: ("Starting",),
    Phase.STEPPING: ("Running",),
    Phase.ROLLOUT: ("Running",),
    Phase.SCORING: ("Running",),
    Phase.CHECKPOINTING: ("Running", "Checkpointing"),
    Phase.SUSPENDING: ("Suspending",),
    Phase.RESUMING: ("Starting",),
    Phase.RESTARTING: ("Restarting",),
}
_STATES: Final[Mapping[Phase, tuple[str, ...]]] = {  # by the coordinator
    Phase.QUEUED: ("no coordinator",),
    Phase.STARTING: ("gathering", "loading"),
    Phase.RENDEZVOUS: ("loading",),
    Phase.STEPPING: ("training",),
    Phase.ROLLOUT: ("training",),
    Phase.SCORING: ("training",),
    Phase.CHECKPOINTING: ("training",),
    Phase.SUSPENDING: ("training",),
    Phase.RESUMING: ("gathering", "loading"),
    Phase.RESTARTING: ("loading",),
}
