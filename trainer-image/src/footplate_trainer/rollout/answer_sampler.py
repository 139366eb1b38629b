"""Distribution of a rollout's answers over the ranks that sample them.

The loop uses a `AnswerSampler` and no engine: it passes requests, receives answers one by one, and may stop
between two passes. Several ranks may compute one answer together; then one of them reports it.
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
from footplate_planning.kv_cache import available_blocks, cache_blocks, memory_shortage
from footplate_trainer.errors import TransientOutOfMemory, UserMistake
from footplate_trainer.generation.engine import Engine
from footplate_trainer.generation.forward_passes import EngineLimits
from footplate_trainer.generation.requests import GeneratedAnswer, GenerationRequest, StopRule
from footplate_trainer.parallel import object_collectives
from footplate_trainer.parallel.device_memory import AvailableMemory, get_available_memory
from footplate_trainer.parallel.parallel_model import ParallelModel
from footplate_trainer.parallel.rollout_model import RolloutLayout
from footplate_trainer.parallel.world import DistributedContext
from footplate_trainer.rollout.settings import RolloutSettings

Between = Callable[[int], bool]
"""Told between two passes how many tokens were drawn here; whether to stop."""


class GenerateFunction(Protocol):
    """A function that samples with fixed weights."""

    def __call__(self, requests: Sequence[GenerationRequest], between: Between) -> Iterator[GeneratedAnswer]:
        """Yield an answer to each of this copy's `requests`, as it ends; equal on all ranks of the copy.

        Yields fewer if `between` returns True, which is called on the leading rank. Collective over all
        copies until the first answer. If one rank has no memory for an answer, all raise: UserMistake if
        it can never have it, TransientOutOfMemory if others have taken it.
        """


class AnswerSampler(Protocol):
    """The ranks of a run that sample answers, in copies of the network."""

    @property
    def replica_count(self) -> int:
        """Number of copies that sample, each for different requests."""

    @property
    def replica_index(self) -> int:
        """Index of the copy that this rank is part of."""

    @property
    def is_leader(self) -> bool:
        """True if this rank reports the copy's answers."""

    def open_generator(self, step: int) -> AbstractContextManager[GenerateFunction]:
        """Lay out the current weights, those after `step`, for sampling; collective at both ends."""


class EngineSampler:
    """A sampler with the weights in training, laid out by `rollout.parallelism`."""

    def __init__(
        self,
        config: RunConfig,
        settings: RolloutSettings,
        model: ParallelModel,
        world: DistributedContext,
        stop: StopRule,
        memory: Callable[[], AvailableMemory] | None = None,
    ) -> None:
        """Plan the layout; `memory` returns this rank's memory, by default the measured one. Collective."""
        assert config.rollout is not None
        self._settings, self._stop, self._module = settings, stop, model.module
        self._world = world
        ranks = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self._memory = memory or (lambda: get_available_memory(world.device, ranks))
        self._shape, self._cache_tokens = model_shape(config), config.rollout.cache_tokens
        dtype = torch.bfloat16 if config.training.precision is Precision.BF16 else torch.float32
        self._number_bytes = dtype.itemsize
        self._ranks = RolloutLayout(
            self._shape,
            model.grid.topology,
            config.rollout.parallelism,
            world,
            dtype,
            batch_invariant=config.rollout.batch_invariant,
        )

    @property
    def replica_count(self) -> int:
        """See AnswerSampler."""
        return self._ranks.replica_count

    @property
    def replica_index(self) -> int:
        """See AnswerSampler."""
        return self._ranks.copy.number

    @property
    def is_leader(self) -> bool:
        """See AnswerSampler."""
        return self._ranks.copy.is_leader

    @contextmanager
    def open_generator(self, step: int) -> Iterator[GenerateFunction]:
        """See AnswerSampler."""
        with self._ranks.laid_out_model(self._module) as model:

            def draw(requests: Sequence[GenerationRequest], between: Between) -> Iterator[GeneratedAnswer]:
                room = self._room(requests)
                if room is None:
                    return
                settings, rule = self._settings, self._settings.rule
                engine = Engine(model, room, rule, self._stop, seed=settings.seed, step=step)
                yield from engine.answers(requests, lambda: between(engine.drawn))

            yield draw

    def _room(self, requests: Sequence[GenerationRequest]) -> EngineLimits | None:
        """Return room for the keys and values of all requests, or less if configured or if memory is short.

        None without requests. Ranks of a copy have equal requests: the rank with the least memory left
        decides. Raises UserMistake or TransientOutOfMemory if an answer does not fit. Collective.
        """
        shape, topology = self._shape, self._ranks.copy.grid.topology
        lengths = (min(len(asked.tokens) + asked.most, shape.context) for asked in requests)
        longest, most = max(lengths, default=0), None
        if self._cache_tokens is None:
            told = object_collectives.all_gather((self._memory(), longest), self._world.everybody)
            free = min(memory.left for memory, _ in told)
            possible = min(max(memory) for memory, _ in told)
            needed = max(tokens for _, tokens in told)
            if mistake := memory_shortage(
                shape, topology, self._number_bytes, possible, needed, at_most=True
            ):
                raise UserMistake(mistake)
            if short := memory_shortage(shape, topology, self._number_bytes, free, needed):
                raise TransientOutOfMemory(f"{short}; it could have {possible:,}, but others use it")
            most = available_blocks(shape, topology, self._number_bytes, free, self._world.device.type)
        return (
            EngineLimits(cache_blocks(len(requests), longest, self._cache_tokens, most)) if requests else None
        )
