"""Finds the tile sizes in which a row has the same bits everywhere, on this machine and before training.

No library guarantees its results for a shape: they depend on the processor, the number of threads and the
dtype. So every product and row-wise function of a network is computed on the same rows in tiles of each size,
in two orders. A size passes if it gives a row the same bits at each position, and the same as the smallest of
them gives.

Another order of a sum shows in its last bits, and a product in bf16 rounds these away, except for one number
in ten thousand. So the test rows have products that are sums of pairs that cancel each other: what is left is
the rounding error alone, all of it bits that depend on the order.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from footplate_trainer.errors import UserMistake
from footplate_trainer.model.attention_mask import AttentionMask
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.model.feed_forward import ACTIVATIONS
from footplate_trainer.model.head_chunks import row_logsumexp
from footplate_trainer.model.invariant_attention import BLOCK, InvariantAttention
from footplate_trainer.model.linear import Linear, LowRankAdapter
from footplate_trainer.model.norm import build_norm
from footplate_trainer.model.rotary import apply_rotary, rotary_frequencies, rotary_tables
from footplate_trainer.model.tiles import MOST_NUMBERS, SIZES, Multiply, Tiles, multiply

SMALLEST: Final = 64  # the most rows that the smallest tile may have: each rest of rows is padded to it

_TILES: Final = 32  # of each size are computed in each order


class NoInvariantTiles(UserMistake):
    """Error of a machine on which no tile size makes a row's bits independent of the others."""


@dataclass(frozen=True)
class InvariantTiles:
    """Tiles that passed the check."""

    tiles: Tiles
    digests: dict[str, str]  # of what they gave, by what was computed: equal where bits are


@dataclass(frozen=True)
class _Probe:
    """A computation of each row, to be tested."""

    what: str
    columns: int  # of a row
    width: int  # columns, or those of its result if these are more
    function: Callable[[Tiles, Tensor], Tensor]
    dtype: torch.dtype
    pairs: tuple[Tensor, Tensor] | None = None  # int64 [columns / 2] each: columns that cancel each other


def find_invariant_tiles(
    network: Decoder,
    dtype: torch.dtype,
    device: torch.device,
    *,
    multiply: Multiply = multiply,
    sizes: Sequence[int] = SIZES,
) -> InvariantTiles:
    """Find tiles for `network`, which may be on `meta`, as it computes in `dtype` on `device`.

    Call it after tensor parallelism has cut the weights, and before they are sharded. Raises NoInvariantTiles
    where there are none.
    """
    bad: dict[int, str] = {}
    found: list[tuple[_Probe, dict[int, Tensor]]] = []
    with torch.no_grad():
        for probe in _probes(network, dtype, device):
            results = {}
            for size, first, again in _computed(probe, multiply, sizes, device):
                results[size] = first
                if not torch.equal(first, again):
                    bad.setdefault(size, probe.what)
            found.append((probe, results))
    kept = max((_agreeing(anchor, found, sizes, bad) for anchor in sizes if anchor <= SMALLEST), key=len)
    if not kept:
        raise NoInvariantTiles(_refusal(bad, device, dtype))
    common = _TILES * min(sizes) + 3  # rows that each size has, whichever are kept
    digests = {probe.what: _digest(results[kept[-1]][:common]) for probe, results in found}
    return InvariantTiles(Tiles(kept, multiply), digests)


def _digest(result: Tensor) -> str:
    numbers = result.cpu().contiguous().view(torch.uint8).numpy()
    return hashlib.blake2b(numbers.tobytes(), digest_size=16).hexdigest()


def _agreeing(
    smallest: int,
    found: Sequence[tuple[_Probe, dict[int, Tensor]]],
    sizes: Sequence[int],
    bad: dict[int, str],
) -> list[int]:
    """List the sizes from `smallest` on with the results of `smallest`; none where that is bad itself."""
    if smallest in bad:
        return []
    return [
        size
        for size in sizes
        if size >= smallest
        and size not in bad
        and all(_equal(results[size], results[smallest]) for _, results in found if size in results)
    ]


def _equal(some: Tensor, others: Tensor) -> bool:
    """Return whether the rows that both have are equal."""
    rows = min(len(some), len(others))
    return torch.equal(some[:rows], others[:rows])


