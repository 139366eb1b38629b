"""Forward passes of an engine: through a whole network on one device, or through a network that ranks share.

The ranks of a copy run the same passes. Tensor ranks hold the keys of their own
heads, pipeline ranks those of their own layers, and each computes its part.
Logits are gathered on one rank of the last stage, which samples and broadcasts: so
no rank can sample another token than its peers, whatever its processor rounds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional

from footplate_planning.kv_cache import AT_ONCE, BLOCK_SIZE, local_key_value_heads
from footplate_trainer.errors import NumericalDivergence
from footplate_trainer.generation.sampler import NOT_FINITE, SampledTokens, SamplingRule, sample_tokens
from footplate_trainer.generation.scheduler import ScheduledPass
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.invariant_attention import BLOCK
from footplate_trainer.model.linear import apply_linear
from footplate_trainer.model.paged_cache import PagedKeyValueCache, PagedTokens
from footplate_trainer.model.tiles import Tiles
from footplate_trainer.parallel.local_shard import to_local
from footplate_trainer.parallel.rollout_model import RolloutModel
from footplate_trainer.parallel.sequence_collectives import gather_sequence

_ROWS_AT_ONCE = 32  # whose logits are drawn from: several fp64 copies of them are made
_NO_TOKEN = -1


@dataclass(frozen=True)
class EngineLimits:
    """Limits of what an engine holds and computes at once; none of it changes an answer.

    Ranks that share a network have equal limits.
    """

    blocks: int
    block_size: int = BLOCK_SIZE  # tokens
    at_once: int = AT_ONCE  # sequences
    prompt_tokens: int = 512  # in one pass


@dataclass(frozen=True)
class SamplingInputs:
    """Inputs of sampling after a pass, for n requests."""

    rows: Sequence[int]  # which token of the pass each follows
    before: Sequence[Sequence[int]]  # the tokens of each, where the rule looks at them
    chances: Sequence[float]  # the number that decides for each
    rule: SamplingRule

    def chunks(self) -> Iterator[slice]:
        """Return slices of n, each sampled at once."""
        return (slice(first, first + _ROWS_AT_ONCE) for first in range(0, len(self.rows), _ROWS_AT_ONCE))

    def hidden_states(self, hidden: Tensor, some: slice) -> Tensor:
        """Return the hidden states [n, width] of the requests `some`, from a pass's [1, tokens, width]."""
        return hidden[0, list(self.rows[some])]

    def sample(self, logits: Tensor, some: slice, tiles: Tiles | None, ranks: int = 1) -> SampledTokens:
        """Sample tokens of `some` from logits [n, vocabulary], whose columns `ranks` ranks have computed."""
        chance = torch.tensor(self.chances[some], dtype=torch.float64, device=logits.device)
        return sample_tokens(logits, self.rule, self.before[some], chance, tiles, ranks)


class ForwardPasses(Protocol):
    """A computation of passes."""

    def run(
        self, plan: ScheduledPass, draws: SamplingInputs, stopping: Callable[[], bool]
    ) -> tuple[SampledTokens, bool]:
        """Compute a pass; return the tokens sampled after it, and the result of `stopping`.

        Raises NumericalDivergence if logits are not finite.
        """
        ...


def open_forward_passes(model: Decoder | RolloutModel, room: EngineLimits) -> ForwardPasses:
    """Return the passes of a whole network, or of this rank's part; a single rank communicates with none."""
    if not isinstance(model, RolloutModel):
        return _OnDevice(model, room)
    return _OnDevice(model.network, room) if model.copy.group.size() == 1 else _OnRanks(model, room)


class _OnDevice:
    """Passes through a whole network on one device."""

    def __init__(self, model: Decoder, room: EngineLimits) -> None:
        self._model = model
        self._cache = _cache(model, room, model.shape.key_value_heads)

    def run(
        self, plan: ScheduledPass, draws: SamplingInputs, stopping: Callable[[], bool]
    ) -> tuple[SampledTokens, bool]:
        """See ForwardPasses."""
        self._cache.copy_blocks(plan.copies)
        inputs, states = self._cache.prepare_pass(_paged(plan), self._filled)
        (hidden,) = self._model.forward_stage(inputs=inputs, caches=states)
        weight, tiles = self._model.head_weight, self._model.tiles
        drawn = [
            draws.sample(apply_linear(draws.hidden_states(hidden, some), weight, None, tiles), some, tiles)
            for some in draws.chunks()
        ]
        return _joined(drawn, hidden.device), stopping()

    def _filled(self, tokens: int) -> int:
        """Return the padded number of tokens: tiles are filled up once a pass instead of in each product."""
        tiles, shape = self._model.tiles, self._model.shape
        return (
            tokens if tiles is None else tiles.padded_row_count(tokens, max(shape.hidden, shape.feed_forward))
        )


