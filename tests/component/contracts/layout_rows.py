"""Rows for the rules of parallelism, alone and against the model's numbers."""

from __future__ import annotations

from tests.component.contracts.row import Row

LAYOUT: tuple[Row, ...] = (
    Row(
        "replicas-of-nothing",
        {"parallelism.replicas": 2},
        "spec.parallelism.replicas: Invalid value: replicas 2 needs sharding hybrid, not full; change"
        " one of them",
    ),
    Row(
        "virtual-stages-without-pipeline",
        {"parallelism": {"virtualStages": 2, "pipelineSchedule": "ZBV"}},
        "spec.parallelism.virtualStages: Invalid value: virtualStages 2 needs a pipeline of several ranks,"
        " not of 1",
    ),
    Row(
        "virtual-stages-of-a-plain-schedule",
        {"parallelism": {"pipeline": 2, "virtualStages": 2}, "model.layers": 4},
        "spec.parallelism.virtualStages: Invalid value: virtualStages 2: 1F1B has one stage on each rank;"
        " use Interleaved1F1B, InterleavedZeroBubble or ZBV",
    ),
    Row(
        "zbv-with-one-stage",
        {"parallelism": {"pipeline": 2, "pipelineSchedule": "ZBV"}},
        "spec.parallelism.virtualStages: Invalid value: virtualStages 1: ZBV has 2 stages on each rank",
    ),
    *(
        Row(
            f"tensor-{size}",
            {"parallelism.tensor": 4, **changes},
            f"spec.model.{size}: Invalid value: {size} {value} is not a multiple of parallelism.tensor 4;"
            " change one of them",
        )
        for size, value, changes in (
            ("attentionHeads", 2, {"model.attentionHeads": 2}),
            ("feedForwardSize", 90, {"model.feedForwardSize": 90}),
            ("vocabularySize", 4095, {"model.vocabularySize": 4095}),
        )
    ),
    Row(
        "tensor-vocabularySize-of-a-folder",
        {"parallelism.tensor": 4, "model.vocabularySize": 4095, "initFrom": {"uri": "/models/one"}},
        "spec.model.vocabularySize: Invalid value: vocabularySize 4095 is not a multiple of"
        " parallelism.tensor 4; change one of them; resizeTokenEmbeddings lets that of initFrom grow to a"
        " multiple",
    ),
    Row(
        "tensor-keyValueHeads",
        {"parallelism.tensor": 2, "model.attentionHeads": 6, "model.headSize": 16, "model.keyValueHeads": 3},
        "spec.model.keyValueHeads: Invalid value: keyValueHeads 3 and parallelism.tensor 2:"
        " one must be a multiple of the other",
    ),
    Row(
        "sequence-not-dividing",
        {"parallelism": {"tensor": 2, "context": 4}, "compute.nodes": 4, "model.contextLength": 60},
        "spec.model.contextLength: Invalid value: contextLength 60 cannot be split into equal pieces for"
        " context 4 x tensor 2; use a multiple of 8",
    ),
    Row(
        "fewer-layers-than-stages",
        {"parallelism.pipeline": 4},
        "spec.model.layers: Invalid value: layers 2 are fewer than the 4 stages of pipeline x virtualStages;"
        " each stage needs a layer",
    ),
    Row(
        "context-of-two-chains",
        {"parallelism.context": 2, "model.family": "t5"},
        "spec.parallelism.context: Invalid value: parallelism.context 2 does not work with an"
        " encoder-decoder, whose relative bias depends on distances in whole sequences; use 1",
    ),
    Row(
        "context-and-dropped-weights",
        {"parallelism.context": 2, "model.dropout.attention": 0.5},
        "spec.model.dropout.attention: Invalid value: parallelism.context 2 leaves no rank with all"
        " attention weights of a query, to which dropout.attention 0.5 applies; use context 1, or set it to"
        " 0",
    ),
    Row(
        "zero-bubble-of-two-chains",
        {
            "parallelism": {"pipeline": 2, "virtualStages": 2, "pipelineSchedule": "ZBV"},
            "model.family": "t5",
            "model.layers": 4,
        },
        "spec.parallelism.pipelineSchedule: Invalid value: pipelineSchedule ZBV cannot split the backward"
        " pass of an encoder-decoder, whose blocks share a relative bias; use GPipe, 1F1B or"
        " Interleaved1F1B",
    ),
)
