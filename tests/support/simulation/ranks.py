"""The ranks of one agent in one generation, taken as one: they load, step, save, and say so."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import ExitCode
from footplate_contracts.rendezvous import GrantRequest, SealedGeneration
from footplate_contracts.reports import GenerationId, GenerationRow, RankPhase, RankReport
from footplate_contracts.samples import LoggedSample
from footplate_elastic.agent import timing
from footplate_elastic.coordinator.service import Service
from footplate_elastic.protocol.unstored_rows import UnstoredRows
from footplate_trainer.checkpoint.layout import GenerationStart
from tests.support.simulation.conversation import Conversation
from tests.support.simulation.memory import State, newest
from tests.support.simulation.network import Process, Unreached, connected
from tests.support.simulation.training import GpuBroken, Group, NotFinite, PeerLost, WriteFailed

if TYPE_CHECKING:
    from tests.support.simulation.agent import Agent

START: Final = 0.1  # seconds until they look for the store
LOAD: Final = 0.5
RETRY: Final = 1.0  # until a save that failed is tried again, and ever later
LONGEST_RETRY: Final = 30.0


def _seen(saving: asyncio.Task[None]) -> None:
    """A rank that ends for another reason never asks what its save ended with.

    asyncio would log that whenever the task is collected, and a traceback that is written while a source is
    parsed breaks that off (SystemError: AST constructor recursion depth mismatch).
    """
    if not saving.cancelled():
        saving.exception()


class Ranks:
    """What they do; `process` is where they do it."""

    def __init__(self, agent: Agent, sealed: SealedGeneration, group: Group, process: Process) -> None:
        self._agent = agent
        self._sealed = sealed
        self._group = group
        self._process = process
        self._index = agent.identity.index
        self._leads = self._index == sealed.members[0].agent.index
        self._volume = agent.world.volume(agent.run_uid)
        self._past: tuple[GenerationId, ...] = ()  # who trained each step of the weights
        self._began = asyncio.get_running_loop().time()
        self._due = 0  # the step that is to be saved instead of the one that is being tried

    async def train(self) -> int:
        """The exit code; raises PeerLost, WriteFailed or NotFinite."""
        step, limits = await self._load()
        world, saving = self._agent.world, None
        if self._leads and step >= limits.steps and (found := self._volume.newest):
            self._agent.outbox.checkpoint(self._sealed.generation, found)
            self._agent.tell()
        while step < limits.steps:
            while not self._leased():
                await self._process.sleep(timing.LOOK)
            await self._sample(step)
            await self._process.sleep(world.step_seconds() * self._agent.slowness)
            if self._gpu_breaks():
                raise GpuBroken("CUDA error: uncorrectable ECC error encountered")
            if self._agent.diverges:
                self._agent.diverges = False
                raise NotFinite(f"the loss of step {step + 1} is nan")
            view = self._agent.view
            told = view.command, view.limits or limits
            said = await self._group.meet(self._index, ("step", step + 1), told)
            step += 1
            self._past = (*self._past, self._sealed.generation)
            self._report(RankPhase.COMPUTE, step, world.pace)
            if self._leads:
                generation = self._sealed.generation
                samples = [_sample(step, generation)] if world.sampling is not None else None
                self._give(
                    GenerationRow(generation=generation, metrics=_row(step, world.seconds()), samples=samples)
                )
            leave = any(command is Command.CHECKPOINT_AND_EXIT for command, _ in said)
            limits = max((told for _, told in said), key=_age)
            self._agent.reports.total_steps = limits.steps
            last = leave or step >= limits.steps
            if last or step % limits.every_steps == 0:
                if saving is not None:
                    self._due = step
                    if not saving.done():
                        self._report(RankPhase.CHECKPOINT, step, world.pace)
                    await saving
                saving = self._process.spawn(self._save(step, limits))
                saving.add_done_callback(_seen)
            if last:
                self._report(RankPhase.CHECKPOINT, step, world.pace)
            if saving is not None and (last or saving.done()):
                await saving
                saving = None
            if self._agent.run_config.checkpoint.memory is not None:
                await self._copy()  # of the last step, once it is durable: nobody has anything left to save
            if leave:
                return int(ExitCode.SUSPENDED)
        return int(ExitCode.SUCCESS)

    async def _sample(self, step: int) -> None:
        """The rollout before the step after `step`, if that begins with one: all wait for all, twice."""
        sampling = self._agent.world.sampling
        if sampling is None or step % sampling.every:
            return
        for phase, count in ((RankPhase.ROLLOUT, sampling.tokens), (RankPhase.SCORING, sampling.samples)):
            self._report(phase, step, None, 0)
            for finished in range(1, count + 1):
                await self._process.sleep(sampling.seconds * self._agent.slowness)
                self._report(phase, step, None, finished)
            self._report(RankPhase.COLLECTIVE, step, None)
            await self._group.meet(self._index, (phase, step))

    def _gpu_breaks(self) -> bool:
        """Whether a device of this node has worked for as long as it ever does."""
        after = self._agent.world.nodes.by_name[self._agent.place].breaks_after
        return after is not None and asyncio.get_running_loop().time() - self._began >= after

    def _leased(self) -> bool:
        """Whether no other generation can have begun in place of this one."""
        return len(self._sealed.members) > 1 or asyncio.get_running_loop().time() < self._agent.leased_until

    async def _load(self) -> tuple[int, NumberedLimits]:
        """The step to begin from, and how far to go."""
        self._report(RankPhase.STARTING, 0, None)
        await self._process.sleep(START)
        await self._find_store()
        await self._group.meet(self._index, "formed")
        self._report(RankPhase.LOADING, 0, None)
        await self._process.sleep(LOAD)
        await self._volume.answers()
        committed = self._volume.find()
        known = await self._group.meet(self._index, "loaded", committed.step if committed else 0)
        durable = min(known)
        state = await self._from_memory(durable) or self._volume.states.get(durable, State())
        start, self._past = state.step, state.past
        self._report(RankPhase.LOADING, start, None)
        limits = self._agent.view.limits or self._sealed.limits
        assert limits is not None
        if self._leads:
            self._agent.unstored = UnstoredRows()
            for row in state.rows:
                self._give(row)
        return start, limits

    async def _from_memory(self, durable: int) -> State | None:
        """The state of the newest copy, where that is not older than the `durable` step."""
        if self._agent.run_config.checkpoint.memory is None:
            return None
        memory, generation = self._agent.memory, self._sealed.generation
        found = newest(
            await self._group.meet(self._index, "held", dict(memory.shards)), self._volume.begun, durable
        )
        await self._group.meet(self._index, "found")
        memory.keep_only(found[0] if found else None)
        if self._leads:
            self._volume.begun.append(GenerationStart.of(found[0].step if found else durable, generation, ""))
        await self._group.meet(self._index, "begun")
        return found[1] if found else None

    async def _copy(self) -> None:
        """Into the memory of this node and of the next one."""
        said = await self._group.meet(self._index, ("rows", len(self._past)), self._agent.unstored.to_list())
        ranks = [member.agent.index for member in self._sealed.members]
        state = State(self._past, tuple(said[0]))
        self._agent.memory.keep(state, self._sealed.generation, len(ranks), ranks.index(self._index))

    def _give(self, row: GenerationRow) -> None:
        """A row for the run's history."""
        self._agent.unstored.add(row)
        self._agent.outbox.metrics(row.generation, row.metrics, row.samples or ())
        self._agent.tell()

    async def _find_store(self) -> None:
        host = self._sealed.members[0].agent
        store = self._agent.world.agent_at(host.address)
        try:
            await self._agent.network.call(self._process, store, connected, timing.STORE)
        except Unreached as error:
            raise PeerLost(f"the store of {host.pod_name} cannot be reached: {error}") from None

    async def _save(self, step: int, limits: NumberedLimits) -> None:
        """Save it, however often that is tried, or leave it out for a newer one that is due."""
        tries, state = 0, State(self._past, tuple(self._agent.unstored.to_list()))
        while not await self._written(step, tries):
            tries += 1
            if any(await self._group.meet(self._index, ("again", step, tries), self._due > step)):
                return
            resumes = self._agent.world.seconds() + backoff_seconds(tries, first=RETRY, longest=LONGEST_RETRY)
            while self._due <= step and self._agent.world.seconds() < resumes:
                await self._process.sleep(timing.LOOK)
        if self._leads and await self._grant(step):
            generation = self._sealed.generation
            record = self._volume.commit(state, generation, self._agent.world.seconds(), limits)
            self._agent.outbox.checkpoint(generation, record)
            self._agent.tell()
        await self._group.meet(self._index, ("committed", step))

    async def _written(self, step: int, tries: int) -> bool:
        """Whether all ranks wrote their parts in this try; raises WriteFailed where none would ever."""
        self._volume.writing += 1
        try:
            await self._process.sleep(self._agent.world.save_seconds)
            await self._volume.write()
            failure = None
        except WriteFailed as error:
            failure = error
        finally:
            self._volume.writing -= 1
        wrote = all(await self._group.meet(self._index, ("saved", step, tries), failure is None))
        if failure is not None and self._volume.newest is None:
            raise failure
        return wrote

    async def _grant(self, step: int) -> bool:
        """Whether this generation may commit; waits for a coordinator as long as it runs."""
        conversation, generation = Conversation(self._agent), self._sealed.generation
        request = GrantRequest(generation=generation, step=step)

        async def ask(service: Service) -> bool | None:
            grant = service.grant(request)
            return grant.granted if grant is not None else None

        while (running := self._agent.running) is not None and running.generation == generation:
            with suppress(Unreached):
                granted = await conversation.ask(ask, timing.ANSWER)
                if granted is not None:
                    return granted
            await asyncio.sleep(timing.LONGEST_PAUSE)
        return False

    def _report(
        self, phase: RankPhase, step: int, seconds: float | None, progress: int | None = None
    ) -> None:
        if self._process is not self._agent.ranks:
            return
        first = next(
            member.first_rank for member in self._sealed.members if member.agent.index == self._index
        )
        for local in range(self._agent.identity.local_world_size):
            self._agent.reports.add_report(
                RankReport(
                    rank=first + local,
                    local_rank=local,
                    step=step,
                    phase=phase,
                    step_seconds=seconds,
                    progress=progress,
                )
            )
        self._agent.tell()


def _row(step: int, seconds: float) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=seconds,
        loss=10.0 / (1.0 + step),
        gradient_norm=1.0,
        learning_rate=0.001,
        tokens=512 * step,
        tokens_per_second=100.0,
        sample_digest=f"{step:016x}",
    )


def _sample(step: int, generation: GenerationId) -> LoggedSample:
    """What a step shows, where it has samples; it says who trained it."""
    return LoggedSample(prompt=step, prompt_text="who?", answer_text=str(generation), tokens=1)


def _age(limits: NumberedLimits) -> tuple[int, int]:
    return limits.epoch, limits.number