class _OnRanks:
    """Passes through this rank's part of a network."""

    def __init__(self, model: RolloutModel, room: EngineLimits) -> None:
        self._network, self._copy = model.network, model.copy
        self._grid = model.copy.grid
        self._tensor = self._grid.topology.tensor
        self._cache = _cache(model.network, room, local_key_value_heads(model.shape, self._tensor))
        self._like = next(model.network.blocks.parameters())

    def run(
        self, plan: ScheduledPass, draws: SamplingInputs, stopping: Callable[[], bool]
    ) -> tuple[SampledTokens, bool]:
        """See ForwardPasses; collective."""
        self._cache.copy_blocks(plan.copies)
        inputs, states = self._cache.prepare_pass(
            _paged(plan), lambda tokens: tokens + -tokens % self._tensor
        )
        network = self._network
        received = () if network.is_first else self._receive(inputs.tokens.shape[1])
        (reached,) = network.forward_stage(*received, inputs=inputs, caches=states)
        drawn = _joined([], reached.device)
        if network.is_last:
            drawn = self._drawn(reached, draws)
        else:
            dist.send(reached, group=self._grid.pipeline_group, group_dst=self._stage + 1)
        return self._told(drawn, len(draws.rows), stopping)

    @property
    def _stage(self) -> int:
        return self._grid.coordinates.pipeline

    def _receive(self, tokens: int) -> tuple[Tensor]:
        state = torch.empty(
            (1, tokens // self._tensor, self._network.shape.hidden),
            dtype=self._like.dtype,
            device=self._like.device,
        )
        dist.recv(state, group=self._grid.pipeline_group, group_src=self._stage - 1)
        return (state,)

    def _drawn(self, hidden: Tensor, draws: SamplingInputs) -> SampledTokens:
        """Sample on the rank that leads; return nothing on its tensor peers."""
        group, weight = self._grid.tensor_group, to_local(self._network.head_weight)
        tiles = self._network.tiles
        if group is not None:
            hidden = gather_sequence(hidden, group)
        drawn = []
        for some in draws.chunks():
            logits = self._logits(apply_linear(draws.hidden_states(hidden, some), weight, None, tiles))
            if logits is not None:
                drawn.append(_or_marked(draws, logits, some, tiles, self._tensor))
        return _joined(drawn, hidden.device)

    def _logits(self, here: Tensor) -> Tensor | None:
        """Gather [n, local rows of the head] of each tensor rank into [n, vocabulary] on the leading rank."""
        group = self._grid.tensor_group
        if group is None:
            return here
        vocabulary = self._network.shape.vocabulary
        most = -(-vocabulary // self._tensor)  # the last ranks may have fewer rows
        filled = functional.pad(here, (0, most - here.shape[1]))
        leads = self._copy.is_leader
        room = [torch.empty_like(filled) for _ in range(self._tensor)] if leads else None
        dist.gather(filled, room, group=group, group_dst=0)
        return None if room is None else torch.cat(room, dim=1)[:, :vocabulary]

    def _told(
        self, drawn: SampledTokens, count: int, stopping: Callable[[], bool]
    ) -> tuple[SampledTokens, bool]:
        """Broadcast the leading rank's sampled tokens and its `stopping` to all ranks of the copy.

        Raises NumericalDivergence, on all of them, if its logits were not finite.
        """
        told = torch.zeros(3 * count + 1, dtype=torch.float64, device=self._like.device)
        if self._copy.is_leader:
            told[:-1] = torch.cat((drawn.tokens.double(), drawn.sampled.double(), drawn.full.double()))
            told[-1] = stopping()
        dist.broadcast(told, group=self._copy.group, group_src=self._copy.leader)
        tokens, sampled, full = told[:-1].view(3, count)
        if bool((tokens == _NO_TOKEN).any()):
            raise NumericalDivergence(NOT_FINITE)
        return SampledTokens(tokens.long(), sampled.float(), full.float()), bool(told[-1])


def _or_marked(
    draws: SamplingInputs, logits: Tensor, some: slice, tiles: Tiles | None, ranks: int
) -> SampledTokens:
    """Sample as `sample`.

    Return invalid tokens where it raises: peers are waiting, and must raise as well.
    """
    try:
        return draws.sample(logits, some, tiles, ranks)
    except NumericalDivergence:
        none = torch.full((len(logits),), _NO_TOKEN, device=logits.device)
        return SampledTokens(none, none.float(), none.float())


def _joined(parts: Sequence[SampledTokens], device: torch.device) -> SampledTokens:
    nothing = torch.zeros(0, device=device)
    return SampledTokens(
        torch.cat([nothing.long(), *(part.tokens for part in parts)]),
        torch.cat([nothing, *(part.sampled for part in parts)]),
        torch.cat([nothing, *(part.full for part in parts)]),
    )


def _paged(plan: ScheduledPass) -> list[PagedTokens]:
    return [PagedTokens(piece.tokens, piece.start, piece.blocks) for piece in plan.pieces]


def _cache(network: Decoder, room: EngineLimits, heads: int) -> PagedKeyValueCache:
    """Build the cache of this rank's layers."""
    assert not network.training, "generation needs a model without dropout"
    return PagedKeyValueCache(
        layers=len(network.blocks),
        blocks=room.blocks,
        size=room.block_size,
        heads=heads,
        head_size=network.shape.head_size,
        like=next(network.blocks.parameters()),
        group=None if network.tiles is None else BLOCK,
    )
