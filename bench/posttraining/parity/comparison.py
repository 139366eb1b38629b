"""How far a run of ours is from the same training by another program, which both tests and a command ask."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from bench.posttraining.parity.golden import Recorded, sums
from bench.posttraining.parity.oracle import Seen
from bench.posttraining.parity.stages import CONTEXT, OF_A_STEP, OPTIMIZERS, Case, case_of
from safetensors.torch import load_file
from torch import Tensor

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.names import ExitCode
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.data import order
from footplate_trainer.data.conversation_dataset import ConversationDataset
from footplate_trainer.data.layout import RecordKind
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.huggingface.export import export_checkpoint
from tests.support.ranks import run_ranks
from tests.support.stages import pack_conversations
from tests.support.tiny import tiny_config
from tests.support.training import Ended, FakeAgent, train_under

SEED: Final = 3  # of the data's order
# AdamW divides a gradient by its size: TRL's weights differ from themselves by more than this between
# micro-batches, and without bound where the true gradient is 0. There losses and norms judge.
LOSS, NORM, WEIGHTS = 2e-6, 1e-5, 1e-5
_NO_NORM: Final = 1e-7  # a hinge that is closed has none


@dataclass(frozen=True)
class Deviations:
    """The largest of a run's steps."""

    loss: float  # absolute; of losses above 4 relative to a quarter of them, which is what fp32 can tell
    norm: float  # relative
    weights: float | None  # absolute, after the last step; None where they do not judge

    @property
    def are_small(self) -> bool:
        """Whether the two are the same training."""
        return self.loss <= LOSS and self.norm <= NORM and (self.weights is None or self.weights <= WEIGHTS)


@dataclass(frozen=True)
class Compared:
    """A run of ours, and how far it was."""

    found: Deviations
    rows: list[StepMetrics]


def in_the_order_of(rows: Sequence[Mapping[str, Any]], file: Path) -> Path:
    """The rows in a file, so that the order of samples makes of them the sequence that they are in here."""
    places = order.sample_ids(SEED, np.arange(len(rows), dtype=np.int64), len(rows))
    placed = dict(zip(places.tolist(), rows, strict=True))
    file.write_text("".join(json.dumps(placed[place]) + "\n" for place in range(len(rows))))
    return file


def deviations(
    rows: Sequence[StepMetrics], told: Seen | Recorded, checkpoints: Path, *, weights: bool = True
) -> Deviations:
    """Of `rows`, and of the newest of `checkpoints` where `weights` judge, from what was `told`."""
    losses = zip(rows, told.losses, strict=True)
    norms = zip(rows, told.gradient_norms, strict=True)
    return Deviations(
        loss=largest(abs(row.loss - expected) / max(1.0, expected / 4) for row, expected in losses),
        norm=largest(abs(row.gradient_norm - expected) / max(expected, _NO_NORM) for row, expected in norms),
        weights=_apart(checkpoints, told) if weights else None,
    )


def _apart(checkpoints: Path, told: Seen | Recorded) -> float:
    """The largest difference of any weight, or of any sum of them."""
    exported = checkpoints.with_name("exported")
    export_checkpoint(find_newest_whole(str(checkpoints)), exported)
    ours = load_file(str(exported / "model.safetensors"))
    if isinstance(told, Recorded):
        return largest(abs(a - b) for a, b in zip(sums(ours), told.weights[-1], strict=True))
    expected = load_file(str(told.weights[-1]))
    assert ours.keys() == expected.keys()
    return furthest(ours, expected)


def furthest(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> float:
    """The largest difference of tensors of the same names; NaN where there is one."""
    return largest((ours[name] - weight).abs().max().item() for name, weight in theirs.items())


def largest(deviations: Iterable[float]) -> float:
    """Of them; NaN where one is, which Python's max passes over."""
    return float(np.max([*deviations]))


def compared(
    name: str, told: Seen | Recorded, model: Path, folder: Path, *, ranks: int = 1, micro_batch: int = 1
) -> Compared:
    """Our training of that name (`stages.NAMES`), which begins with `model`, with TRL's."""
    case, optimizer = case_of(name)
    overrides = [
        *case.ours,
        f"initFrom={{uri: {model}}}",
        f"model={{contextLength: {CONTEXT}}}",
        f"data.seed={SEED}",
        f"data.packing.enabled={str(case.packed).lower()}",
        f"training.steps={len(told.losses)}",
        f"training.microBatchSize={micro_batch}",
        f"training.optimizer={OPTIMIZERS[optimizer].ours}",
        "training.schedule={name: constant}",
        "training.gradientClipNorm=0",
    ]
    shards = _packed(case, model, folder)
    step = len(ConversationDataset(TokenShards.open(str(shards)), CONTEXT)) if case.packed else OF_A_STEP
    config = tiny_config(shards, folder, [*overrides, f"training.globalBatchSize={step}"])
    end: Ended = run_ranks(train_under, ranks, FakeAgent(), config)[0]
    assert end.code == ExitCode.SUCCESS, end.stderr
    rows = end.agent.rows
    return Compared(deviations(rows, told, folder / "checkpoints", weights=optimizer == "sgd"), rows)


def _packed(case: Case, model: Path, folder: Path) -> Path:
    source = in_the_order_of(case.rows, folder / "rows.jsonl")
    masked = {"mask": case.mask} if case.format is RecordKind.CHAT else {}
    return pack_conversations(source, folder / "shards", model, format=case.format, **masked)
