"""A run from apply to Succeeded, and what it leaves behind when it is deleted."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from cluster.images import builder
from cluster.machine import packages
from demo.kube import ROOT, Kube
from tests.support.runs import Runs, changed, tiny

pytestmark = pytest.mark.system


def test_deletion_leaves_nothing(runs: Runs, name: str) -> None:
    """No finalizer, and no child of any kind a few seconds later."""
    runs.apply(tiny(name, runs.namespace, steps=2000))
    runs.wait_phase(name, "Running", seconds=180)
    found = runs.run(name)
    assert found is not None and "finalizers" not in found["metadata"]
    runs.delete(name)
    kinds = "pods,services,configmaps,secrets,controllerrevisions,poddisruptionbudgets"

    def gone() -> bool | None:
        listed = runs.kube.get(kinds, "-n", runs.namespace, "-l", f"footplate.dev/run={name}")
        return None if listed and listed["items"] else True

    runs.until("all children to be gone", gone, name, seconds=30)


def test_a_run_whose_time_is_over_goes_once_the_api_has_its_end(runs: Runs, name: str) -> None:
    """The operator asks the API as the caller that it is; what the API was told outlives the run."""
    ended = changed(tiny(name, runs.namespace), "data.uri", "/shared/data/nowhere")
    runs.apply(changed(ended, "ttlSecondsAfterFinished", 0))
    runs.until("the run to be deleted", lambda: True if runs.run(name) is None else None, name, seconds=60)
    events = f"/api/v1/namespaces/{runs.namespace}/events?fieldSelector=involvedObject.name%3D{name}"
    assert "FinalStatusLost" not in {event["reason"] for event in runs.ask.get(events)["items"]}
    kept = runs.api.get(f"/v1/namespaces/{runs.namespace}/runs/{name}")
    assert kept["phase"] == "Failed" and kept["endedAt"] and not kept["endEstimated"]


def test_the_api_names_the_sources_it_was_built_from(runs: Runs) -> None:
    """The revision in /version is the content key of the image."""
    key = builder.keyed_names()["api"].rpartition(":")[2]
    version = runs.until("the API to answer", lambda: runs.api.get("/version"), "no run", seconds=60)
    assert version["revision"] == key


def test_the_api_is_asked_as_readme_says(kube: Kube, tmp_path: Path) -> None:
    """The lines of README, as they are typed; what comes of them is an answer, and without a token none."""
    packages.install({"curl": "curl"})
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    lines = [line.removeprefix("$ ") for line in (ROOT / "README.md").read_text().splitlines()]
    first = lines.index(next(line for line in lines if "examples/reader.yaml" in line))
    typed = lines[first : lines.index("```", first)]
    [forward] = (line for line in typed if line.endswith("&"))
    ask = [line for line in typed if line is not forward]
    with subprocess.Popen(
        ["bash", "-c", f"exec {forward.removesuffix('&')}"],
        env=kube.environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as forwarding:
        try:
            assert forwarding.stdout is not None
            assert "8443" in forwarding.stdout.readline()
            answer = json.loads(shell("\n".join(ask), kube, tmp_path).splitlines()[-1])
            refused = json.loads(shell(re.sub(r'-H "[^"]*"', "", ask[-1]), kube, tmp_path))
        finally:
            forwarding.terminate()
    assert isinstance(answer["items"], list)
    assert refused["status"] == 401


def shell(script: str, kube: Kube, folder: Path) -> str:
    """What bash says to it there."""
    done = subprocess.run(
        ["bash", "-euc", script],
        cwd=folder,
        env=kube.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
