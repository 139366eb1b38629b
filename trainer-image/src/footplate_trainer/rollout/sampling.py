"""Distribution of a rollout's answers over the ranks that sample them.

The loop uses a `Sampler` and no engine: it passes requests, receives answers one by one, and may stop between
two passes. Several ranks may compute one answer together; then one of them reports it.
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
    """A function that samples with fixed weights."""

    def __call__(self, requests: Sequence[Request], between: Between) -> Iterator[Answer]:
        """Yield an answer to each of this copy's `requests`, as it ends; equal on all ranks of the copy.

        Yields fewer if `between` returns True, which is called on the leading rank. Collective over all
        copies until the first answer. If one rank has no memory for an answer, all raise: UserMistake if
        it can never have it, NoRoomNow if others have taken it.
        """


class Sampler(Protocol):
    """The ranks of a run that sample answers, in copies of the network."""

    @property
    def copies(self) -> int:
        """Number of copies that sample, each for different requests."""

    @property
    def copy(self) -> int:
        """Index of the copy that this rank is part of."""

    @property
    def leads(self) -> bool:
        """True if this rank reports the copy's answers."""

    def weights(self, step: int) -> AbstractContextManager[Draw]:
        """Lay out the current weights, those after `step`, for sampling; collective at both ends."""


class EngineSampler:
    """A sampler with the weights in training, laid out by `rollout.parallelism`."""

    def __init__(
        self,
        config: RunConfig,
        settings: RolloutSettings,
        model: ParallelModel,
        world: World,
        stop: StopRule,
        memory: Callable[[], Memory] | None = None,
    ) -> None:
        """Plan the layout; `memory` returns this rank's memory, by default the measured one. Collective."""
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
        """Return room for the keys and values of all requests, or less if configured or if memory is short.

        None without requests. Ranks of a copy have equal requests: the rank with the least memory left
        decides. Raises UserMistake or NoRoomNow if an answer does not fit. Collective.
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
