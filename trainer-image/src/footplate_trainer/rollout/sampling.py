"""Who draws which answers of a rollout.

The loop knows a `Sampler` and no engine: requests go in, answers come one by one, and between two passes it
may stop. Several ranks may compute one answer together; then one of them hands it on.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from footplate_contracts.runconfig import RunConfig
from footplate_contracts.v1alpha1.training import Precision
from footplate_planning.config import model_shape
from footplate_trainer.generation.engine import Engine, EngineRoom
from footplate_trainer.generation.requests import Answer, Request, StopRule
from footplate_trainer.model.build import build
from footplate_trainer.model.transformer import Decoder
from footplate_trainer.parallel import agree
from footplate_trainer.parallel.apply import ParallelModel
from footplate_trainer.parallel.world import World
from footplate_trainer.rollout.settings import RolloutSettings

Between = Callable[[int], bool]
"""Told between two passes how many tokens were drawn here; whether to stop."""

_AT_ONCE: Final = 64  # answers under way on a rank


class Draw(Protocol):
    """Draws with weights that stand; may be called again for further requests."""

    def __call__(self, requests: Sequence[Request], between: Between) -> Iterator[Answer]:
        """An answer to each of `requests`, as they end, on the rank that hands them on.

        They are this copy's; all ranks that compute with it give the same. Fewer come where `between` says
        stop.
        """


class Sampler(Protocol):
    """The ranks of a run as they draw answers."""

    copies: int  # so many draw, each other requests
    copy: int  # the one that this rank computes with
    leads: bool  # whether it hands its answers on

    def weights(self, step: int) -> AbstractContextManager[Draw]:
        """The weights of now, those after `step`, laid out to draw with; collective at both ends."""


class GatheredSampler:
    """Each rank draws by itself, with all weights."""

    leads = True

    def __init__(
        self,
        config: RunConfig,
        settings: RolloutSettings,
        model: ParallelModel,
        world: World,
        stop: StopRule,
        cache_tokens: int | None,
    ) -> None:
        self.copies, self.copy = world.size, world.rank
        self._settings, self._model, self._world, self._stop = settings, model, world, stop
        self._shape, self._cache_tokens = model_shape(config), cache_tokens
        self._bf16 = config.training.precision is Precision.BF16

    @contextmanager
    def weights(self, step: int) -> Iterator[Draw]:
        """See Sampler."""
        with torch.device("meta"):
            network = build(self._shape)
        assert isinstance(network, Decoder), "only a decoder answers"
        network.to_empty(device=self._world.device)
        network.reset_tables(self._world.device)
        network.eval().requires_grad_(False)
        whole = _whole_weights(self._model, self._world)
        for name, parameter in network.named_parameters():
            parameter.data = whole.pop(name).to(torch.bfloat16 if self._bf16 else parameter.dtype)

        def draw(requests: Sequence[Request], between: Between) -> Iterator[Answer]:
            if not requests:
                return
            engine = Engine(
                network,
                self._room(requests),
                self._settings.rule,
                self._stop,
                seed=self._settings.seed,
                step=step,
            )
            yield from engine.answers(requests, lambda: between(engine.drawn))

        yield draw

    def _room(self, requests: Sequence[Request]) -> EngineRoom:
        longest = max(min(len(asked.tokens) + asked.most, self._shape.context) for asked in requests)
        size = EngineRoom.block_size
        needed = min(len(requests), _AT_ONCE) * -(-longest // size)
        asked = None if self._cache_tokens is None else -(-max(self._cache_tokens, longest) // size)
        return EngineRoom(min(needed, asked or needed), at_once=_AT_ONCE)


def _whole_weights(model: ParallelModel, world: World) -> dict[str, Tensor]:
    """All parameters, whole, on every rank. Collective."""
    mine = dict(model.module.named_parameters())
    owners: dict[str, int] = {}
    for rank, names in enumerate(agree.gather(list(mine), world.everybody)):
        for name in names:
            owners.setdefault(name, rank)
    shapes = {name: tuple(parameter.shape) for name, parameter in mine.items()}
    known = {name: shape for told in agree.gather(shapes, world.everybody) for name, shape in told.items()}
    whole = {}
    for name in sorted(owners):
        if name in mine:
            parameter = mine[name].detach()
            tensor = parameter.full_tensor() if isinstance(parameter, DTensor) else parameter.clone()
        else:
            tensor = torch.empty(known[name], device=world.device)
        if model.grid.topology.pipeline > 1:
            dist.broadcast(tensor, owners[name])
        whole[name] = tensor
    return whole
