"""Collectives and bytes of one step, counted and by formula (docs/observability.md).

    .venv/bin/python -m bench.trainer.collectives

Counted is what torch's CommDebugMode sees on each rank; bytes are those of each
call's input, taken off the same calls. Exit code 1 when a count or a sum of
bytes is another than the formula's.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, Final

import torch
from bench.trainer.laid import laid
from torch import Tensor
from torch.distributed.tensor.debug import CommDebugMode
from torch.utils._python_dispatch import TorchDispatchMode

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.config import model_shape
from footplate_trainer.shape import ModelShape
from tests.support.ranks import run_ranks
from tests.support.tiny import pack_tiny, tiny_config

FP32: Final = 4
NAMES: Final = {
    "_allgather_base_": "all-gather",
    "_reduce_scatter_base_": "reduce-scatter",
    "allreduce_": "all-reduce",
}
# Tokens, flags and failures (int64 x 3), loss and squared norm (fp64 x 2): one reduction each.
STEP_SUMS: Final = Counter({"all-reduce": 2})
STEP_BYTES: Final = Counter({"all-reduce": 3 * 8 + 2 * 8})
LAYOUTS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "none x 2": (2, ("parallelism.sharding=none",)),
    "full x 2": (2, ()),
    "full x 4": (4, ()),
    "optimizer x 2": (2, ("parallelism.sharding=optimizer",)),
}


class Bytes(TorchDispatchMode):
    """Bytes that go into each kind of collective."""

    def __init__(self) -> None:
        super().__init__()
        self.sums: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func.namespace == "c10d":
            name = func._schema.name.removeprefix("c10d::")
            # all-gather and reduce-scatter: (output, input, …); all-reduce: a list that is both
            source = args[1] if isinstance(args[0], Tensor) else args[0][0]
            self.sums[NAMES.get(name, name)] += source.nbytes
        return func(*args, **(kwargs or {}))


def count(config: RunConfig) -> tuple[Counter[str], Counter[str]]:
    """(calls, bytes) of the second step on this rank."""
    with laid(config) as here:
        here.step(1)
        with CommDebugMode() as calls, Bytes() as moved:
            here.step(2)
    found = {str(operation).split(".")[-1]: number for operation, number in calls.get_comm_counts().items()}
    return Counter({NAMES.get(name, name): number for name, number in found.items()}), moved.sums


def formula(shape: ModelShape, config: RunConfig, ranks: int) -> tuple[Counter[str], Counter[str]]:
    """(calls, bytes) as the documentation has them."""
    sharding = config.parallelism.sharding.value
    each = config.training.global_batch_size // config.training.micro_batch_size // ranks
    groups, weights = shape.layers + 1, shape.parameters * FP32
    outside = weights - shape.layers * shape.layer_parameters * FP32
    match sharding:
        case "full":
            # A block is gathered for its forward and for its backward pass, the rest once.
            calls = Counter({"all-gather": each * (2 * shape.layers + 1), "reduce-scatter": each * groups})
            moved = Counter(
                {"all-gather": each * (2 * weights - outside) // ranks, "reduce-scatter": each * weights}
            )
        case "optimizer":
            calls = Counter({"all-gather": groups, "reduce-scatter": groups})
            moved = Counter({"all-gather": weights // ranks, "reduce-scatter": weights})
        case _:
            calls, moved = Counter({"all-reduce": groups}), Counter({"all-reduce": weights})
    return calls + STEP_SUMS, moved + STEP_BYTES


def main() -> int:
    """Print the table."""
    good = True
    print(f"{'layout':16} {'collective':16} {'calls':>6} {'formula':>8} {'bytes':>12} {'formula':>12}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        shards = pack_tiny(folder)
        for number, (name, (ranks, overrides)) in enumerate(LAYOUTS.items()):
            config = tiny_config(shards, folder / str(number), overrides)
            calls, moved = run_ranks(count, ranks, config)[0]
            foreseen_calls, foreseen_bytes = formula(model_shape(config), config, ranks)
            for kind in sorted({*calls, *foreseen_calls}):
                row = (calls[kind], foreseen_calls[kind], moved[kind], foreseen_bytes[kind])
                good = good and row[0] == row[1] and row[2] == row[3]
                print(f"{name:16} {kind:16} {row[0]:6} {row[1]:8} {row[2]:12,} {row[3]:12,}", flush=True)
    return int(not good)


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
