"""What ranks do together: form a group, load, step, save; and how they lose each other.

A step counts when all ranks have done it. Whoever waits for one that stands still, or is cut off, waits
without end, as in a collective; whoever waits for one that has ended is told by a broken connection, unless
that one's node says nothing any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from footplate_contracts.directives import Limits
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Reason
from footplate_contracts.rendezvous import SealedGeneration
from footplate_contracts.reports import CheckpointRecord, GenerationId
from footplate_trainer.checkpoint.layout import (
    CheckpointRetention,
    CommitMarker,
    GenerationStart,
    StepDirectory,
    list_standing,
)
from tests.support.simulation.memory import State
from tests.support.simulation.network import Network, Process

RESET: Final = 0.03  # seconds until a broken connection is noticed


class PeerLost(Exception):
    """The connection to another rank broke."""


class WriteFailed(Exception):
    """The volume refused a write."""


class NotFinite(Exception):
    """The loss is no number."""


class GpuBroken(Exception):
    """The driver calls a device broken."""


SAID: Final[Mapping[type[BaseException], tuple[Cause, Reason]]] = {
    PeerLost: (Cause.COMMUNICATION, Reason.PEER_LOST),
    WriteFailed: (Cause.STORAGE, Reason.STORAGE_FULL),
    GpuBroken: (Cause.NODE_LOST, Reason.GPU_ERROR),
    NotFinite: (Cause.NUMERICAL_DIVERGENCE, Reason.NOT_FINITE),
}
"""What an agent says of ranks that end with it."""


def failure_of(ranks: asyncio.Task[int], starved: bool, seconds: float) -> FailureReport | None:
    """What an agent says of how its ranks ended; None where all is well. `starved`: killed for memory."""
    if ranks.cancelled():
        cause, reason, message = Cause.COMMUNICATION, Reason.RANK_KILLED, "rank was killed by signal 9"
        if starved:
            cause, reason, message = Cause.OUT_OF_MEMORY, Reason.OUT_OF_MEMORY, "killed for memory"
        return FailureReport(cause=cause, reason=reason, message=message, time=seconds)
    error = ranks.exception()
    if error is None:
        return None
    if type(error) not in SAID:
        raise error
    cause, reason = SAID[type(error)]
    return FailureReport(cause=cause, reason=reason, message=str(error), time=seconds)


def shown(stored: Mapping[int, GenerationId]) -> dict[int, GenerationId]:
    """The history that the API shows: a row counts if no row of an earlier step has a newer generation."""
    found: dict[int, GenerationId] = {}
    newest = GenerationId(epoch=0, number=0)
    for step, generation in sorted(stored.items()):
        if not newest.is_newer_than(generation):
            found[step] = newest = generation
    return found


@dataclass(frozen=True)
class Sampling:
    """What ranks do before a step, now and then: a rollout, and scoring what it gave."""

    every: int  # steps that learn from one rollout
    tokens: int  # of each rank
    samples: int  # of each rank
    seconds: float  # of each of them


@dataclass(eq=False)
class Volume:
    """Where the checkpoints of one run are."""

    commits: dict[int, CheckpointRecord] = field(default_factory=dict)  # by step
    generations: dict[int, GenerationId] = field(default_factory=dict)  # that committed it
    states: dict[int, State] = field(default_factory=dict)  # what it holds
    begun: list[GenerationStart] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)  # commits of what another generation had committed
    damaged: set[int] = field(default_factory=set)  # steps whose bytes are not what was written
    full: bool = False
    writing: int = 0  # how many agents' ranks do so now
    _answers: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._answers.set()

    def hang(self) -> None:
        """Reads and writes wait from now on."""
        self._answers.clear()

    def mend(self) -> None:
        """It works again."""
        self.full = False
        self._answers.set()

    @property
    def newest(self) -> CheckpointRecord | None:
        """The durable checkpoint with the highest step."""
        return self.commits[max(self.commits)] if self.commits else None

    def trained(self, step: int) -> dict[int, GenerationId]:
        """Who trained each step of what is durable at `step`."""
        return dict(enumerate(self.states[step].past, start=1))

    def damage(self) -> None:
        """Change a byte of the newest checkpoint."""
        self.damaged |= {max(self.commits)} if self.commits else set()

    def find(self) -> CheckpointRecord | None:
        """The newest one that is as it was written; one that is not loses its marker."""
        while self.newest is not None and self.newest.step in self.damaged:
            self.damaged.discard(self.newest.step)
            del self.commits[self.newest.step]
        return self.newest

    async def answers(self) -> None:
        """Wait while it hangs."""
        await self._answers.wait()

    async def write(self) -> None:
        """Write a shard; raises WriteFailed."""
        await self.answers()
        if self.full:
            raise WriteFailed("No space left on device")

    def commit(
        self, state: State, generation: GenerationId, seconds: float, limits: Limits
    ) -> CheckpointRecord:
        """Create the commit marker, exclusively: a step that has one keeps it. Then remove what may go."""
        step = state.step
        known = self.generations.get(step)
        if step in self.commits and known != generation:
            self.twice.append(f"step {step} by {generation}, after {known}")
        if step not in self.commits:
            uri = f"/shared/checkpoints/step-{step}.e{generation.epoch}g{generation.number}"
            self.commits[step] = CheckpointRecord(step=step, uri=uri, time=seconds, generation=generation)
            self.generations[step] = generation
            self.states[step] = state
        kept = CheckpointRetention(
            limits.keep_last, limits.keep_every_steps, frozenset(limits.kept_steps or ())
        )
        markers = [self._marker(committed) for committed in self.commits]
        for gone in self.commits.keys() - kept.select_steps(markers):
            del self.commits[gone]
        self.commits[step] = self.commits[step].model_copy(update={"standing": list_standing(markers, kept)})
        return self.commits[step]

    def _marker(self, step: int) -> CommitMarker:
        directory = StepDirectory.of(step, self.generations[step]).name
        return CommitMarker(step=step, directory=directory, tokens=0, time=0.0)


@dataclass
class _Meeting:
    arrived: dict[int, tuple[asyncio.Future[list[Any]], Any]] = field(default_factory=dict)


class Group:
    """The ranks of one generation, those of an agent as one."""

    def __init__(self, sealed: SealedGeneration, network: Network, stepped: Callable[[int], None]) -> None:
        self.sealed = sealed
        self.network = network
        self.stepped = stepped  # told of each step that all have done
        self.step = -1
        self._indices = [member.agent.index for member in sealed.members]
        self._processes: dict[int, Process] = {}
        self._meetings: dict[Hashable, _Meeting] = {}
        network.listeners.append(self.look)

    def enter(self, index: int, process: Process) -> None:
        """The ranks of worker `index` are `process`, the only ones of this generation."""
        before = self._processes.get(index)
        assert before is None or not before.alive, f"{before} and {process} are the same worker"
        self._processes[index] = process

    async def meet(self, index: int, what: Hashable, value: Any = None) -> list[Any]:
        """Wait until all have come to `what`; their values, in the order of members. Raises PeerLost."""
        future = asyncio.get_running_loop().create_future()
        self._meetings.setdefault(what, _Meeting()).arrived[index] = (future, value)
        self.look()
        found: list[Any] = await future
        return found

    def look(self) -> None:
        """Let those go on who have all met, and tell those who can hear it of whom they lost."""
        for what, meeting in list(self._meetings.items()):
            if len(meeting.arrived) == len(self._indices) and self._all_connected():
                del self._meetings[what]
                values = [meeting.arrived[index][1] for index in self._indices]
                if isinstance(what, tuple) and what[0] == "step" and what[1] > self.step:
                    self.step = what[1]
                    self.stepped(self.step)
                for future, _ in meeting.arrived.values():
                    if not future.done():
                        future.set_result(values)
                continue
            for index, (future, _) in meeting.arrived.items():
                if not future.done() and self._broken(index):
                    asyncio.get_running_loop().call_later(RESET, _break, future)

    def _all_connected(self) -> bool:
        processes = [self._processes.get(index) for index in self._indices]
        if any(process is None or not process.alive or process.frozen for process in processes):
            return False
        places = [process.place for process in processes if process is not None]
        return all(self.network.reaches(place, other) for place in places for other in places)

    def _broken(self, index: int) -> bool:
        """Whether one of the others has ended, and the connection to it says so."""
        own = self._processes[index]
        return any(
            not process.alive and process is not own and self.network.reaches(process.place, own.place)
            for process in self._processes.values()
        )


def _break(future: asyncio.Future[Any]) -> None:
    if not future.done():
        future.set_exception(PeerLost("Connection closed by peer"))
