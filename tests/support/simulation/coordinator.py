"""A coordinator's process: the real state machine and the real long-polls, without the sockets."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from footplate_contracts.coordinator_state import CoordinatorState
from footplate_contracts.directives import Directives
from footplate_contracts.names import Env
from footplate_contracts.reports import TelemetryBatch
from footplate_elastic.coordinator.__main__ import new_coordinator
from footplate_elastic.coordinator.config import CoordinatorConfig
from footplate_elastic.coordinator.service import Service
from footplate_elastic.coordinator.timing import GATHER, Timing
from footplate_operator.errors import CoordinatorUnreachable
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.coordinator_client import (
    ANSWER_SECONDS,
    COMMAND_SECONDS,
    BaseCoordinatorClient,
    CoordinatorEndpoint,
)
from tests.support.simulation.conversation import environment
from tests.support.simulation.network import Process, Unreached, connected

if TYPE_CHECKING:
    from tests.support.simulation.world import Simulation

START: Final = 0.6  # seconds until it listens
TICK: Final = 0.1  # coarser than in earnest, which only makes it slower to see


class CoordinatorProcess(Process):
    """The main process of a coordinator pod; nobody is answered before it listens."""

    def __init__(self, world: Simulation, pod: Json, place: str) -> None:
        super().__init__(world.network, place, pod["metadata"]["name"])
        self.world = world
        self.run_uid: str = pod["metadata"]["labels"]["footplate.dev/run-uid"]
        variables = environment(pod)
        config = CoordinatorConfig.model_construct(
            outline=world.run_config(pod),
            told=Directives.model_validate_json(variables[Env.DIRECTIVES]),
            epoch=int(variables[Env.COORDINATOR_EPOCH]),
            api_url=variables.get(Env.API_URL, ""),
        )
        clock = asyncio.get_running_loop().time
        self._make: Callable[[], Service] = lambda: Service(
            new_coordinator(config, Timing(), clock(), lambda: world.seconds(place)), lambda: None, clock
        )
        self._service: Service | None = None
        self._clock: asyncio.Task[Any] | None = None
        self._terminated = asyncio.Event()

    @property
    def listens(self) -> bool:
        """Whether it answers by now."""
        return self._service is not None

    @property
    def service(self) -> Service:
        """What it answers; raises Unreached before it listens."""
        if self._service is None:
            raise Unreached("it does not listen yet")
        return self._service

    def begin(self, done: Callable[[int], None]) -> None:
        """Run; `done` hears the exit code."""

        async def whole() -> None:
            await self.sleep(START)
            self._service = self._make()
            self._clock = self.spawn(self._service.keep_time(TICK))
            shipping = self.spawn(self._ship(self._service))
            await self._terminated.wait()
            self._clock.cancel()
            service, self._service = self._service, None  # it answers no more, and hands over what it has
            while service.coordinator.telemetry:
                await self.sleep(GATHER)
            await self.sleep(0.1)
            shipping.cancel()
            done(0)

        self.spawn(whole())

    def terminate(self) -> None:
        """SIGTERM."""
        self._terminated.set()

    def freeze(self) -> None:
        """Its clock stands still with it."""
        super().freeze()
        if self._clock is not None:
            self._clock.cancel()

    def thaw(self) -> None:
        """It notices that it did not run."""
        super().thaw()
        if self._service is not None and self.alive:
            self._clock = self.spawn(self._service.keep_time(TICK))

    async def _ship(self, service: Service) -> None:
        buffer = service.coordinator.telemetry
        while True:
            await self.sleep(GATHER)
            batch = buffer.batch(self.run_uid, service.epoch)
            if batch is not None and self.world.api_works:
                self.world.store(self.run_uid, TelemetryBatch.model_validate_json(batch.text))
                buffer.mark_stored(batch.count, batch.given_up)


class SimulatedClient(BaseCoordinatorClient):
    """The operator's way to a coordinator."""

    def __init__(self, world: Simulation, operator: Process, endpoint: CoordinatorEndpoint) -> None:
        self._world = world
        self._operator = operator
        self.endpoint = endpoint

    async def state(self, after: int, wait: float) -> CoordinatorState:
        return await self._ask(lambda service: service.state(after, wait), wait + ANSWER_SECONDS)

    async def send_directives(self, directives: Directives) -> CoordinatorState:
        async def tell(service: Service) -> CoordinatorState:
            return service.set_directives(directives)

        answer = await self._ask(tell, COMMAND_SECONDS)
        self._world.called()
        return answer

    async def _ask(self, work: Callable[[Service], Any], seconds: float) -> CoordinatorState:
        process = self._world.coordinator_at(self.endpoint.address)
        try:
            if process is None or process.service.epoch != self.endpoint.epoch:
                raise Unreached("another process has this address")
            service = process.service
            call = self._world.network.call
            await call(self._operator, process, connected, COMMAND_SECONDS)
            answer = await call(self._operator, process, lambda: work(service), seconds)
        except Unreached as error:
            raise CoordinatorUnreachable(str(error), error.refused) from None
        return CoordinatorState.model_validate_json(answer.model_dump_json(by_alias=True))
