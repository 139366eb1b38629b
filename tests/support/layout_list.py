"""The layouts that are compared with one process; no torch, as the documentation is made from them too."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from footplate_contracts.runconfig import World
from footplate_planning.compatibility import Feature, features
from footplate_trainer.manifest.run_file import read_run
from tests.support.tiny import tiny_manifest

STEPS = 5
SGD = ("training.optimizer={name: sgd, learningRate: 0.3, momentum: 0.9}",)
# Adam divides a gradient by its size: where one is nothing but rounding errors, an epsilon below them makes
# whole updates of these. With the default, 1e-8, weights differ by up to 3e-5 after five steps.
ADAMW = ("training.optimizer={name: adamw, learningRate: 0.003, epsilon: 0.000001}",)
OPTIMIZERS: Mapping[str, tuple[str, ...]] = {"sgd": SGD, "adamw": ADAMW}

LLAMA: tuple[str, ...] = ()
TIED = ("model.tiedEmbeddings=true",)
MULTI_QUERY = ("model.keyValueHeads=1",)
WINDOW = ("model.family=mistral", "model.attention.slidingWindow=9")
GPT2 = ("model.family=gpt2", "model.keyValueHeads=null")
BERT = ("model.family=bert", "model.keyValueHeads=null", "data.masking={name: mlm}")
# T5 1.1's activation has no kink. With ReLU, a sum that is 0 but for rounding falls on either side of it, and
# Adam makes 5e-4 of a weight of that (tensor 2 x data 2), while momentum stays at 6e-8.
T5 = (
    "model.family=t5",
    "model.keyValueHeads=null",
    "model.activation=geglu",
    "data.masking={name: span}",
)
# Weights wide enough that no adapter's gradient is small beside Adam's epsilon: their Bs begin as zeros, so
# that after five steps they hold nothing but what Adam made of it.
_WIDE = "model.initialization.standardDeviation=0.2"
ADAPTER = ("model.adapter={rank: 4, alpha: 6, dropout: 0.1, targetModules: ['blocks.*', head]}", _WIDE)
PLAIN_ADAPTER = ("model.adapter={rank: 4, alpha: 8}", _WIDE)
# T5 does not scale its scores: with weights so wide, rounding errors grow a thousandfold on the way.
T5_ADAPTER = (
    "model.adapter={rank: 4, alpha: 24, targetModules: ['blocks.*', head]}",
    "model.initialization.standardDeviation=0.07",
)
DROPOUT = ("model.dropout={hidden: 0.1, embedding: 0.1}",)
DROP_ALL = ("model.dropout={hidden: 0.1, embedding: 0.1, attention: 0.1}",)


@dataclass(frozen=True)
class Layout:
    """A model on so many ranks, with fields of `parallelism` and further overrides."""

    name: str
    ranks: int
    parallelism: Mapping[str, object]
    model: tuple[str, ...] = LLAMA
    extra: tuple[str, ...] = ()  # what must not change the numbers

    @property
    def overrides(self) -> tuple[str, ...]:
        """For `tiny_config`."""
        fields = tuple(f"parallelism.{field}={value}" for field, value in self.parallelism.items())
        return (*self.model, *fields, *self.extra)

    def beside(self, optimizer: Sequence[str]) -> tuple[str, ...]:
        """The same with those of `optimizer`; a larger epsilon where Bs are nothing but Adam's quotients."""
        adapts = any(setting.startswith("model.adapter=") for setting in self.model)
        epsilon = ("training.optimizer.epsilon=0.001",) if adapts and ADAMW[0] in optimizer else ()
        return (*optimizer, *self.overrides, *epsilon)


def _pipeline(schedule: str, ranks: int = 2, stages: int = 1, **more: object) -> dict[str, object]:
    return {"pipeline": ranks, "virtualStages": stages, "pipelineSchedule": schedule, **more}


