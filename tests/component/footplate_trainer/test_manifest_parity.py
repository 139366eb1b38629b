"""What an API server stores and says of a run, and what the trainer makes of the same file."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cluster.envtest import api_server
from footplate_trainer.manifest import ManifestRefused, parse_documents, parse_value, read_run
from footplate_trainer.overrides import override
from tests.component.contracts.kube import Kubectl

ROOT = Path(__file__).resolve().parents[3]

GOOD: dict[str, Any] = {
    "apiVersion": "footplate.dev/v1alpha1",
    "kind": "TrainingRun",
    "metadata": {"name": "good", "namespace": "default"},
    "spec": {
        "model": {
            "layers": 2,
            "hiddenSize": 64,
            "attentionHeads": 4,
            "vocabularySize": 512,
            "contextLength": 64,
        },
        "data": {"uri": "/data"},
        "training": {"steps": 20, "globalBatchSize": 8, "optimizer": {"learningRate": 0.001}},
        "compute": {"profile": "local-cpu"},
        "checkpoint": {"uri": "/checkpoints"},
    },
}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    with api_server(tmp_path_factory.mktemp("api-server")) as server:
        program = Kubectl(server.kubectl, server.kubeconfig)
        program("apply", "--server-side", "-f", "crds/")
        program("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/")
        yield program


def examples() -> list[Any]:
    return [
        pytest.param(path, id=path.stem)
        for path in sorted((ROOT / "examples").glob("*.yaml"))
        if "kind: TrainingRun" in path.read_text()
    ]


@pytest.mark.parametrize("path", examples())
def test_a_file_gets_the_same_values_and_defaults_from_both(kubectl: Kubectl, path: Path) -> None:
    text = kubectl("create", "--dry-run=server", "--output=json", "-f", str(path))
    items = json.loads(text).get("items") or [json.loads(text)]
    [stored] = [item for item in items if item["kind"] == "TrainingRun"]
    assert read_run(path).spec.to_json() == stored["spec"]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("training.globalBatchSize=9 training.microBatchSize=2", id="not-divisible"),
        pytest.param("training.optimizer.learningRate=0", id="zero-rate"),
        pytest.param("training.tokens=1000", id="tokens-and-steps"),
        pytest.param("training.steps=null", id="no-length"),
        pytest.param("training.schedule.warmupSteps=1000", id="warm-up-beyond-the-end"),
        pytest.param("model.family=gpt2", id="family"),
        pytest.param("model.attentionHeads=3", id="heads"),
        pytest.param("model.dropout.hidden=1e-7", id="small-double"),
        pytest.param("training.loss.labelSmoothing=0.25", id="double"),
        pytest.param("training.gradientClipNorm=-1.5", id="negative-double"),
        pytest.param("parallelism.tensor=2", id="axis"),
        pytest.param("compute.minNodes=3", id="nodes"),
        pytest.param("checkpoint.uri=s3://bucket/x", id="scheme"),
        pytest.param("resilience.budgets={Hung: 3}", id="cause"),
        pytest.param("model=null", id="no-model"),
        pytest.param("queue=research", id="later"),
    ],
)
def test_a_broken_rule_reads_the_same_from_both(kubectl: Kubectl, tmp_path: Path, change: str) -> None:
    # A value may hold a blank, a path may not: "a=1 b=2" is two changes, "a={b: 2}" is one.
    assignments = [change] if "{" in change else change.split()
    manifest = GOOD | {"spec": override(GOOD["spec"], assignments, parse_value)}
    path = tmp_path / "run.json"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ManifestRefused) as caught:
        read_run(path)
    assert sorted(caught.value.problems) == kubectl.refusal(manifest)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "examples" / "bad").glob("*.yaml")), ids=lambda path: path.stem
)
def test_a_bad_example_is_refused_by_both(kubectl: Kubectl, tmp_path: Path, path: Path) -> None:
    """Where the API server needs the old object or a profile, the trainer has nothing to say."""
    runs = [item for item in parse_documents(path.read_text()) if item["kind"] == "TrainingRun"]
    for manifest in runs:
        refused = bool(kubectl.refusal(manifest))
        file = tmp_path / "run.json"
        file.write_text(json.dumps(manifest))
        try:
            read_run(file)
        except ManifestRefused:
            assert refused
        else:
            assert not refused
