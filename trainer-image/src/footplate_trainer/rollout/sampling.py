"""Who draws which answers of a rollout.

The loop knows a `Sampler` and no engine: requests go in, answers come one by one, and between two passes it
may stop. Several ranks may compute one answer together; then one of them hands it on.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

import torch

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Precision
from footplate_planning.config import model_shape
from footplate_planning.generation import blocks_of_room, cache_blocks, too_small
from footplate_trainer.errors import NoRoomNow, UserMistake
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.passes import EngineRoom
from footplate_trainer.generation.requests import Answer, Request, StopRule
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.apply import ParallelModel
from footplate_trainer.parallel.rollout import RolloutRanks
from footplate_trainer.parallel.room import Memory, memory_of
from footplate_trainer.parallel.world import World
from footplate_trainer.rollout.settings import RolloutSettings

Between = Callable[[int], bool]
"""Told between two passes how many tokens were drawn here; whether to stop."""


class Draw(Protocol):
    """Draws with weights that stand."""

    def __call__(self, requests: Sequence[Request], between: Between) -> Iterator[Answer]:
        """An answer to each of `requests`, those of this copy, as they end; all of its ranks give the same.

        Fewer come where `between` says stop, which is asked on the rank that leads. Collective over all
        copies until the first answer. Where one rank has no room for an answer all raise: UserMistake where
        it cannot have it, NoRoomNow where others have taken it.
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
        memory: Callable[[], Memory] | None = None,
    ) -> None:
        """`memory` says how much of it this rank has; by default as it is. Collective."""
        assert config.rollout is not None
        self._settings, self._stop, self._module = settings, stop, model.module
        self._world = world
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._memory = memory or (lambda: memory_of(world.device, ranks))
        self._shape, self._cache_tokens = model_shape(config), config.rollout.cache_tokens
        dtype = torch.bfloat16 if config.training.precision is Precision.BF16 else torch.float32
        self._number_bytes = dtype.itemsize
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
                room = self._room(requests)
                if room is None:
                    return
                settings, rule = self._settings, self._settings.rule
                engine = Engine(model, room, rule, self._stop, seed=settings.seed, step=step)
                yield from engine.answers(requests, lambda: between(engine.drawn))

            yield draw

    def _room(self, requests: Sequence[Request]) -> EngineRoom | None:
        """Keys and values of all that are under way; fewer where that is asked for, or memory is short.

        None without requests. Ranks of a copy have equal ones: the rank that has least left decides.
        Collective.
        """
        shape, topology = self._shape, self._ranks.copy.grid.topology
        lengths = (min(len(asked.tokens) + asked.most, shape.context) for asked in requests)
        longest, most = max(lengths, default=0), None
        if self._cache_tokens is None:
            told = agree.gather((self._memory(), longest), self._world.everybody)
            free = min(memory.left for memory, _ in told)
            possible = min(max(memory) for memory, _ in told)
            needed = max(tokens for _, tokens in told)
            if mistake := too_small(shape, topology, self._number_bytes, possible, needed, at_most=True):
                raise UserMistake(mistake)
            if short := too_small(shape, topology, self._number_bytes, free, needed):
                raise NoRoomNow(f"{short}; it could have {possible:,}, but others have taken it")
            most = blocks_of_room(shape, topology, self._number_bytes, free, self._world.device.type)
        return (
            EngineRoom(cache_blocks(len(requests), longest, self._cache_tokens, most)) if requests else None
        )