def _computed(
    probe: _Probe,
    multiply: Multiply,
    sizes: Sequence[int],
    device: torch.device,
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield, for each size that rows so wide are computed in, the same rows' results in two orders."""
    generator = _numbers_for(f"rows for {probe.what}", device)
    tested = [size for size in sizes if size <= SMALLEST or size * probe.width <= MOST_NUMBERS]
    rows = max(tested) + 3  # so that there is a rest for each size
    x = torch.randn(rows, probe.columns, device=device, generator=generator).to(probe.dtype)
    if probe.pairs is not None:
        some, others = probe.pairs
        x[:, others] = -x[:, some]
    for size in tested:
        count = min(rows, _TILES * size + 3)
        order = torch.randperm(count, device=device, generator=generator)
        alone = Tiles((size,), multiply)
        yield size, probe.function(alone, x[:count]), probe.function(alone, x[order])[order.argsort()]


def _numbers_for(what: str, device: torch.device) -> torch.Generator:
    """Build the generator of the numbers for `what`: the same on ranks with different other computations."""
    seed = int.from_bytes(hashlib.blake2b(what.encode(), digest_size=7).digest())
    return torch.Generator(device).manual_seed(seed)


def _probes(network: Decoder, dtype: torch.dtype, device: torch.device) -> Iterator[_Probe]:
    """Yield all row computations of `network`, each shape once."""
    shape = network.shape
    for rows, columns, biased in sorted(_products(network)):
        what = f"the product with a matrix of {rows} x {columns}"
        generator = _numbers_for(what, device)

        def drawn(*size: int, generator: torch.Generator = generator) -> Tensor:
            return torch.randn(*size, device=device, generator=generator).to(dtype)

        weight, bias = drawn(rows, columns), torch.zeros_like(drawn(rows)) if biased else None
        some, others = torch.randperm(columns, device=device, generator=generator)[: columns // 2 * 2].chunk(
            2
        )
        weight[:, others] = weight[:, some]

        def product(tiles: Tiles, x: Tensor, weight: Tensor = weight, bias: Tensor | None = bias) -> Tensor:
            return tiles.product(x, weight, bias)

        yield _Probe(what, columns, max(rows, columns), product, dtype, (some, others))
    generator = _numbers_for("norms and attention", device)
    norm = build_norm(shape).to(device, dtype)
    for parameter in norm.parameters():
        parameter.copy_(torch.randn(parameter.shape, device=device, generator=generator))
    hidden, inner, head_size = shape.hidden, shape.feed_forward, shape.head_size
    yield _Probe(f"the norm of {hidden} columns", hidden, hidden, lambda t, x: t.rows(norm, x), dtype)
    activation = ACTIVATIONS[shape.activation]
    yield _Probe(
        f"the activation {shape.activation}", inner, inner, lambda t, x: t.rows(activation, x), dtype
    )
    if network.is_last:
        logits = len(_here(network.head_weight))
        yield _Probe(f"the normalizer of {logits} logits", logits, logits, _normaliser, torch.float32)
    frequencies = rotary_frequencies(head_size, shape.rope_theta, shape.rope_scaling)
    tables = [table[1:] for table in rotary_tables(2, frequencies, device)]
    yield _Probe(
        "the rotary embedding",
        head_size,
        head_size,
        lambda t, x: t.rows(lambda row: apply_rotary(row, *tables), x),
        dtype,
    )
    keys, values = torch.randn(2, 1, 1, 2 * BLOCK + 5, head_size, device=device, generator=generator).to(
        dtype
    )

    def attention(tiles: Tiles, x: Tensor) -> Tensor:
        beside = 1 + tiles.sizes[0] % 5  # other sequences, their number another one for each size
        query, key, value = (rows.expand(beside, -1, -1, -1) for rows in (x[None, None], keys, values))
        by = InvariantAttention(shape, tiles)
        return by.attend(query, key, value, AttentionMask(causal=False))[-1, 0]

    yield _Probe(f"attention with heads of {head_size}", head_size, head_size, attention, dtype)


def _normaliser(tiles: Tiles, logits: Tensor) -> Tensor:
    return row_logsumexp(logits, tiles)[:, None]


def _products(network: Decoder) -> set[tuple[int, int, bool]]:
    """Return outputs, inputs and whether there is a bias, of each local matrix."""
    found = set()
    for module in network.modules():
        if isinstance(module, Linear):
            weight, bias = module.matrix()
            found.add((*weight.shape, bias is not None))
        elif isinstance(module, LowRankAdapter):
            found.update((*matrix.shape, False) for matrix in module.matrices())
    if network.is_last:
        found.add((*_here(network.head_weight).shape, False))
    return {(outputs, inputs, biased) for outputs, inputs, biased in found}


def _here(weight: Tensor) -> Tensor:
    """Return the local part of a sharded tensor, whatever shards it."""
    here: Tensor = weight.to_local() if hasattr(weight, "to_local") else weight
    return here


def _refusal(bad: dict[int, str], device: torch.device, dtype: torch.dtype) -> str:
    where = f"{torch.backends.cpu.get_cpu_capability()}, {torch.get_num_threads()} threads"
    if device.type != "cpu":
        where = torch.cuda.get_device_name(device)
    reasons = "; ".join(f"{what} in tiles of {size}" for size, what in sorted(bad.items()))
    number = str(dtype).removeprefix("torch.")
    return (
        f"rollout.batchInvariant: on this machine ({where}, torch {torch.__version__}, {number}) a row's "
        f"bits depend on other rows or on its position: {reasons or 'no two sizes of tiles agree'}; remove "
        "batchInvariant, or use another training.precision, number of threads or kind of machine"
    )
