"""One row for each rule: how a good run is spoilt, and what the API server says to it."""

from __future__ import annotations

from footplate_contracts.names import Cause
from tests.component.contracts.chain_rows import CHAINS
from tests.component.contracts.layout_rows import LAYOUT
from tests.component.contracts.learning_rows import LEARNING
from tests.component.contracts.manifests import ABSENT
from tests.component.contracts.row import COMING, UNSUPPORTED, Row
from tests.component.contracts.stage_rows import STAGES

S3 = "s3://bucket/folder"
ON_A_VOLUME = f"{UNSUPPORTED}; use a path on a mounted volume"
ANOTHER_RUN = "cannot be changed; create another run instead"
SUSPEND = "cannot be changed while the run is active; set spec.suspend to true first"


def _only(path: str, value: object, remedy: str, shown: str | None = None) -> Row:
    """A value that a later release will allow."""
    field = path.rsplit(".", 1)[-1]
    said = shown if shown is not None else str(value).lower() if isinstance(value, bool) else str(value)
    complaint = f"spec.{path}: Forbidden: {field} {said} {UNSUPPORTED}; {remedy}"
    return Row(f"{path}-{said}", {path: value}, complaint)


CREATION: tuple[Row, ...] = (
    Row(
        "no-model",
        {"model": ABSENT},
        "spec.model: Required value: model is required: the shape of the network",
    ),
    Row(
        "no-data",
        {"data.uri": ABSENT},
        "spec.data.uri: Required value: uri is required: the folder that footplate-trainer pack wrote;"
        " or sources, for a mixture",
    ),
    # -- fields and values of later releases
    *COMING,
    _only("trainer.securityProfile", "baseline", "use restricted"),
    Row(
        "sink-elsewhere",
        {"telemetry": {"sinks": [{"name": "tensorboard", "uri": S3}]}},
        f"spec.telemetry.sinks[0].uri: Forbidden: uri {S3} {ON_A_VOLUME}",
    ),
    Row(
        "checkpoints-elsewhere",
        {"checkpoint.uri": "gs://bucket/folder"},
        f"spec.checkpoint.uri: Forbidden: uri gs://bucket/folder {ON_A_VOLUME} or s3://BUCKET/FOLDER",
    ),
    Row(
        "file-of-another-host",
        {"data.uri": "file://host/folder"},
        "spec.data.uri: Invalid value: uri file://host/folder names another host;"
        " write file:/// and a path on a mounted volume",
    ),
    # -- budget
    Row(
        "budget-of-nothing",
        {"budget": {"onExceeded": "Warn"}},
        "spec.budget.dollars: Required value: a budget limits dollars or carbonKilograms; set one of them",
    ),
    Row(
        "no-dollars",
        {"budget": {"dollars": 0}},
        "spec.budget.dollars: Invalid value: dollars must be above 0, not 0",
    ),
    Row(
        "no-carbon",
        {"budget": {"dollars": 5, "carbonKilograms": 0}},
        "spec.budget.carbonKilograms: Invalid value: carbonKilograms must be above 0, not 0",
    ),
    Row(
        "dollars-below-zero",
        {"budget": {"dollars": -1}},
        "spec.budget.dollars: Invalid value: -1: spec.budget.dollars in body should be greater than or equal"
        " to 0",
    ),
    Row(
        "budget-exceeded-in-another-way",
        {"budget": {"dollars": 5, "onExceeded": "Stop"}},
        'spec.budget.onExceeded: Unsupported value: "Stop": supported values: "Suspend", "Warn"',
    ),
    # -- data
    Row(
        "held-out-of-another-host",
        {"validation": {"uri": "file://host/folder", "everySteps": 5}},
        "spec.validation.uri: Invalid value: uri file://host/folder names another host;"
        " write file:/// and a path on a mounted volume",
    ),
    Row(
        "source-of-another-host",
        {"data.uri": ABSENT, "data.sources": [{"name": "a", "uri": "file://host/folder"}]},
        "spec.data.sources[0].uri: Invalid value: uri file://host/folder names another host;"
        " write file:/// and a path on a mounted volume",
    ),
    Row(
        "tokenizer-of-another-host",
        {"data.tokenizer": {"uri": "file://host/folder"}},
        "spec.data.tokenizer.uri: Invalid value: uri file://host/folder names another host;"
        " write file:/// and a path on a mounted volume",
    ),
    Row(
        "span-for-a-decoder",
        {"data.masking": {"name": "span"}},
        "spec.data.masking: Invalid value: masking span is for model.architecture encoder-decoder, not for"
        " decoder; change one of them, or remove masking",
    ),
    Row(
        "data-uri-and-sources",
        {"data.sources": [{"name": "a", "uri": "/a"}]},
        "spec.data.sources: Invalid value: uri /shared/data/python-docs and sources are both set; list all"
        " folders of a mixture in sources",
    ),
    Row(
        "sources-of-one-name",
        {"data.uri": ABSENT, "data.sources": [{"name": "a", "uri": "/a"}, {"name": "a", "uri": "/b"}]},
        "spec.data.sources: Invalid value: two sources have the same name; sources need distinct names, for"
        " their order and in metrics",
    ),
    Row(
        "source-without-weight",
        {"data.uri": ABSENT, "data.sources": [{"name": "a", "uri": "/a", "weight": 0}]},
        "spec.data.sources[0].weight: Invalid value: weight must be above 0, not 0",
    ),
    Row(
        "mlm-for-a-decoder",
        {"data.masking": {"name": "mlm"}},
        "spec.data.masking: Invalid value: masking mlm is for model.architecture encoder, not for decoder;"
        " change one of them, or remove masking",
    ),
    Row(
        "everything-hidden",
        {"data.masking": {"name": "mlm", "probability": 1}},
        "spec.data.masking.probability: Invalid value: probability must be above 0 and below 1, not 1",
    ),
    *(
        Row(
            f"no-{size}",
            {f"model.{size}": ABSENT},
            f"spec.model.{size}: Required value: {size} is required, unless initFrom names a folder"
            " that has it",
        )
        for size in ("layers", "hiddenSize", "attentionHeads", "vocabularySize")
    ),
    Row(
        "weights-of-another-host",
        {"initFrom": {"uri": "file://host/folder"}},
        "spec.initFrom.uri: Invalid value: uri file://host/folder names another host;"
        " write file:/// and a path on a mounted volume",
    ),
    Row(
        "warm-start-of-another-host",
        {"resumeFrom": {"uri": "file://host/folder"}},
        "spec.resumeFrom.uri: Invalid value: uri file://host/folder names another host;"
        " write file:/// and a path on a mounted volume",
    ),
    Row(
        "growing-from-nothing",
        {"model.resizeTokenEmbeddings": True},
        "spec.model.resizeTokenEmbeddings: Invalid value: resizeTokenEmbeddings adds rows to the embeddings"
        " of initFrom, which is not set; remove it",
    ),
    Row(
        "growing-to-nothing",
        {
            "initFrom": {"uri": "/models/one"},
            "model.resizeTokenEmbeddings": True,
            "model.vocabularySize": ABSENT,
        },
        "spec.model.vocabularySize: Required value: vocabularySize is required with resizeTokenEmbeddings:"
        " the new number of rows",
    ),
    # -- parts of a model that do not fit together
    *(
        Row(
            f"everything-dropped-{what}",
            {f"model.dropout.{what}": 1},
            f"spec.model.dropout.{what}: Invalid value: {what} must be below 1, not 1",
        )
        for what in ("hidden", "attention", "embedding")
    ),
    Row(
        "family-of-another-architecture",
        {"model.family": "gpt2", "model.architecture": "encoder"},
        "spec.model.architecture: Invalid value: family gpt2 is not of architecture encoder; remove one of"
        " them",
    ),
    Row(
        "rotary-encoder",
        {"model.family": "bert", "model.position.name": "rope"},
        "spec.model.position.name: Invalid value: position.name rope does not work with architecture"
        " encoder; remove it",
    ),
    Row(
        "learned-encoder-decoder",
        {"model.family": "t5", "model.position.name": "learned"},
        "spec.model.position.name: Invalid value: position.name learned does not work with architecture"
        " encoder-decoder; remove it",
    ),
    Row(
        "relative-decoder",
        {"model.position.name": "relative"},
        "spec.model.position.name: Invalid value: position.name relative does not work with architecture"
        " decoder; use rope or learned",
    ),
    Row(
        "stretched-learned-positions",
        {"model.family": "gpt2", "model.position.scaling": {"factor": 8}},
        "spec.model.position.scaling: Invalid value: position.scaling scales rotary frequencies, and the"
        " model has none; remove it",
    ),
    Row(
        "stretching-turned-around",
        {"model.position.scaling": {"factor": 8, "lowFrequencyFactor": 4, "highFrequencyFactor": 1}},
        "spec.model.position.scaling.lowFrequencyFactor: Invalid value: lowFrequencyFactor 4 must be below"
        " highFrequencyFactor 1",
    ),
    Row(
        "odd-buckets",
        {"model.position.buckets": 6},
        "spec.model.position.buckets: Invalid value: buckets 6 must be a multiple of 4 and at most twice"
        " maxDistance 128",
    ),
    Row(
        "window-of-an-encoder",
        {"model.family": "bert", "model.attention.slidingWindow": 64},
        "spec.model.attention.slidingWindow: Invalid value: attention.slidingWindow does not work with"
        " architecture encoder; remove it",
    ),
    Row(
        "second-chain-of-a-decoder",
        {"model.decoderLayers": 2},
        "spec.model.decoderLayers: Invalid value: decoderLayers does not work with architecture decoder;"
        " remove it",
    ),
    Row(
        "token-types-of-a-decoder",
        {"model.tokenTypes": 2},
        "spec.model.tokenTypes: Invalid value: tokenTypes does not work with architecture decoder; remove it",
    ),
    # -- numbers that do not fit together
    Row(
        "heads-not-dividing",
        {"model.hiddenSize": 66},
        "spec.model.hiddenSize: Invalid value: hiddenSize 66 is not a multiple of attentionHeads 4; change"
        " one of them, or set headSize",
    ),
    Row(
        "key-value-heads-not-dividing",
        {"model.keyValueHeads": 3},
        "spec.model.keyValueHeads: Invalid value: attentionHeads 4 is not a multiple of keyValueHeads 3;"
        " each key/value head serves the same number of attention heads",
    ),
    Row(
        "more-key-value-heads-than-heads",
        {"model.keyValueHeads": 8},
        "spec.model.keyValueHeads: Invalid value: attentionHeads 4 is not a multiple of keyValueHeads 8;"
        " each key/value head serves the same number of attention heads",
    ),
    Row(
        "odd-head",
        {"model.headSize": 15},
        "spec.model.hiddenSize: Invalid value: rotary positions need an even head size, not 15;"
        " change hiddenSize, attentionHeads or headSize",
    ),
    Row(
        "odd-head-by-division",
        {"model.hiddenSize": 60},
        "spec.model.hiddenSize: Invalid value: rotary positions need an even head size, not 15;"
        " change hiddenSize, attentionHeads or headSize",
    ),
    Row(
        "batch-not-divisible",
        {"training.microBatchSize": 3},
        "spec.training.globalBatchSize: Invalid value: globalBatchSize 8 is not a multiple of microBatchSize"
        " 3; every micro-batch of a step holds the same number of sequences",
    ),
    Row(
        "tokens-and-steps",
        {"training.tokens": 10240},
        "spec.training.tokens: Invalid value: tokens 10240 and steps 20 are both set; set one of them",
    ),
    Row(
        "no-length",
        {"training.steps": ABSENT},
        "spec.training.steps: Required value: the length of the training is missing; set steps or tokens",
    ),
    Row(
        "warmup-beyond-steps",
        {"training.schedule.warmupSteps": 21},
        "spec.training.schedule.warmupSteps: Invalid value: warmupSteps 21 is beyond the end of training at"
        " steps 20; lower it",
    ),
    Row(
        "warmup-beyond-tokens",
        {"training.steps": ABSENT, "training.tokens": 1025, "training.schedule.warmupSteps": 4},
        "spec.training.schedule.warmupSteps: Invalid value: warmupSteps 4 is beyond the end of training at"
        " tokens 1025, which are 3 steps; lower it",
    ),
    Row(
        "no-learning",
        {"training.optimizer.learningRate": 0},
        "spec.training.optimizer.learningRate: Invalid value: learningRate must be above 0, not 0",
    ),
    Row(
        "min-above-nodes",
        {"compute.minNodes": 3},
        "spec.compute.minNodes: Invalid value: minNodes 3 is above nodes 2; lower it, or raise nodes",
    ),
    Row(
        "max-below-nodes",
        {"compute.maxNodes": 1},
        "spec.compute.maxNodes: Invalid value: maxNodes 1 is below nodes 2; raise it, or lower nodes",
    ),
    Row(
        "min-above-max",
        {"compute.minNodes": 3, "compute.maxNodes": 1},
        "spec.compute.minNodes: Invalid value: minNodes 3 is above maxNodes 1; lower it, or raise maxNodes",
    ),
    Row(
        "pack-and-spread",
        {"compute.placement": {"pack": {"topologyKey": "rack"}, "spread": {"topologyKey": "zone"}}},
        "spec.compute.placement.spread: Forbidden: spread by zone contradicts pack into one rack;"
        " remove one of them",
    ),
    Row(
        "ranks-not-divisible",
        {"compute.nodes": 3, "compute.processesPerNode": 2, "parallelism.tensor": 4},
        "spec.compute.nodes: Invalid value: nodes x processesPerNode = 6 ranks cannot be divided into slices"
        " of tensor x pipeline x context = 4; change nodes or parallelism",
    ),
    *CHAINS,
    *LAYOUT,
    *LEARNING,
    *STAGES,
    Row(
        "unknown-cause",
        {"resilience.restartLimits": {"Hung": 5, "Hang": 5}},
        'spec.resilience.restartLimits: Invalid value: restartLimits has no cause ["Hung"]; causes are '
        + ", ".join(Cause),
    ),
)

