"""A file must mean here what it means to kubectl, and be refused in the same words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from footplate_contracts.runconfig import World
from footplate_trainer.manifest.run_file import InvalidManifest, RunFile, parse_documents, read_run

GOOD = """
apiVersion: footplate.dev/v1alpha1
kind: TrainingRun
metadata: {name: tiny, namespace: research}
spec:
  model: {layers: 2, hiddenSize: 64, attentionHeads: 4, vocabularySize: 4096, contextLength: 64}
  data: {uri: /data}
  training: {steps: 20, globalBatchSize: 8, microBatchSize: 2, optimizer: {learningRate: 6e-4}}
  compute: {profile: local-cpu}
  checkpoint: {uri: /checkpoints}
"""

Read = Callable[..., RunFile]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read_text(text: str, *overrides: str) -> RunFile:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return read_run(path, overrides)

    return read_text


def test_yaml_1_2_numbers_are_numbers(read: Read) -> None:
    run = read(GOOD)
    assert run.spec.training.optimizer.learning_rate == 0.0006
    assert (run.identity.name, run.identity.namespace, run.identity.uid) == ("tiny", "research", "")


def test_json_is_read_as_well(read: Read) -> None:
    [document] = parse_documents(GOOD)
    assert read(json.dumps(document, indent="\t")) == read(GOOD)


def test_defaults_are_those_of_the_contract(read: Read) -> None:
    config = read(GOOD).config(World(nodes=2))
    assert (config.model.feed_forward_size, config.model.key_value_heads) == (192, 4)
    assert (config.training.log_every_steps, config.world.nodes) == (10, 2)


def test_without_a_namespace_it_is_default(read: Read) -> None:
    assert read(GOOD.replace(", namespace: research", "")).identity.namespace == "default"


def test_other_documents_are_left_aside(read: Read) -> None:
    volume = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: shared}\n"
    assert read(f"{volume}---\n{GOOD}---\n") == read(GOOD)


def test_values_kubernetes_sees_as_integers_are_integers(read: Read) -> None:
    assert read(GOOD, "training.steps=1e2").spec.training.steps == 100
    assert read(GOOD, "training.steps=40.0").spec.training.steps == 40


def test_a_date_is_a_text(read: Read) -> None:
    assert parse_documents("a: 2026-01-01") == [{"a": "2026-01-01"}]
    assert read(GOOD.replace("{name: tiny,", "{name: tiny, labels: {since: 2026-01-01},"))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param(
            "a: [1\n", "line 2, column 1: expected ',' or ']', but got '<stream end>'", id="no-yaml"
        ),
        pytest.param("a: 1\na: 2\n", 'line 2, column 1: found duplicate key "a" with value "2"', id="twice"),
        pytest.param("a: !!binary aGk=\n", "b'hi' is a bytes, which JSON does not support", id="bytes"),
        pytest.param("a: !!set {b}\n", "is a set, which JSON does not support", id="a-set"),
        pytest.param("? [a, b]\n: 1\n", "('a', 'b') is not a key of a JSON object", id="a-list-as-key"),
        pytest.param("a: &a [*a]\n", "nested too deeply, or contains itself", id="holds-itself"),
        pytest.param("- " * 5000, "nested too deeply, or contains itself", id="too-deep"),
        pytest.param("a: !!python/name:os.system x\n", "could not determine a constructor", id="a-tag"),
        pytest.param("", "no document is of kind TrainingRun", id="empty"),
        pytest.param(
            "kind: Job\n---\n- 1\n", "no document is of kind TrainingRun, only Job", id="another-kind"
        ),
        pytest.param(f"{GOOD}---{GOOD}", "2 documents are of kind TrainingRun", id="two-runs"),
    ],
)
def test_a_file_without_one_run_is_refused(read: Read, text: str, problem: str) -> None:
    with pytest.raises(InvalidManifest) as caught:
        read(text)
    assert problem in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        pytest.param(
            "/v1alpha1",
            "/v1",
            'apiVersion: Invalid value: "footplate.dev/v1": must be "footplate.dev/v1alpha1"',
            id="version",
        ),
        pytest.param("{name: tiny,", "{", "metadata.name: Required value", id="no-name"),
        pytest.param("{name: tiny,", "{name: 5,", "metadata.name: Required value", id="a-number-as-name"),
        pytest.param(
            "namespace: research}", "namespace: 5}", "metadata.namespace: Invalid value: 5", id="namespace"
        ),
        pytest.param("spec:", "spec: 5\nx-spec:", "spec: Required value", id="no-spec"),
        pytest.param("\nspec:", "\nspce:", "spce: unknown field; did you mean spec?", id="misspelt"),
        pytest.param("name: tiny", "name: Tiny", "name Tiny must start with a letter", id="upper-case"),
        pytest.param(
            "steps: 20", "stepz: 20", "spec.training.stepz: unknown field; did you mean steps?", id="unknown"
        ),
        pytest.param(
            "globalBatchSize: 8",
            "global_batch_size: 8",
            "spec.training.global_batch_size: unknown field; did you mean globalBatchSize?",
            id="snake-case",
        ),
        pytest.param("layers: 2, ", "", "spec.model.layers: Required value", id="required"),
        pytest.param(
            "layers: 2",
            "layers: '2'",
            'Invalid value: "2": spec.model.layers in body must be of type integer: "string"',
            id="quoted",
        ),
        pytest.param(
            "layers: 2",
            "layers: 2.5",
            'Invalid value: 2.5: spec.model.layers in body must be of type integer: "number"',
            id="fraction",
        ),
        pytest.param(
            "steps: 20",
            "steps: 20, compile: yes",
            'Invalid value: "yes": spec.training.compile in body must be of type boolean: "string"',
            id="yes-is-no-boolean",
        ),
        pytest.param(
            "profile: local-cpu",
            "profile: local-cpu, nodes: -1",
            "Invalid value: -1: spec.compute.nodes in body should be greater than or equal to 1",
            id="negative",
        ),
        pytest.param(
            "6e-4",
            "6e-4, betas: [0.9]",
            "Invalid value: 1: spec.training.optimizer.betas in body should have at least 2 items",
            id="too-few",
        ),
        pytest.param(
            "steps: 20",
            "steps: 20, precision: fp8",
            'spec.training.precision: Unsupported value: "fp8": supported values: "fp32", "bf16"',
            id="closed-set",
        ),
        pytest.param(
            "microBatchSize: 2",
            "microBatchSize: 3",
            "spec.training.globalBatchSize: Invalid value: globalBatchSize 8 is not a multiple of",
            id="rule",
        ),
        pytest.param(
            "checkpoint: {uri: /checkpoints}",
            "checkpoint: {uri: /checkpoints}\n  queue: research",
            "spec.queue: Forbidden: queue is not supported by this release",
            id="later",
        ),
        pytest.param(
            "checkpoint: {uri: /checkpoints}",
            "checkpoint: {uri: /checkpoints}\n  initFrom: {run: {name: base}}",
            "spec.initFrom.run: Forbidden: run base is known only to a cluster's operator; set initFrom.uri "
            "to the folder instead",
            id="another-run",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place(read: Read, old: str, new: str, problem: str) -> None:
    assert old in GOOD
    with pytest.raises(InvalidManifest) as caught:
        read(GOOD.replace(old, new, 1))
    assert [found for found in caught.value.problems if problem in found]


def test_all_mistakes_are_told_at_once(read: Read) -> None:
    with pytest.raises(InvalidManifest) as caught:
        read(GOOD.replace("layers: 2, hiddenSize: 64", "layers: 0, hiddenSize: many"))
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "spec.model.layers",
        "spec.model.hiddenSize",
    ]
    assert str(caught.value).count("run.yaml: ") == 2


def test_an_override_is_held_to_the_same_rules(read: Read) -> None:
    with pytest.raises(InvalidManifest, match="globalBatchSize 9 is not a multiple of microBatchSize 2"):
        read(GOOD, "training.globalBatchSize=9")


@pytest.mark.parametrize(
    ("content", "problem"),
    [pytest.param(None, "No such file", id="missing"), pytest.param(b"\xff\xfe", "not UTF-8", id="binary")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, problem: str) -> None:
    path = tmp_path / "run.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidManifest, match=problem):
        read_run(path)


def test_what_two_rules_find_is_told_once(read: Read) -> None:
    grpo = (
        "stage=grpo",
        "rollout={maxTokens: 8, generationBatchSize: 10, numGenerations: 4}",
        "training.globalBatchSize=10",
    )
    with pytest.raises(InvalidManifest) as refusal:
        read(GOOD, *grpo, "reward.functions=[{name: short, length: {}}]")
    assert sum("not a multiple of numGenerations 4" in problem for problem in refusal.value.problems) == 1
