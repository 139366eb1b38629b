"""Whether the trainer's layouts work on the GPUs of this machine, how fast, and in how much memory.

    make gpu-check

For each layout that the GPUs can form, a small decoder is trained for a few
steps under torchrun, by the program that runs everywhere, and its losses are
held against those of one process. Without a GPU there is nothing to check, and
that is no failure. `--on-cpu N` goes through the same motions on N gloo ranks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch

from tests.support.tiny import pack_tiny, read_rows, tiny_manifest

BF16_BAR: Final = 3e-3  # of losses against one process
FP32_BAR: Final = 3e-6
STEPS: Final = 5
LAYOUTS: Final[dict[str, tuple[int, tuple[str, ...]]]] = {
    "one process": (1, ()),
    "none x 2": (2, ("parallelism.sharding=none",)),
    "optimizer x 2": (2, ("parallelism.sharding=zero1",)),
    "full x 2": (2, ()),
    "tensor 2": (2, ("parallelism.tensor=2",)),
    "context 2": (2, ("parallelism.context=2",)),
    "pipeline 2, 1F1B": (2, ("parallelism.pipeline=2",)),
    "tensor 2 x full 2": (4, ("parallelism.tensor=2",)),
    "pipeline 2 x full 2": (4, ("parallelism.pipeline=2",)),
    "hybrid 2 x 2": (4, ("parallelism={sharding: hybrid, replicas: 2}",)),
    "tensor 2 x pipeline 2 x full 2": (8, ("parallelism={tensor: 2, pipeline: 2}",)),
}
GPU_MODEL: Final = (
    "model.layers=8",
    "model.hiddenSize=2048",
    "model.attentionHeads=16",
    "model.keyValueHeads=8",
    "model.contextLength=2048",
    "training.globalBatchSize=16",
    "training.precision=bf16",
)


def train(manifest: Path, folder: Path, ranks: int, overrides: list[str]) -> list[dict[str, Any]] | str:
    """The rows of a run under torchrun, or the last line of what went wrong."""
    metrics = folder / "metrics.jsonl"
    command = [str(Path(sys.executable).parent / "torchrun"), "--nproc-per-node", str(ranks)]
    command += ["-m", "footplate_trainer", "train", str(manifest), "--metrics", str(metrics)]
    for override in [*overrides, f"checkpoint.uri={folder}/checkpoints"]:
        command += ["--set", override]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    if ran.returncode != 0:
        told = [line for line in ran.stderr.splitlines() if "Error" in line or "error:" in line]
        return (told or ran.stderr.splitlines() or ["no word"])[0][:100]
    return read_rows(metrics)


def table_row(
    name: str, rows: list[dict[str, Any]] | str, reference: list[float], bar: float
) -> tuple[str, bool]:
    """One line, and whether the layout works."""
    if isinstance(rows, str):
        return f"{name:32} {rows}", False
    off = max(abs(row["loss"] - loss) for row, loss in zip(rows, reference, strict=True))
    speed = median(row["tokensPerSecond"] for row in rows[1:])
    mfu = median(row["mfu"] for row in rows[1:]) if "mfu" in rows[-1] else None
    shown = f"{mfu:8.1%}" if mfu is not None else "     n/a"
    memory = rows[-1]["memoryBytes"] / 2**30
    line = f"{name:32} {off:10.1e} {speed:12,.0f} {shown} {memory:10.2f}"
    return line, off <= bar


def main() -> int:
    """Print the table; 1 when a layout does not work."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--on-cpu", type=int, default=0, metavar="N", help="on N gloo ranks instead")
    on_cpu = parser.parse_args().on_cpu
    devices = on_cpu or torch.cuda.device_count()
    if devices == 0:
        print("gpu-check: there is no GPU here, so nothing was run on NCCL")
        return 0
    where = f"{on_cpu} gloo ranks" if on_cpu else f"{devices} x {torch.cuda.get_device_name(0)}"
    model = ("training.globalBatchSize=8",) if on_cpu else GPU_MODEL
    print(f"{where}; losses against one process over {STEPS} steps")
    print(f"{'layout':32} {'loss off':>10} {'tokens/s':>12} {'MFU':>8} {'GiB':>10}")
    good = True
    reference: list[float] = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        manifest = folder / "run.json"
        manifest.write_text(json.dumps(tiny_manifest(pack_tiny(folder), folder / "checkpoints")))
        for number, (name, (ranks, overrides)) in enumerate(LAYOUTS.items()):
            if ranks > devices:
                continue
            settings = [*model, f"training.steps={STEPS}", *overrides]
            rows = train(manifest, folder / str(number), ranks, settings)
            if not reference and not isinstance(rows, str):
                reference = [row["loss"] for row in rows]
            line, works = table_row(name, rows, reference, FP32_BAR if on_cpu else BF16_BAR)
            good = good and works
            print(line, flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
