"""Every example means the same to the API server, to our models and to the trainer's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from footplate_contracts.lineage import run_references
from footplate_contracts.runconfig import RunConfig, RunIdentity, World, resolve
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.references import LineageEntry
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec
from footplate_trainer.manifest.run_file import InvalidManifest, read_run
from tests.component.contracts.kube import ROOT, Kubectl
from tests.component.contracts.manifests import run_manifest
from tests.component.contracts.row import Row
from tests.component.contracts.rows import CREATION
from tests.support.chart import rendered

IDENTITY, WORLD = RunIdentity(name="any"), World()


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a file, numbers as YAML 1.2 has them."""
    return list(YAML(typ="safe", pure=True).load_all(path.read_text()))


FILES = {
    path: [document for document in documents(path) if document["kind"] == "TrainingRun"]
    for path in sorted((ROOT / "examples").glob("*.yaml"))
}
RUNS = [pytest.param(run, id=run["metadata"]["name"]) for runs in FILES.values() for run in runs]
ALONE = [pytest.param(path, id=path.stem) for path, runs in FILES.items() if len(runs) == 1]


def config(spec: TrainingRunSpec) -> RunConfig:
    """The RunConfig, identity and world aside; any folder stands for other runs."""
    given = [LineageEntry(field=field, run="other", uid="u", uri="/other") for field in run_references(spec)]
    return resolve(spec, IDENTITY, WORLD, given)


def test_all_are_accepted(kubectl: Kubectl) -> None:
    """By one kubectl, which goes on after a file that is refused, and names it."""
    kubectl("apply", "--dry-run=server", *(f"--filename={path}" for path in FILES))


@pytest.mark.parametrize("written", RUNS)
def test_defaults_of_models_and_server_agree(kubectl: Kubectl, written: dict[str, Any]) -> None:
    stored = kubectl.tried(written)["spec"]
    spec = TrainingRunSpec.from_json(written["spec"])
    assert TrainingRunSpec.from_json(stored) == spec
    assert spec.to_json() == stored
    assert config(TrainingRunSpec.from_json(stored)).digest() == config(spec).digest()


@pytest.mark.parametrize(
    "part",
    ["parallelism", "resilience", "trainer", "data.packing", "training.loss", "training.schedule"]
    + [f"model.{part}" for part in ("norm", "bias", "position", "attention", "dropout", "initialization")],
)
def test_an_empty_part_has_all_defaults(kubectl: Kubectl, part: str) -> None:
    """`resilience: {}` is what no resilience is."""
    assert kubectl.tried(run_manifest({part: {}}))["spec"] == kubectl.tried(run_manifest())["spec"]


@pytest.mark.parametrize("path", ALONE)
def test_trainer_reads_what_kubectl_sends(kubectl: Kubectl, path: Path) -> None:
    (written,) = FILES[path]
    stored = TrainingRunSpec.from_json(kubectl.tried(written)["spec"])
    assert config(read_run(path).spec) == config(stored)


def test_six_times_ten_to_the_minus_four_is_a_number_for_both(kubectl: Kubectl, tmp_path: Path) -> None:
    """YAML 1.1 readers take 6e-4 for a text."""
    text = (ROOT / "examples" / "minimal.yaml").read_text()
    file = tmp_path / "run.yaml"
    file.write_text(text.replace("learningRate: 1e-3", "learningRate: 6e-4"))
    assert read_run(file).spec.training.optimizer.learning_rate == 0.0006
    rate = "jsonpath={.spec.training.optimizer.learningRate}"
    assert kubectl("create", "--dry-run=server", "-f", str(file), "-o", rate) == "0.0006"


@pytest.mark.parametrize("row", [pytest.param(row, id=row.name) for row in CREATION])
def test_trainer_refuses_what_the_server_refuses(tmp_path: Path, row: Row) -> None:
    """And in the same words."""
    file = tmp_path / "run.json"
    with file.open("w") as stream:
        YAML(typ="safe", pure=True).dump(run_manifest(row.changes), stream)
    with pytest.raises(InvalidManifest) as refused:
        read_run(file)
    assert row.complaint in refused.value.problems


def test_profiles_of_the_chart_are_stored_as_our_models_read_them(kubectl: Kubectl) -> None:
    profiles = [item for item in rendered() if item["kind"] == "ComputeProfile"]
    names = ["a100-infiniband", "h100-ethernet", "h100-infiniband", "local-cpu"]
    assert sorted(item["metadata"]["name"] for item in profiles) == names
    for profile in profiles:
        stored = kubectl.tried(profile | {"metadata": {"name": "copy"}})["spec"]
        assert ComputeProfileSpec.from_json(profile["spec"]).to_json() == stored