ZBV = _pipeline("ZBV", stages=2)
CUBE = _pipeline("1F1B", tensor=2)
ZERO_1 = {"sharding": "zero1"}
OFFLOADED = {"offload": "cpu"}
TWO_COPIES = {"sharding": "hybrid", "replicas": 2}
RECOMPUTED = ("training.activationCheckpointing=full",)
SELECTED = ("training.activationCheckpointing=selective",)
COMPILED = ("training.compile=true",)
LAYOUTS: tuple[Layout, ...] = (
    Layout("one", 1, {}),
    Layout("full", 2, {}),
    Layout("none", 2, {"sharding": "none"}),
    Layout("optimizer", 2, {"sharding": "zero1"}),
    Layout("hybrid", 4, {"sharding": "hybrid", "replicas": 2}),
    Layout("tensor", 2, {"tensor": 2}),
    Layout("tensor-4", 4, {"tensor": 4}),
    Layout("context", 2, {"context": 2}),
    Layout("gpipe", 2, _pipeline("GPipe")),
    Layout("1f1b", 2, _pipeline("1F1B")),
    Layout("interleaved", 2, _pipeline("Interleaved1F1B", stages=2)),
    Layout("interleaved-zero-bubble", 2, _pipeline("InterleavedZeroBubble", stages=2)),
    Layout("zbv", 2, ZBV),
    Layout("tensor-full", 4, {"tensor": 2}),
    Layout("tensor-none", 4, {"tensor": 2, "sharding": "none"}),
    Layout("tensor-optimizer", 4, {"tensor": 2, "sharding": "zero1"}),
    Layout("tensor-hybrid", 8, {"tensor": 2, "sharding": "hybrid", "replicas": 2}),
    Layout("tensor-context", 4, {"tensor": 2, "context": 2}),
    Layout("context-full", 4, {"context": 2}),
    Layout("context-none", 4, {"context": 2, "sharding": "none"}),
    Layout("context-pipeline", 4, _pipeline("1F1B", context=2)),
    Layout("pipeline-full", 4, _pipeline("1F1B")),
    Layout("pipeline-none", 4, _pipeline("1F1B", sharding="none")),
    Layout("pipeline-optimizer", 4, _pipeline("1F1B", sharding="zero1")),
    Layout("pipeline-hybrid", 8, _pipeline("1F1B", sharding="hybrid", replicas=2)),
    Layout("pipeline-4", 4, _pipeline("1F1B", ranks=4)),
    Layout("pipeline-tensor-full", 8, CUBE),
    Layout("pipeline-tensor-context", 8, {**CUBE, "context": 2}),
    Layout("zbv-tensor-full", 8, {**ZBV, "tensor": 2}),
    Layout("tied-tensor", 2, {"tensor": 2}, TIED),
    Layout("tied-pipeline", 2, _pipeline("1F1B"), TIED),
    Layout("tied-zbv-tensor-full", 8, {**ZBV, "tensor": 2}, TIED),
    Layout("multi-query-tensor-4", 4, {"tensor": 4}, MULTI_QUERY),
    Layout("multi-query-cube", 8, CUBE, MULTI_QUERY),
    Layout("window-context", 2, {"context": 2}, WINDOW),
    Layout("gpt2-cube", 8, CUBE, GPT2),
    Layout("gpt2-zbv-tensor", 4, {**ZBV, "tensor": 2}, GPT2),
    Layout("gpt2-tensor-context", 4, {"tensor": 2, "context": 2}, GPT2),
    Layout("bert-cube", 8, CUBE, BERT),
    Layout("bert-context", 2, {"context": 2}, BERT),
    Layout("t5-tensor", 2, {"tensor": 2}, T5),
    Layout("t5-cube", 8, CUBE, T5),
    Layout("t5-interleaved", 2, _pipeline("Interleaved1F1B", stages=2), T5),
    Layout("gpt2-dropout-cube", 8, CUBE, (*GPT2, *DROP_ALL)),
    Layout("t5-dropout-tensor-full", 4, {"tensor": 2}, (*T5, *DROP_ALL)),
    Layout("dropout-tensor-context", 4, {"tensor": 2, "context": 2}, DROPOUT),
    Layout("recompute-full", 4, CUBE, extra=("training.activationCheckpointing=full",)),
    Layout("recompute-selective", 4, {"tensor": 2}, extra=("training.activationCheckpointing=selective",)),
    Layout("recompute-context", 2, {"context": 2}, extra=("training.activationCheckpointing=full",)),
    Layout("eager-tensor-context", 4, {"tensor": 2, "context": 2}, extra=("model.attention.backend=eager",)),
    Layout("offload-cube", 8, {**CUBE, **OFFLOADED}),
    Layout("offload-context", 2, {"context": 2, **OFFLOADED}),
    Layout("offload-adapter-tensor", 4, {"tensor": 2, **OFFLOADED}, ADAPTER),
    Layout("offload-gpipe-none-tied", 4, {**_pipeline("GPipe", sharding="none"), **OFFLOADED}, TIED),
    Layout(
        "offload-interleaved-optimizer-t5-dropout",
        4,
        {**_pipeline("Interleaved1F1B", stages=2), **ZERO_1, **OFFLOADED},
        (*T5, *DROP_ALL),
    ),
    Layout(
        "offload-zero-bubble-hybrid",
        8,
        {**_pipeline("InterleavedZeroBubble", stages=2), **TWO_COPIES, **OFFLOADED},
    ),
    Layout("offload-zbv", 4, {**ZBV, **OFFLOADED}),
    Layout("offload-compiled-recompute", 2, OFFLOADED, extra=(*COMPILED, *RECOMPUTED)),
    Layout("compiled", 2, {}, extra=COMPILED),
    Layout("dropout-compiled", 2, {}, DROPOUT, extra=COMPILED),
    Layout("adapter-tensor-full", 4, {"tensor": 2}, ADAPTER),
    Layout("adapter-tensor-context", 4, {"tensor": 2, "context": 2}, ADAPTER),
    Layout("adapter-few-heads", 4, {"tensor": 4}, ADAPTER),
    Layout("adapter-optimizer", 2, {"sharding": "zero1"}, ADAPTER),
    Layout("adapter-hybrid", 4, {"sharding": "hybrid", "replicas": 2}, ADAPTER),
    Layout("adapter-gpipe-none", 4, _pipeline("GPipe", sharding="none"), ADAPTER),
    Layout("adapter-cube", 8, CUBE, ADAPTER),
    Layout("adapter-recompute", 4, CUBE, ADAPTER, extra=("training.activationCheckpointing=full",)),
    Layout("adapter-interleaved", 2, _pipeline("Interleaved1F1B", stages=2), ADAPTER),
    Layout("adapter-zero-bubble", 2, _pipeline("InterleavedZeroBubble", stages=2), ADAPTER),
    Layout("adapter-zbv-tensor-full", 8, {**ZBV, "tensor": 2}, ADAPTER),
    Layout("adapter-compiled", 2, {}, ADAPTER, COMPILED),
    Layout("adapter-gpt2-cube", 8, CUBE, (*GPT2, *PLAIN_ADAPTER)),
    Layout("adapter-t5-dropout", 2, {}, (*T5, *DROP_ALL, *T5_ADAPTER)),
    Layout("interleaved-4", 2, _pipeline("Interleaved1F1B", stages=4), ("model.layers=8",)),
    # Pairs that none of the above has, several in each.
    Layout(
        "gpipe-context-none-tied-recompute",
        4,
        _pipeline("GPipe", context=2, sharding="none"),
        TIED,
        RECOMPUTED,
    ),
    Layout(
        "gpipe-tensor-optimizer-t5-dropout-recompute",
        8,
        _pipeline("GPipe", tensor=2, sharding="zero1"),
        (*T5, *DROP_ALL),
        SELECTED,
    ),
    Layout("gpipe-hybrid-t5", 8, {**_pipeline("GPipe"), **TWO_COPIES}, T5),
    Layout(
        "interleaved-hybrid-gpt2-dropout-recompute",
        8,
        {**_pipeline("Interleaved1F1B", stages=2), **TWO_COPIES},
        (*GPT2, *DROP_ALL),
        RECOMPUTED,
    ),
    Layout(
        "interleaved-context-optimizer", 4, {**_pipeline("Interleaved1F1B", stages=2, context=2), **ZERO_1}
    ),
    Layout(
        "interleaved-tensor-none-t5-dropout",
        8,
        _pipeline("Interleaved1F1B", stages=2, tensor=2, sharding="none"),
        (*T5, *DROP_ALL),
    ),
    Layout(
        "zero-bubble-context-none-tied",
        4,
        _pipeline("InterleavedZeroBubble", stages=2, context=2, sharding="none"),
        TIED,
    ),
    Layout(
        "zero-bubble-tensor-optimizer-gpt2-dropout",
        8,
        {**_pipeline("InterleavedZeroBubble", stages=2, tensor=2), **ZERO_1},
        (*GPT2, *DROP_ALL),
    ),
    Layout("zero-bubble-hybrid", 8, {**_pipeline("InterleavedZeroBubble", stages=2), **TWO_COPIES}),
    Layout("zbv-context-none", 4, {**ZBV, "context": 2, "sharding": "none"}),
    Layout("zbv-optimizer-gpt2-dropout", 4, {**ZBV, **ZERO_1}, (*GPT2, *DROP_ALL)),
    Layout("zbv-hybrid", 8, {**ZBV, **TWO_COPIES}),
    Layout("context-hybrid", 4, {"context": 2, **TWO_COPIES}),
    Layout("recompute-optimizer", 2, ZERO_1, extra=RECOMPUTED),
    Layout("compiled-none-t5-recompute", 2, {"sharding": "none"}, T5, (*COMPILED, *RECOMPUTED)),
    Layout("compiled-cube-gpt2-dropout", 4, CUBE, (*GPT2, *DROP_ALL), COMPILED),
    Layout(
        "compiled-gpipe-context-optimizer", 4, {**_pipeline("GPipe", context=2), **ZERO_1}, extra=COMPILED
    ),
    Layout(
        "compiled-interleaved-hybrid",
        4,
        {**_pipeline("Interleaved1F1B", stages=2), **TWO_COPIES},
        extra=COMPILED,
    ),
)
BF16 = ("training.precision=bf16",)
# Compared with fp32 at 3e-3; dropped the same places, but rounding is another.
IN_BF16: tuple[Layout, ...] = (
    Layout("tensor-context", 4, {"tensor": 2, "context": 2}, extra=BF16),
    Layout("pipeline-tensor-full", 8, CUBE, extra=BF16),
    Layout("zbv", 2, ZBV, extra=BF16),
    Layout("gpipe-none-recompute", 4, _pipeline("GPipe", sharding="none"), TIED, (*BF16, *RECOMPUTED)),
    Layout("interleaved-optimizer", 4, {**_pipeline("Interleaved1F1B", stages=2), **ZERO_1}, extra=BF16),
    Layout(
        "zero-bubble-hybrid", 8, {**_pipeline("InterleavedZeroBubble", stages=2), **TWO_COPIES}, extra=BF16
    ),
    Layout("t5-dropout-full", 2, {}, (*T5, *DROP_ALL), BF16),
    Layout("compiled", 2, {}, extra=(*BF16, *COMPILED)),
    Layout("offload", 2, OFFLOADED, extra=BF16),
    Layout("adapter-tensor", 2, {"tensor": 2}, ADAPTER, BF16),
)


def tested_pairs() -> set[frozenset[Feature]]:
    """Pairs of features that some layout of the list has."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.json"
        path.write_text(json.dumps(tiny_manifest(Path(folder), Path(folder))))
        asked = [
            features(read_run(path, ("model.layers=4", *layout.overrides)).config(World()))
            for layout in (*LAYOUTS, *IN_BF16)
        ]
    return {frozenset(pair) for names in asked for pair in combinations(names, 2)}
