"""An agent with its ranks, as far as others see it: the protocol, the pace, the exit codes.

What it makes of the coordinator's answers, what it keeps until it is durable, and what it says of its
ranks are the agent's own modules; its threads are tasks here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.connectivity_probes import ConnectivityProbe, ConnectivityProbeResult
from footplate_contracts.directives import Command
from footplate_contracts.failures import FailureReport
from footplate_contracts.names import Cause, Env, ExitCode
from footplate_contracts.rendezvous import (
    AgentIdentity,
    Heartbeat,
    HeartbeatResponse,
    JoinRequest,
    LeaveRequest,
    SealedGeneration,
)
from footplate_contracts.reports import GenerationId
from footplate_elastic.agent import timing
from footplate_elastic.agent.coordinator_view import CoordinatorView
from footplate_elastic.agent.errors import SIGTERM_EXIT
from footplate_elastic.agent.outbox import Outbox
from footplate_elastic.agent.rank_reports import RankReports
from footplate_elastic.coordinator.service import Service
from footplate_elastic.protocol import wire
from footplate_elastic.protocol.unstored_rows import UnstoredRows
from footplate_elastic.protocol.wire import AgentRefusal
from footplate_operator.runtime.kinds import Json
from tests.support.simulation.conversation import Conversation, Directory, answer_probe, environment, explain
from tests.support.simulation.memory import NodeMemory
from tests.support.simulation.network import Process, Unreached
from tests.support.simulation.ranks import Ranks
from tests.support.simulation.training import failure_of

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

Answer = TypeVar("Answer")
REGISTER: Final = 0.3  # seconds until an agent speaks
IMPORT: Final = 1.5  # until its zygote can fork
STOP: Final = 0.1  # for ranks to end
_KEEPALIVE: Final = 11.0  # until the kernel gives an idle connection up


class Ended(Exception):
    """The agent ends with `code`."""

    def __init__(self, code: int) -> None:
        super().__init__(str(code))
        self.code = code


class Agent(Process):
    """The main process of a worker pod; `ended` is its exit code."""

    def __init__(self, world: Simulation, pod: Json, place: str) -> None:
        name = pod["metadata"]["name"]
        super().__init__(world.network, place, name)
        self.world = world
        variables = environment(pod)
        self.run_uid: str = pod["metadata"]["labels"]["footplate.dev/run-uid"]
        self.run_config = world.run_config(pod)
        self.identity = AgentIdentity(
            index=int(variables[Env.WORKER_INDEX]),
            incarnation=int(variables[Env.WORKER_INCARNATION]),
            pod_name=name,
            pod_uid=pod["metadata"]["uid"],
            node_name=place,
            address=pod["status"]["podIP"],
            local_world_size=self.run_config.world.processes_per_node,
        )
        self.directory = Directory(variables.get(Env.COORDINATOR_ADDRESS, ""))
        self.view = CoordinatorView()
        self.outbox = Outbox()
        self.unstored = UnstoredRows()  # of its ranks
        self.memory = NodeMemory()
        self.reports = RankReports(self.run_config.training.steps)
        self.running: SealedGeneration | None = None
        self.ranks: Process | None = None
        self.slowness = 1.0  # of its ranks: their seconds for one of the others
        self.diverges = False  # its ranks' next loss is no number
        self._out_of_memory = False
        self._imports_again = False
        self._last: GenerationId | None = None
        self._failure: FailureReport | None = None
        self._news = asyncio.Event()
        self._wake = asyncio.Event()
        self._terminated = False
        self._probed: ConnectivityProbeResult | None = None
        self._answered = 0.0  # when a coordinator answered last
        self.leased_until = 0.0  # a generation of one begins no step later

    def begin(self, done: Callable[[int], None]) -> None:
        """Run; `done` hears the exit code."""

        async def whole() -> None:
            try:
                await self._main()
            except Ended as end:
                done(end.code)

        self.spawn(whole())

    def terminate(self) -> None:
        """SIGTERM: it ends, once what its ranks did is saved."""
        self._terminated = True
        self._wake.set()
        self._news.set()

    def kill(self) -> None:
        """Its ranks die with it."""
        super().kill()
        if self.ranks is not None:
            self.ranks.kill()

    def kill_ranks(self) -> None:
        """SIGKILL one of its ranks; it ends the others."""
        assert self.ranks is not None
        self.ranks.kill()

    def starve_ranks(self) -> None:
        """The kernel kills one of them for memory."""
        self._out_of_memory = True
        self.kill_ranks()

    def kill_zygote(self) -> None:
        """What imports the trainer is killed: another one begins."""
        self._imports_again = True

    def tell(self) -> None:
        """There is something new to send."""
        self._news.set()

    def addresses(self, first: str) -> list[str]:
        """Where a coordinator may be, best first."""
        known = [first, self.directory.good, *self.world.resolve(self.run_uid)]
        return list(dict.fromkeys(address for address in known if address))

    # -- the main thread -----------------------------------------------------------------

    async def _main(self) -> None:
        await self.sleep(REGISTER)
        for talk in (self._beat(), self._tell(), self._stay_connected()):
            self.spawn(talk)
        if refusal := self.world.nodes.by_name[self.place].find_refusal(self.world.seconds(self.place)):
            await explain(self, self._word(news=True), refusal)
            await self._end(int(ExitCode.STALE))
        await self._unless_terminated(self._import())
        while True:
            sealed = await self._unless_terminated(self._join())
            await self._work(sealed)

    async def _import(self) -> None:
        while True:
            self._imports_again = False
            await self.sleep(IMPORT)
            if not self._imports_again:
                return
            await self.sleep(timing.ZYGOTE_PAUSE)

    async def _unless_terminated(self, work: Awaitable[Answer]) -> Answer:
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                if self._terminated:
                    await self._end(SIGTERM_EXIT)
                waiting = asyncio.ensure_future(self._wake.wait())
                await asyncio.wait({task, waiting}, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if not task.done() and not self._terminated:
                    self._wake.clear()
                    await asyncio.wait({task}, timeout=0.01)
            return task.result()
        finally:
            task.cancel()

    async def _end(self, code: int) -> None:
        if code in (ExitCode.SUCCESS, ExitCode.SUSPENDED):
            deadline = asyncio.get_running_loop().time() + timing.HAND_OVER
            while self.view.received < self.outbox.sequence and asyncio.get_running_loop().time() < deadline:
                self._news.set()
                await self.sleep(0.1)
        await self._leave()
        if self.ranks is not None:
            self.ranks.kill()
        await self.sleep(STOP)
        raise Ended(code)

    async def _leave(self) -> None:
        async def leave(service: Service) -> None:
            service.leave(LeaveRequest(**self.identity.model_dump()))

        with suppress(Unreached):
            await Conversation(self).ask(leave, timing.FAREWELL)

    async def _join(self) -> SealedGeneration:
        self.running = None
        self.reports.clear()
        port = self.world.next_port()
        request = JoinRequest(
            agent=self.identity, store_port=port, last_generation=self._last, failure=self._failure
        )
        conversation, failures = Conversation(self), 0
        while True:
            try:
                found = await conversation.ask(
                    lambda service: service.join(request), wire.JOIN_SECONDS + timing.ANSWER
                )
            except Unreached:
                failures += 1
                await self._pause(failures)
                continue
            failures = 0
            if isinstance(found, SealedGeneration):
                break
            if found in (AgentRefusal.EVICTED, AgentRefusal.CLOSED):
                await self._end(self._exit_code())
            if found is not None:
                await self.sleep(timing.LONGEST_PAUSE)
        self.identity = next(m.agent for m in found.members if m.agent.address == self.identity.address)
        self.running, self._last, self._failure = found, found.generation, None
        self.view.update_limits(found.limits)
        if found.limits:
            self.reports.total_steps = found.limits.steps
        self._news.set()
        return found

    def _exit_code(self) -> int:
        if self.view.evicted or not self.view.closed:
            return int(ExitCode.STALE)
        limits, last = self.view.limits, self.reports.total_steps
        finished = self.reports.finished and not (limits and last is not None and last < limits.steps)
        suspended = self.view.command is Command.CHECKPOINT_AND_EXIT and not finished
        return int(ExitCode.SUSPENDED if suspended else ExitCode.SUCCESS)

    async def _work(self, sealed: SealedGeneration) -> None:
        """Ranks of `sealed`, until they end or have to."""
        ranks = self.ranks = Process(self.network, self.place, f"ranks of {self.name} in {sealed.generation}")
        group = self.world.group(self.run_uid, sealed)
        group.enter(self.identity.index, ranks)
        task = ranks.spawn(Ranks(self, sealed, group, ranks).train())
        told = False
        while True:
            if told:
                await self.sleep(timing.LOOK)
            else:
                await asyncio.wait({task}, timeout=timing.LOOK)
                await self.going()
            if task.done() and not told:
                failure = self._failure_of(task)
                if failure is not None and failure.cause is Cause.NODE_LOST:
                    await explain(self, self._word(news=True), failure)
                    await self._end(int(ExitCode.GPU_ERROR))
                if failure is not None:
                    self._failure = failure
                    break
                self.reports.end(task.result() == ExitCode.SUSPENDED, asyncio.get_running_loop().time())
                self._news.set()
                told = True
            if self.view.closed:
                ranks.kill()
                await self._end(self._exit_code())
            silent = asyncio.get_running_loop().time() - self._answered >= timing.UNANSWERED
            if self.view.must_rejoin(sealed.generation) or (self._terminated and silent):
                break
        await self.sleep(STOP)
        ranks.kill()
        if self._terminated:
            await self._end(SIGTERM_EXIT)

    def _failure_of(self, task: asyncio.Task[int]) -> FailureReport | None:
        starved = task.cancelled() and self._out_of_memory
        self._out_of_memory = self._out_of_memory and not starved
        return failure_of(task, starved, self.world.seconds(self.place))

    # -- its other threads ---------------------------------------------------------------

    async def _beat(self) -> None:
        conversation, failures = Conversation(self), 0
        while True:
            word, known = self._word(news=False), self.view.answer_token
            failures = await self._exchange(conversation, word, known, wire.HEARTBEAT_SECONDS, failures)

    async def _tell(self) -> None:
        conversation, failures = Conversation(self), 0
        while True:
            await self._news.wait()
            self._news.clear()
            word = self._word(news=True)
            failures = await self._exchange(conversation, word, "", 0.0, failures)
            if failures:
                self._news.set()
                continue
            self.reports.mark_sent(word.ranks)
            if self.view.received < self.outbox.sequence and word.outbox:
                self._news.set()
            await self.sleep(timing.NEWS)

    async def _exchange(
        self, conversation: Conversation, word: Heartbeat, known: str, wait: float, failures: int
    ) -> int:
        """So many failures in a row now."""
        asked = asyncio.get_running_loop().time()
        try:
            answer = await conversation.ask(
                lambda service: service.heartbeat(word, known, wait), timing.ANSWER
            )
        except Unreached:
            await self._pause(failures + 1)
            return failures + 1
        self._answered = asyncio.get_running_loop().time()
        self.leased_until = asked + wire.LEASE_SECONDS
        self._take(answer)
        self.outbox.record_answer(self.view.received, word.overflowed)
        return 0

    def _take(self, answer: HeartbeatResponse) -> None:
        self.view.merge_answer(answer)
        if (stored := self.outbox.acknowledge(answer.acknowledged)) is not None:
            self.unstored.remove_stored(stored)
        asked = self.view.next_probe()
        if asked is not None:
            self.spawn(self._probe(*asked))

    async def _probe(self, epoch: int, asked: ConnectivityProbe) -> None:
        self._probed = await answer_probe(self, epoch, asked)
        self._news.set()

    async def _stay_connected(self) -> None:
        failures = 0
        while True:
            hold = asyncio.ensure_future(Conversation(self).ask(self._hold, float("inf")))
            epoch = self.directory.epoch
            try:
                while not hold.done():
                    await asyncio.wait({hold}, timeout=_KEEPALIVE)
                    if self.directory.epoch > epoch:
                        epoch = self.directory.epoch
                        break
                    if not hold.done() and not self._way_open():
                        break
                if hold.done():
                    hold.result()
                failures = 0
            except Unreached:
                failures += 1
                await self._pause(failures)
            finally:
                hold.cancel()

    def _way_open(self) -> bool:
        process = self.world.coordinator_at(self.directory.good)
        return process is not None and self.network.reaches(self.place, process.place)

    async def _hold(self, service: Service) -> None:
        agent = self.identity
        if service.connect(agent) is not None:
            raise Unreached("refused")
        try:
            await asyncio.Event().wait()
        finally:
            service.disconnect(agent)

    def _word(self, news: bool) -> Heartbeat:
        oldest = self.outbox.oldest
        outbox = self.outbox.pending_items(self.view.received) if news else []
        running = self.running
        generation = running.generation if running else None
        known = generation is not None and self.view.is_confirmed(generation)
        sent = max(self.view.received, outbox[-1].sequence if outbox else 0)
        now = asyncio.get_running_loop().time()
        told = self.reports.may_send_end(sent >= self.outbox.sequence, now)
        return Heartbeat(
            agent=self.identity,
            generation=generation,
            members=running.members if running and not known else [],
            ranks=self.reports.list_unsent() if news or not known else [],
            total_steps=self.reports.total_steps,
            outbox=outbox,
            outbox_oldest=oldest,
            overflowed=self.outbox.overflowed,
            overflowed_told=self.outbox.overflowed_told,
            finished=self.reports.finished and told,
            suspended=self.reports.suspended and told,
            leaving=self._terminated,
            probed=self._probed,
        )

    async def _pause(self, failures: int) -> None:
        await self.sleep(backoff_seconds(failures, first=timing.FIRST_PAUSE, longest=timing.LONGEST_PAUSE))
