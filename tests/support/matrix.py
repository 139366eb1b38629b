"""Every fault in every phase of a run: which cells there are, and what is right in each. Pure.

The simulation and the tests on pods play the same cells against the same expectations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from footplate_contracts.names import Cause
from footplate_operator.trainingrun.policies.failure import (
    DEFAULT_RESTART_LIMITS,
    FRUITLESS_RESTARTS,
    SPENDS_PROGRESS,
)


class Phase(StrEnum):
    """What a run is doing when the fault comes."""

    QUEUED = "queued"  # it waits for its profile
    STARTING = "starting"  # its first pods start
    RENDEZVOUS = "rendezvous"  # a generation is sealed, and its ranks form groups and load
    STEPPING = "stepping"
    ROLLOUT = "rollout"  # ranks sample what they will learn from
    SCORING = "scoring"  # they score it
    CHECKPOINTING = "checkpointing"  # ranks write
    SUSPENDING = "suspending"  # they do so because they are asked to
    RESUMING = "resuming"  # its pods start again
    RESTARTING = "restarting"  # a rank was killed, and all start anew


class Family(StrEnum):
    """What a fault hits."""

    RANKS = "ranks"
    AGENTS = "agents"
    PODS = "pods"
    NODES = "nodes"
    NETWORK = "network"
    COORDINATOR = "coordinator"
    CONTROL_PLANE = "control plane"
    STORAGE = "storage"
    NUMBERS = "numbers"


class Needs(StrEnum):
    """What must be there to be hit; the value is the reason where it is not."""

    PODS = "no pod exists yet"
    RANKS = "no rank runs"
    COORDINATOR = "no coordinator runs"
    SAVED = "nothing is saved yet"
    STEPS = "no step is computed"
    WRITES = "nothing is read or written"
    IMPORTS = "nothing is imported any more"


# What is finished of a rollout is written at once, into its journal.
_SAMPLING: Final = frozenset({Needs.PODS, Needs.COORDINATOR, Needs.SAVED, Needs.RANKS, Needs.WRITES})
_THERE: Final[Mapping[Phase, frozenset[Needs]]] = {
    Phase.QUEUED: frozenset(),
    Phase.STARTING: frozenset({Needs.PODS, Needs.COORDINATOR, Needs.IMPORTS}),
    Phase.RENDEZVOUS: frozenset({Needs.PODS, Needs.COORDINATOR, Needs.RANKS, Needs.WRITES}),
    Phase.STEPPING: frozenset({*Needs} - {Needs.IMPORTS}),
    Phase.ROLLOUT: _SAMPLING,
    Phase.SCORING: _SAMPLING,
    Phase.CHECKPOINTING: frozenset({*Needs} - {Needs.IMPORTS}),
    Phase.SUSPENDING: frozenset({*Needs} - {Needs.IMPORTS}),
    Phase.RESUMING: frozenset({Needs.PODS, Needs.COORDINATOR, Needs.SAVED, Needs.IMPORTS, Needs.WRITES}),
    Phase.RESTARTING: frozenset({Needs.PODS, Needs.COORDINATOR, Needs.SAVED, Needs.RANKS, Needs.WRITES}),
}


@dataclass(frozen=True)
class Fault:
    """One fault, and what is right wherever it comes.

    `cause`: of which a restart may be counted; None: of none. `also`: causes that are right as well, each
    with the reason. `seconds`: until the run is where it should be again, beside the usual time of its
    phase. `detected`: seconds until the status counts a restart, where it does. `unsaved`: of what a run
    ends that has nothing durable. `simulated`: in the simulation alone. `restarts`: the most that may be
    counted; None: any number.
    """

    name: str
    family: Family
    needs: frozenset[Needs]
    cause: Cause | None
    seconds: float
    detected: float
    also: tuple[tuple[Cause, str], ...] = ()
    unsaved: Cause | None = None
    simulated: bool = False
    restarts: int | None = None

    @property
    def causes(self) -> frozenset[Cause]:
        """All of which a restart may be counted."""
        return frozenset({*([self.cause] if self.cause else []), *(cause for cause, _ in self.also)})

    def find_excess(self, before: Mapping[str, int], after: Mapping[str, int]) -> str:
        """Return what is wrong with failures by cause, counted `after` the fault; empty for nothing."""
        new = Counter(after) - Counter(before)
        allowed = sorted(cause.value for cause in self.causes)
        if not new.keys() <= set(allowed):
            return f"{sorted(new)} counted, where {allowed} may be"
        if self.restarts is not None and new.total() > self.restarts:
            return f"{new.total()} failures counted, where {self.restarts} may be"
        return ""


def _fault(
    name: str,
    family: Family,
    needs: tuple[Needs, ...] = (),
    cause: Cause | None = None,
    seconds: float = 20.0,
    detected: float | None = None,
    also: Mapping[Cause, str] | None = None,
    unsaved: Cause | None = None,
    simulated: bool = False,
    restarts: int | None = None,
) -> Fault:
    bound = seconds if detected is None else detected
    others = tuple((also or {}).items())
    return Fault(name, family, frozenset(needs), cause, seconds, bound, others, unsaved, simulated, restarts)


_KUBERNETES: Final = 60.0  # what takes Kubernetes' own word for a node that is gone
_AT_ONCE: Final = 10.0  # until what a process or a connection tells by its end is counted
_SILENT: Final = 45.0  # until silence is
_BEFORE_ITS_KUBELET: Final = {
    Cause.NODE_LOST: "its connections end before its kubelet says why, and its pod may be gone by then",
    Cause.COMMUNICATION: "other ranks tell of broken connections before its kubelet says why",
}
_UNREACHED: Final = {
    Cause.HANG: "a collective that has begun waits for packets that never come",
    Cause.NODE_LOST: "a suspension is not held up to find out why its checkpoint came to nothing",
}
FAULTS: Final[Mapping[str, Fault]] = {
    fault.name: fault
    for fault in (
        _fault("worker deleted", Family.PODS, (Needs.PODS,), Cause.NODE_LOST),
        _fault("pod 0 deleted", Family.PODS, (Needs.PODS,), Cause.NODE_LOST),
        _fault("two workers deleted", Family.PODS, (Needs.PODS,), Cause.NODE_LOST),
        _fault("rank killed", Family.RANKS, (Needs.RANKS,), Cause.COMMUNICATION, detected=_AT_ONCE),
        _fault("rank stopped", Family.RANKS, (Needs.RANKS,), Cause.HANG, 60.0),
        _fault("rank out of memory", Family.RANKS, (Needs.RANKS,), Cause.OUT_OF_MEMORY, detected=_AT_ONCE),
        _fault("slow rank", Family.RANKS, (Needs.STEPS,)),
        _fault("agent killed", Family.AGENTS, (Needs.PODS,), Cause.NODE_LOST, detected=_AT_ONCE),
        # Before it has joined, its silence is known by the deadline for gathering.
        _fault("agent stopped", Family.AGENTS, (Needs.PODS,), Cause.NODE_LOST, 60.0, 65.0),
        _fault(
            "agent out of memory",
            Family.AGENTS,
            (Needs.PODS,),
            Cause.OUT_OF_MEMORY,
            detected=_AT_ONCE,
            also=_BEFORE_ITS_KUBELET,
        ),
        _fault("zygote killed at import", Family.AGENTS, (Needs.IMPORTS,)),
        _fault("SIGTERM storm", Family.AGENTS, (Needs.PODS,), Cause.NODE_LOST, 30.0),
        _fault("node powered off", Family.NODES, (Needs.PODS,), Cause.NODE_LOST, _KUBERNETES, _SILENT),
        _fault("two nodes powered off", Family.NODES, (Needs.PODS,), Cause.NODE_LOST, _KUBERNETES, _SILENT),
        _fault("node cut off", Family.NETWORK, (Needs.PODS,), Cause.NODE_LOST, _KUBERNETES, _SILENT),
        _fault(
            "node cut off from one other",
            Family.NETWORK,
            (Needs.PODS,),
            Cause.COMMUNICATION,
            _KUBERNETES,
            also=_UNREACHED,
        ),
        # Its pods train on.
        _fault("kubelet stopped", Family.NODES, (Needs.PODS,), seconds=_KUBERNETES),
        _fault("node drained", Family.NODES, (Needs.PODS,), Cause.PREEMPTED, 30.0),
        # On pods a drain begins with one.
        _fault("node cordoned", Family.NODES, (Needs.PODS,), Cause.PREEMPTED, 30.0, simulated=True),
        _fault(
            "node object deleted",
            Family.NODES,
            (Needs.PODS,),
            Cause.PREEMPTED,
            30.0,
            also={Cause.NODE_LOST: "its pods may be gone before anybody is told why"},
        ),
        # For 90 s there is no room, and 15 s later ranks step.
        _fault("no room", Family.NODES, cause=Cause.NODE_LOST, seconds=105.0, detected=_SILENT),
        # Who is suspended meanwhile waits for its end, 60 s, and all others train on.
        _fault("cordon without room elsewhere", Family.NODES, (Needs.PODS,), seconds=60.0),
        # A GPU that works again after each restart, and breaks again: a node that is avoided costs one.
        _fault("GPU broken again", Family.NODES, (Needs.RANKS,), Cause.NODE_LOST, restarts=1),
        # A quota tells nobody that it has room again: a gang without a pod tries after ten minutes at most.
        _fault("quota refuses half", Family.PODS, cause=Cause.NODE_LOST, seconds=630.0, detected=20.0),
        _fault("node clock wrong", Family.NODES, (Needs.PODS,), Cause.NODE_LOST, simulated=True),
        _fault("coordinator killed", Family.COORDINATOR, (Needs.COORDINATOR,)),
        _fault("coordinator stopped", Family.COORDINATOR, (Needs.COORDINATOR,), seconds=40.0),
        _fault("coordinator cut off", Family.COORDINATOR, (Needs.COORDINATOR,), seconds=40.0),
        _fault("operator killed", Family.CONTROL_PLANE, seconds=40.0),
        _fault("leader stopped", Family.CONTROL_PLANE, seconds=60.0),
        _fault("REST API killed", Family.CONTROL_PLANE),
        _fault("API server restarted", Family.CONTROL_PLANE),
        _fault("etcd paused", Family.CONTROL_PLANE, seconds=60.0),
        _fault("watch torn", Family.CONTROL_PLANE, seconds=30.0, simulated=True),
        _fault("API server unwell", Family.CONTROL_PLANE, seconds=90.0, simulated=True),
        _fault("image gone for the substitute", Family.PODS, (Needs.PODS,), Cause.NODE_LOST, 90.0),
        _fault("volume hangs", Family.STORAGE, (Needs.WRITES,), Cause.HANG, 60.0),
        # A save that training waits for is tried again, for no longer than resilience.hang allows.
        _fault("volume full", Family.STORAGE, (Needs.SAVED,), Cause.HANG, 40.0, unsaved=Cause.STORAGE),
        _fault("newest checkpoint corrupt", Family.STORAGE, (Needs.SAVED,), Cause.COMMUNICATION),
        _fault("NaN loss", Family.NUMBERS, (Needs.STEPS,), Cause.NUMERICAL_DIVERGENCE, detected=_AT_ONCE),
    )
}


def applicable(fault: Fault, phase: Phase) -> str:
    """Why there is no such cell; empty where there is one."""
    missing = [need for need in Needs if need in fault.needs - _THERE[phase]]
    return missing[0].value if missing else ""


def may_end(faults: Sequence[Fault]) -> frozenset[Cause]:
    """Of what a run may end over which all `faults` came: more than its restart limits allow."""
    counted = Counter(cause for fault in faults for cause in fault.causes)
    spent = {
        cause
        for cause, limit in DEFAULT_RESTART_LIMITS.items()
        if limit is not None and counted[cause] > limit
    }
    fruitless = sum(bool(fault.causes & SPENDS_PROGRESS) for fault in faults) > FRUITLESS_RESTARTS
    unsaved = {fault.unsaved for fault in faults if fault.unsaved is not None}
    return frozenset(spent | unsaved | ({Cause.NO_PROGRESS} if fruitless else set()))


CELLS: Final = tuple(
    (fault, phase) for fault in FAULTS.values() for phase in Phase if not applicable(fault, phase)
)


# -- on pods -------------------------------------------------------------------------------

ON_PODS: Final = 15.0  # seconds beside a fault's own


def bound_on_pods(fault: Fault) -> float:
    """Seconds from the fault until the run is where it should be again."""
    return fault.seconds + ON_PODS


def on_pods(fault: Fault, phase: Phase) -> str:
    """Why a cell is played in the simulation only; empty where real pods play it, too."""
    if fault.simulated:
        return "pods cannot show it: " + _ONLY_SIMULATED.get(fault.name, "the simulation alone has it")
    return ""


_ONLY_SIMULATED: Final[Mapping[str, str]] = {
    "watch torn": "a watch of the operator's alone cannot be torn from outside",
    "API server unwell": "a real one answers, or it does not",
    "node clock wrong": "kubelets here share the machine's clock",
}

POD_CELLS: Final = tuple(cell for cell in CELLS if not on_pods(*cell))

# Each family and each phase, and beside them what came of nothing else: outside of CI, in half an hour.
SAMPLE: Final = (
    ("rank killed", Phase.RENDEZVOUS),
    ("rank stopped", Phase.STEPPING),
    ("rank out of memory", Phase.CHECKPOINTING),
    ("agent killed", Phase.STARTING),
    ("agent stopped", Phase.RESTARTING),
    ("zygote killed at import", Phase.RESUMING),
    ("worker deleted", Phase.STEPPING),
    ("pod 0 deleted", Phase.SUSPENDING),
    ("two workers deleted", Phase.CHECKPOINTING),
    ("SIGTERM storm", Phase.RENDEZVOUS),
    ("coordinator killed", Phase.CHECKPOINTING),
    ("coordinator stopped", Phase.STEPPING),
    ("coordinator cut off", Phase.RESTARTING),
    ("volume hangs", Phase.CHECKPOINTING),
    ("newest checkpoint corrupt", Phase.STEPPING),
    ("NaN loss", Phase.STEPPING),
    ("node powered off", Phase.STARTING),
    ("node powered off", Phase.STEPPING),
    ("node powered off", Phase.SUSPENDING),
    ("node powered off", Phase.RESTARTING),
    ("node cut off", Phase.STEPPING),
    ("node cut off", Phase.RESUMING),
    ("operator killed", Phase.QUEUED),
    ("operator killed", Phase.SUSPENDING),
    ("operator killed", Phase.RESTARTING),
    ("API server restarted", Phase.QUEUED),
    ("API server restarted", Phase.STEPPING),
    ("rank killed", Phase.ROLLOUT),
    ("rank stopped", Phase.SCORING),
    ("agent killed", Phase.SCORING),
    ("volume full", Phase.ROLLOUT),
    ("node powered off", Phase.ROLLOUT),
    ("operator killed", Phase.SCORING),
)
# Those of `make test`: one scene of what comes over single runs, one of a node.
FEW: Final = (
    ("rank killed", Phase.RESTARTING),
    ("newest checkpoint corrupt", Phase.RESUMING),
    ("coordinator killed", Phase.CHECKPOINTING),
    ("agent killed", Phase.RENDEZVOUS),
    ("pod 0 deleted", Phase.SUSPENDING),
    ("node powered off", Phase.STARTING),
    ("node powered off", Phase.STEPPING),
    ("node powered off", Phase.RESUMING),
)
