"""What a step's data costs: samples per CPU second of each data set, against a model's step.

    .venv/bin/python -m bench.trainer.data_order [--context 512] [--samples 2000]

The bar: the order and the loading of a step take at most 2 % of it. The step to
compare with is that of the smallest model in the benches, 8 layers x 512 with a
vocabulary of 32,000: on one core some 8 sequences of 512 tokens in 4 s, given by
--step-seconds and --batch; on an accelerator, where the loader has a core of its
own beside the one that feeds the device, any step longer than the loading.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from footplate_contracts.v1alpha1.data import Data
from footplate_trainer.data import order
from footplate_trainer.data.loader import BatchLoader
from footplate_trainer.data.pack import pack
from footplate_trainer.data.sources import RunShards, dataset_of

SEED = 7


def main() -> None:
    """Print a table."""
    asked = _arguments()
    print(f"{'data':<28} {'samples/s':>10} {'µs/sample':>10} {'of a step':>10}")
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder) / "shards"
        pack(["python-docs:"], shards, vocabulary_size=8192)
        for name, rate in _rates(str(shards), asked.context, asked.samples, asked.batch):
            share = asked.batch / rate / asked.step_seconds
            print(f"{name:<28} {rate:>10,.0f} {1e6 / rate:>10.1f} {share:>10.2%}")


def _rates(uri: str, context: int, samples: int, batch: int) -> Iterator[tuple[str, float]]:
    """(name, samples a second)."""
    yield "order alone, step by step", _order_rate(samples, batch)
    mixture = [{"name": name, "uri": uri, "weight": weight} for name, weight in (("a", 0.7), ("b", 0.3))]
    for name, data in {
        "packed": {"uri": uri},
        "one document a sequence": {"uri": uri, "packing": {"enabled": False}},
        "mixture of two": {"sources": mixture},
        "masked (BERT)": {"uri": uri, "masking": {"name": "mlm"}},
        "spans (T5)": {"uri": uri, "masking": {"name": "span", "meanSpanLength": 8}},
    }.items():
        described = Data.from_json({**data, "seed": SEED})
        dataset = dataset_of(RunShards.open(described), described, "crossEntropy", context)
        loader = BatchLoader(dataset, seed=SEED, global_batch_size=batch, micro_batch_size=batch)
        yield name, _rate(loader, samples, batch)


def _rate(loader: BatchLoader, samples: int, batch: int) -> float:
    loader.build(0)
    steps = max(1, samples // batch)
    started = time.process_time()
    for step in range(1, steps + 1):
        loader.build(step)
    return steps * batch / (time.process_time() - started)


def _order_rate(samples: int, batch: int) -> float:
    steps = max(1, samples // batch)
    started = time.process_time()
    for step in range(steps):
        order.sample_ids(SEED, order.global_indices(step, batch), 1_000_000_007)
    return steps * batch / (time.process_time() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--context", type=int, default=512, help="tokens of a sequence (%(default)s)")
    parser.add_argument("--samples", type=int, default=2000, help="sequences to load of each (%(default)s)")
    parser.add_argument("--batch", type=int, default=8, help="sequences of a step (%(default)s)")
    parser.add_argument(
        "--step-seconds", type=float, default=4.0, help="what a step of a model takes (%(default)s)"
    )
    return parser.parse_args()


if __name__ == "__main__":
    main()
