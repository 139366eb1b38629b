"""Which layouts the stages that read their answers (sft, reward, dpo) are compared on, and how."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from tests.support import layouts
from tests.support.layout_list import GPT2, LAYOUTS, LLAMA, PLAIN_ADAPTER, SGD, TIED, Layout
from tests.support.layouts import Distance, Trained, distance
from tests.support.stages import (
    CONTEXT,
    PAIRS_CONTEXT,
    UNEVEN_CONTEXT,
    pack_chats,
    pack_pairs,
    pack_preferences,
    pack_ratings,
)

ALONE: Final = Layout("one", 1, {})
FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "llama": LLAMA,
    "gpt2": GPT2,
    "adapter": PLAIN_ADAPTER,
    "tied": TIED,
    "noise": (*GPT2, "training.neftune=5"),
}
LISTED: Final[Mapping[str, Layout]] = {
    **{layout.name: layout for layout in LAYOUTS},
    "three": Layout("three", 3, {}),
    **{
        f"micro-batches-of-{size}": Layout(f"{size}", 1, {}, extra=(f"training.microBatchSize={size}",))
        for size in (2, 4)
    },
}
MICRO_BATCHES: Final = ("micro-batches-of-2", "micro-batches-of-4")
EVERYWHERE: Final = (
    *("full", "three", "tensor", "1f1b", "context", "tensor-full", "pipeline-tensor-full"),
    *MICRO_BATCHES,
)
# With momentum and a rate of 0.3 losses of so few pairs rise and fall, and rounding errors grow with them.
STEADY: Final = ("training.optimizer={name: sgd, learningRate: 0.1}",)
_DPO: Final = ("stage=dpo", f"model.contextLength={PAIRS_CONTEXT}")


@dataclass(frozen=True)
class Kind:
    """A stage with one of its losses."""

    asked: tuple[str, ...]
    pack: Callable[[Path], Path]
    optimizer: tuple[str, ...] = SGD
    families: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # with the layouts of each


@dataclass(frozen=True)
class StageDistance(Distance):
    """That of two runs of a stage, whose rows tell more than losses."""

    means: tuple[str, ...]  # names of those that are not the same in each step

    @property
    def is_small(self) -> bool:
        """Whether the two are the same run."""
        return super().is_small and not self.means


def _all(*more: str) -> dict[str, tuple[str, ...]]:
    return dict.fromkeys(("llama", "gpt2", "adapter"), (*EVERYWHERE, *more))


KINDS: Final[Mapping[str, Kind]] = {
    "sft": Kind(
        ("stage=sft", f"model.contextLength={CONTEXT}"),
        pack_chats,
        families=_all("tensor-context", "zbv") | {"noise": (*EVERYWHERE, "tensor-context")},
    ),
    "reward": Kind(
        ("stage=reward", f"model.contextLength={UNEVEN_CONTEXT}", "reward={centering: 0.01}"),
        pack_pairs,
        STEADY,
        dict.fromkeys(
            ("llama", "gpt2", "adapter", "tied"),
            (*EVERYWHERE, "interleaved-zero-bubble", "context-pipeline", "tensor-context", "zbv"),
        ),
    ),
    "sigmoid": Kind(_DPO, pack_preferences, families=_all("zbv", "tensor-context")),
    "kto": Kind(
        (
            "stage=dpo",
            "preference={loss: kto, beta: 0.4, undesirableWeight: 0.7}",
            f"model.contextLength={CONTEXT}",
        ),
        pack_ratings,
        families=_all("zbv") | {"gpt2": ("three", "tensor-context")},
    ),
    "ipo": Kind(
        (*_DPO, "preference={loss: ipo, beta: 0.5, logProbabilities: average}"),
        pack_preferences,
        families={"llama": MICRO_BATCHES, "gpt2": ("tensor-context", "three")},
    ),
    "orpo": Kind(
        (*_DPO, "preference.loss=orpo", "data.mask=all"),
        pack_preferences,
        families={"llama": MICRO_BATCHES, "gpt2": ("tensor-context", "three")},
    ),
    "simpo": Kind(
        (*_DPO, "preference.loss=simpo"),
        pack_preferences,
        families={"llama": MICRO_BATCHES, "adapter": ("pipeline-tensor-full",)},
    ),
}
ROWS: Final = tuple(
    (kind, family, layout)
    for kind, asked in KINDS.items()
    for family, names in asked.families.items()
    for layout in names
)


def of_kind(kind: str, family: str, layout: Layout, *more: str) -> Layout:
    """`layout` of a model of `family` that learns by `kind`."""
    model = (*FAMILIES[family], *KINDS[kind].asked)
    return Layout(layout.name, layout.ranks, layout.parallelism, model, (*layout.extra, *more))


class StageLayouts:
    """Trains layouts, and one process of each kind and family to compare them with; in its own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._shards: dict[Callable[[Path], Path], Path] = {}
        self._references: dict[tuple[str, str], Trained] = {}

    def shards(self, kind: str) -> Path:
        """What `kind` reads."""
        pack = KINDS[kind].pack
        if pack not in self._shards:
            there = self._folder / pack.__name__
            there.mkdir(parents=True)
            self._shards[pack] = pack(there)
        return self._shards[pack]

    def train(self, kind: str, family: str, layout: Layout, folder: Path, *more: str) -> Trained:
        """Five steps of `layout`."""
        asked = of_kind(kind, family, layout, *more)
        return layouts.train(asked, KINDS[kind].optimizer, self.shards(kind), folder)

    def apart(self, kind: str, family: str, name: str, folder: Path) -> StageDistance:
        """How far the layout of that name is from one process."""
        if (kind, family) not in self._references:
            there = self._folder / f"{kind}-{family}"
            self._references[kind, family] = self.train(kind, family, ALONE, there)
        reference = self._references[kind, family]
        trained = self.train(kind, family, LISTED[name], folder)
        return stage_distance(trained, reference)


def stage_distance(trained: Trained, reference: Trained) -> StageDistance:
    """How far `trained` is from `reference`, with what rows tell besides losses."""
    apart: set[str] = set()
    for ours, theirs in zip(trained.results, reference.results, strict=True):
        apart |= {
            name
            for name in ours.means.keys() | theirs.means.keys()
            if not _is_near(ours.means.get(name, math.nan), theirs.means.get(name, math.nan))
        }
    return StageDistance(**vars(distance(trained, reference)), means=tuple(sorted(apart)))


def _is_near(mean: float, expected: float) -> bool:
    """NaN is near nothing."""
    return abs(mean - expected) <= max(1e-6, 1e-4 * abs(expected))
