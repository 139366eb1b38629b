"""Who draws which answers of a rollout.

The loop knows a `Sampler` and no engine: requests go in, answers come one by one, and between two passes it
may stop. Several ranks may compute one answer together; then one of them hands it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Precision
from footplate_planning.config import model_shape
from footplate_planning.generation import cache_blocks
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.passes import EngineRoom
from footplate_trainer.generation.requests import Answer, Request, StopRule
from footplate_trainer.parallel.apply import ParallelModel
from footplate_trainer.parallel.rollout import RolloutRanks
from footplate_trainer.parallel.world import World
from footplate_trainer.rollout.settings import RolloutSettings

Between = Callable[[int], bool]
"""Told between two passes how many tokens were drawn here; whether to stop."""


class Draw(Protocol):
    """Draws with weights that stand."""

    def __call__(self, requests: Sequence[Request], between: Between) -> Iterator[Answer]:
        """An answer to each of `requests`, those of this copy, as they end; all of its ranks give the same.

        Fewer come where `between` says stop, which is asked on the rank that leads.
        """


class Sampler(Protocol):
    """The ranks of a run as they draw answers, in copies of the network."""

    @property
    def copies(self) -> int:
        """So many draw, each other requests."""

    @property
    def copy(self) -> int:
        """The one that this rank computes with."""

    @property
    def leads(self) -> bool:
        """Whether it is this rank that hands the copy's answers on."""

    def weights(self, step: int) -> AbstractContextManager[Draw]:
        """The weights of now, those after `step`, laid out to draw with; collective at both ends."""


class EngineSampler:
    """Draws with the weights that train, laid out as `rollout.parallelism` says."""

    def __init__(
        self,
        config: RunConfig,
        settings: RolloutSettings,
        model: ParallelModel,
        world: World,
        stop: StopRule,
    ) -> None:
        """Collective."""
        assert config.rollout is not None
        self._settings, self._stop, self._module = settings, stop, model.module
        self._shape, self._cache_tokens = model_shape(config), config.rollout.cache_tokens
        dtype = torch.bfloat16 if config.training.precision is Precision.BF16 else torch.float32
        self._ranks = RolloutRanks(
            self._shape,
            model.grid.topology,
            config.rollout.parallelism,
            world,
            dtype,
            batch_invariant=config.rollout.batch_invariant,
        )

    @property
    def copies(self) -> int:
        """See Sampler."""
        return self._ranks.copies

    @property
    def copy(self) -> int:
        """See Sampler."""
        return self._ranks.copy.number

    @property
    def leads(self) -> bool:
        """See Sampler."""
        return self._ranks.copy.leads

    @contextmanager
    def weights(self, step: int) -> Iterator[Draw]:
        """See Sampler."""
        with self._ranks.weights(self._module) as model:

            def draw(requests: Sequence[Request], between: Between) -> Iterator[Answer]:
                if not requests:
                    return
                settings = self._settings
                room, rule = self._room(requests), settings.rule
                engine = Engine(model, room, rule, self._stop, seed=settings.seed, step=step)
                yield from engine.answers(requests, lambda: between(engine.drawn))

            yield draw

    def _room(self, requests: Sequence[Request]) -> EngineRoom:
        """Keys and values of all that are under way at once; fewer where that is asked for."""
        longest = max(min(len(asked.tokens) + asked.most, self._shape.context) for asked in requests)
        return EngineRoom(cache_blocks(len(requests), longest, self._cache_tokens))
