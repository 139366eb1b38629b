"""Faults that come over one run, by their names."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from tests.support import processes
from tests.support.matrix import Needs, Phase
from tests.support.placement import node_of
from tests.support.runs import Json
from tests.system.faults import memory
from tests.system.faults.disk import Disk
from tests.system.faults.ground import cluster
from tests.system.faults.mending import OUTAGE, PAUSE, Mending
from tests.system.faults.stand import Stand, begin

BROKEN: Final = 60.0  # seconds for which a GPU breaks again after each start
UNCORRECTABLE: Final = "CUDA error: uncorrectable ECC error encountered"


def _delete(stand: Stand, *pods: Json) -> None:
    names = [pod["metadata"]["name"] for pod in pods]
    stand.ground.kube.kubectl("delete", "pod", *names, "-n", stand.ground.namespace, "--wait=false")


def _worker_deleted(stand: Stand, mending: Mending) -> None:
    _delete(stand, stand.victim)


def _first_deleted(stand: Stand, mending: Mending) -> None:
    _delete(stand, *stand.ground.pods(stand.name)[:1])


def _two_deleted(stand: Stand, mending: Mending) -> None:
    _delete(stand, *stand.ground.pods(stand.name))


def _rank_killed(stand: Stand, mending: Mending) -> None:
    processes.send(processes.ranks(stand.keeper), signal.SIGKILL)


def _rank_stopped(stand: Stand, mending: Mending) -> None:
    """The one that is held is not let go."""
    stand.released = False
    stand.limit_hangs()


def _agent_killed(stand: Stand, mending: Mending) -> None:
    processes.send(processes.main(stand.victim), signal.SIGKILL)


def _agent_stopped(stand: Stand, mending: Mending) -> None:
    processes.send(processes.main(stand.victim), signal.SIGSTOP)


def _terminated(stand: Stand, mending: Mending) -> None:
    for pod in stand.ground.pods(stand.name):
        processes.send(processes.main(pod), signal.SIGTERM)


def _coordinators(stand: Stand) -> list[Json]:
    return stand.ground.pods(stand.name, "coordinator")


def _coordinator_killed(stand: Stand, mending: Mending) -> None:
    for pod in _coordinators(stand):
        processes.send(processes.main(pod), signal.SIGKILL)


def _coordinator_stopped(stand: Stand, mending: Mending) -> None:
    for pod in _coordinators(stand):
        found = processes.main(pod)
        processes.send(found, signal.SIGSTOP)
        mending.later(PAUSE, lambda found=found: processes.send(found, signal.SIGCONT))


def _coordinator_cut_off(stand: Stand, mending: Mending) -> None:
    for pod in _coordinators(stand):
        where = (node_of(pod), pod["status"]["podIP"])
        cluster("cut-pod", *where)
        mending.later(2 * PAUSE, lambda where=where: cluster("mend-pod", *where))


def _zygote_killed(stand: Stand, mending: Mending) -> None:
    processes.send(processes.zygote(stand.keeper), signal.SIGKILL)


def _rank_out_of_memory(stand: Stand, mending: Mending) -> None:
    pod = stand.keeper
    memory.exhaust(pod)
    begin([stand])
    processes.send(processes.ranks(pod), signal.SIGKILL)


def _agent_out_of_memory(stand: Stand, mending: Mending) -> None:
    pod = stand.victim
    memory.exhaust(pod)
    begin([stand])
    processes.send(processes.main(pod), signal.SIGKILL)


def _rank_slow(stand: Stand, mending: Mending) -> None:
    """It has a quarter of the time, for a while."""
    [rank] = processes.ranks(stand.keeper)
    last = time.monotonic() + OUTAGE

    def slow() -> None:
        while rank.alive and time.monotonic() < last:
            rank.signal(signal.SIGSTOP)
            time.sleep(0.15)
            rank.signal(signal.SIGCONT)
            time.sleep(0.05)

    mending.later(0.0, slow)


def _gpu_broken_again(stand: Stand, mending: Mending) -> None:
    """A node's rank ends with the driver's words for a broken GPU, and so does each that follows it there."""
    place = node_of(stand.victim)
    hit = processes.ranks(stand.victim)
    last = time.monotonic() + BROKEN
    for rank in hit:
        processes.abort(rank, UNCORRECTABLE)

    def again() -> None:
        while time.monotonic() < last:
            there = [pod for pod in stand.ground.pods(stand.name) if node_of(pod) == place]
            new = [rank for pod in there for rank in processes.ranks(pod) if rank not in hit]
            hit.extend(new)
            for rank in new:
                processes.abort(rank, UNCORRECTABLE)
            time.sleep(0.5)

    mending.later(0.0, again)


def _loss_not_a_number(stand: Stand, mending: Mending) -> None:
    memory.spoil_rotary_tables(processes.ranks(stand.keeper)[0])


def _checkpoint_corrupt(stand: Stand, mending: Mending) -> None:
    """The newest one lost a byte, and a rank is killed where ranks run, so that somebody reads it."""
    # Who is hit is known before anything is done, or a fault that hits nobody would leave its damage.
    ranks = processes.ranks(stand.keeper) if stand.phase is not Phase.RESUMING else []
    newest = _newest_marker(stand)
    tensors = sorted(newest.parent.glob(f"{newest.stem}.e*/tensors-*.bin"))[0]
    with tensors.open("r+b") as file:
        file.truncate(tensors.stat().st_size - 1)
    processes.send(ranks, signal.SIGKILL)


def _volume_hangs(stand: Stand, mending: Mending) -> None:
    disk = _disk(stand)
    disk.freeze()
    mending.later(OUTAGE, disk.thaw)
    stand.limit_hangs()


def _volume_full(stand: Stand, mending: Mending) -> None:
    """With a checkpoint there: without one it ends the run, and is meant to (ADR-0015)."""
    _newest_marker(stand)
    disk = _disk(stand)
    disk.fill()
    mending.later(OUTAGE, disk.empty)


def _newest_marker(stand: Stand) -> Path:
    """Of the newest durable checkpoint; LookupError where there is none."""
    markers = list(stand.ground.checkpoints(stand.name).glob("step-*.committed"))
    if not markers:
        raise LookupError(Needs.SAVED.value)
    return max(markers, key=lambda path: int(path.stem.removeprefix("step-")))


def _disk(stand: Stand) -> Disk:
    assert stand.disk is not None, f"{stand.name} has no disk of its own"
    return stand.disk


RUNS: Final[Mapping[str, Callable[[Stand, Mending], None]]] = {  # come over each run
    "worker deleted": _worker_deleted,
    "pod 0 deleted": _first_deleted,
    "two workers deleted": _two_deleted,
    "rank killed": _rank_killed,
    "rank stopped": _rank_stopped,
    "agent killed": _agent_killed,
    "agent stopped": _agent_stopped,
    "SIGTERM storm": _terminated,
    "coordinator killed": _coordinator_killed,
    "coordinator stopped": _coordinator_stopped,
    "coordinator cut off": _coordinator_cut_off,
    "zygote killed at import": _zygote_killed,
    "rank out of memory": _rank_out_of_memory,
    "agent out of memory": _agent_out_of_memory,
    "slow rank": _rank_slow,
    "GPU broken again": _gpu_broken_again,
    "NaN loss": _loss_not_a_number,
    "newest checkpoint corrupt": _checkpoint_corrupt,
    "volume hangs": _volume_hangs,
    "volume full": _volume_full,
}
ON_A_DISK: Final = frozenset({"volume hangs", "volume full"})  # whose checkpoints are on one of their own
