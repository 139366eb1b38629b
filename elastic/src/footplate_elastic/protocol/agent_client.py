"""How a rank speaks with whoever started it, without knowing who that is.

Under Footplate an agent listens; under torchrun or alone nobody does. The
training loop must read the same in both cases and must never wait for the
network in the middle of a step, so it talks to this protocol: reports are
handed over and forgotten, the command is a cached value, and only a grant,
asked for by the thread that writes checkpoints, may block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from footplate_contracts.directives import Command, NumberedLimits
from footplate_contracts.names import Env
from footplate_contracts.reports import CheckpointRecord, Diagnosis, RankReport, StepMetrics
from footplate_elastic.protocol.socket_client import connect


class AgentClient(Protocol):
    """What a rank tells its agent, and what it may ask."""

    def report(self, report: RankReport) -> None:
        """Replace what is known of this rank; never blocks."""

    def metrics(self, row: StepMetrics) -> None:
        """Add a row to the metric history; never blocks."""

    def checkpoint(self, record: CheckpointRecord) -> None:
        """Announce a checkpoint whose commit marker exists; never blocks."""

    def grant(self, step: int) -> bool:
        """Whether this generation may commit its checkpoint of `step`; blocks until it is known."""

    def command(self) -> Command:
        """The newest command known here; a cached value."""

    def limits(self) -> NumberedLimits | None:
        """The newest limits known here, a cached value; None where the RunConfig alone says them."""

    def listen(self, diagnosed: Callable[[Diagnosis], None]) -> None:
        """Have `diagnosed` called, from another thread, for every question to this rank."""

    def close(self) -> None:
        """Hand over what is still queued, and end."""


class StandaloneClient:
    """Nobody listens: every commit is granted, no command ever comes."""

    def report(self, report: RankReport) -> None:
        """Dropped."""

    def metrics(self, row: StepMetrics) -> None:
        """Dropped."""

    def checkpoint(self, record: CheckpointRecord) -> None:
        """Dropped."""

    def grant(self, step: int) -> bool:
        """Always: there is one generation only."""
        return True

    def command(self) -> Command:
        """Never any."""
        return Command.NONE

    def limits(self) -> NumberedLimits | None:
        """Those of the RunConfig hold to the end."""
        return None

    def listen(self, diagnosed: Callable[[Diagnosis], None]) -> None:
        """Nobody asks."""

    def close(self) -> None:
        """Nothing is queued."""


def open_client(environment: Mapping[str, str]) -> AgentClient:
    """The client of the agent whose socket is announced in `environment`, else a standalone one."""
    path = environment.get(Env.RANK_LINK)
    if path is None:
        return StandaloneClient()
    return connect(path)