# Each change of a run that exists; (row, allowed while the run is suspended).
UPDATES: tuple[tuple[Row, bool], ...] = (
    *(
        (Row(path, {path: value}, f"spec.{path}: Forbidden: {path} {ANOTHER_RUN}"), False)
        for path, value in {
            "stage": "sft",
            "model": {"layers": 3},
            "data": {"seed": 7},
            "training.seed": 7,
            "training.optimizer": {"learningRate": 1e-2},
            "training.globalBatchSize": 16,
            "training.loss": {"zLoss": 0.1},
            "training.schedule": {"warmupSteps": 5},
            "training.precision": "bf16",
            "training.deterministic": True,
            "checkpoint.uri": "/shared/checkpoints/other",
            "initFrom": {"uri": "/models/another"},
            "resumeFrom": {"uri": "/shared/checkpoints/another"},
            "preference": {},
            "reward": {},
            "reinforcement": {},
            "rollout": {"maxTokens": 16},
        }.items()
    ),
    *(
        (Row(path, {path: value}, f"spec.{path}: Forbidden: {path} {SUSPEND}"), True)
        for path, value in {
            "parallelism": {"sharding": "none"},
            "training.microBatchSize": 4,
            "compute.profile": "other",
            "compute.processesPerNode": 2,
            "priorityClassName": "high",
            "trainer": {"env": [{"name": "A", "value": "1"}]},
        }.items()
    ),
)

ALWAYS_ALLOWED: dict[str, dict[str, object]] = {
    "suspend": {"suspend": True},
    "more-steps": {"training.steps": 40},
    "fewer-steps": {"training.steps": 15},
    "steps-to-tokens": {"training.steps": ABSENT, "training.tokens": 10240},
    "save-more-often": {"checkpoint.everySteps": 5},
    "keep-more": {"checkpoint.keepLast": 5, "checkpoint.keepEverySteps": 100},
    "promoted": {"checkpoint.promoted": [{"name": "good", "step": 10}]},
    "restart-limits": {"resilience.restartLimits": {"Hang": 9}},
    "budget": {"budget": {"dollars": 5.5, "carbonKilograms": 0.1, "onExceeded": "Warn"}},
    "nodes": {"compute.nodes": 3},
    "bounds-added": {"compute.minNodes": 1, "compute.maxNodes": 3},
    "spares": {"compute.spares": 2},
    "hang": {"resilience.hang": {"factor": 2, "floorSeconds": 600}},
    "retention": {"podRetentionSeconds": 60, "ttlSecondsAfterFinished": 60},
}
