"""Reports this rank's step and current phase to the agent."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from footplate_contracts.reports import RankPhase, RankReport
from footplate_elastic.protocol.agent_client import AgentClient
from footplate_trainer.loop.callbacks import Callback, TrainedStep
from footplate_trainer.loop.limits import RunLimits
from footplate_trainer.loop.stepper import StepFlags
from footplate_trainer.parallel.world import DistributedContext

PROGRESS: Final = 0.5  # seconds between two words of progress in one phase


class Reporter(Callback):
    """Reporter of a rank's phase; each change is a heartbeat, and the phase determines the hang timeout.

    During a rollout, and while samples are scored, each further token or sample is a heartbeat too.
    """

    def __init__(
        self, agent: AgentClient, world: DistributedContext, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.step = 0  # the last finished one
        self.tokens = 0  # valid ones, of the whole world, since step 0
        self.data: str | None = None  # digest of the shards that are read, once they are open
        self.answers: str | None = None  # of manifest.json of the data set that was written
        self._limits: RunLimits | None = None  # once they are known
        self._agent = agent
        self._world = world
        self._clock = clock
        self._phase: RankPhase | None = None  # told last
        self._told = 0.0  # when

    def set_start(self, step: int, tokens: int, limits: RunLimits) -> None:
        """Set the progress made before this generation, and the limits; report the loading phase."""
        self.step, self.tokens, self._limits = step, tokens, limits
        self.report_phase(RankPhase.LOADING)

    def report_phase(
        self, phase: RankPhase, seconds: float | None = None, *, progress: int | None = None
    ) -> None:
        """Report this rank's current phase; `seconds` of the step that has just ended.

        `progress` counts what it has finished in a rollout (tokens) or in scoring (samples). Call it as often
        as that changes: within one phase it is reported twice a second at most.
        """
        now = self._clock()
        if progress is not None and phase is self._phase and now - self._told < PROGRESS:
            return
        self._phase, self._told = phase, now
        self._agent.report(
            RankReport(
                rank=self._world.rank,
                local_rank=self._world.local_rank,
                step=self.step,
                phase=phase,
                step_seconds=seconds,
                total_steps=self._limits.steps if self._limits else None,
                progress=progress,
                data=self.data,
                answers=self.answers,
            )
        )

    def before_data(self, step: int) -> None:
        """Report the data phase separately from computing: only one of the two may take long."""
        self.report_phase(RankPhase.DATA)

    def before_compute(self, step: int) -> StepFlags:
        self.report_phase(RankPhase.COMPUTE)
        return StepFlags()

    def after_step(self, step: TrainedStep) -> None:
        self.step = step.number
        self.tokens += step.result.valid_tokens
        # A step is not held to be slow for its rollout, nor one that hangs for a slow one.
        self.report_phase(RankPhase.COMPUTE, step.training_seconds)
