"""The chain of examples/rlhf.yaml on the cluster, and its last run again in one process of this machine."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import pytest
import yaml

from cluster.paths import layout
from demo.kube import ROOT
from footplate_trainer.manifest.run_file import parse_documents
from tests.support import processes
from tests.support.processes import Grip, stands_in_rollout, wait_for
from tests.support.runs import Json, Runs, changed, check_same_history

pytestmark = pytest.mark.system

DATA: Final = "examples/data-topics.yaml"
EXAMPLE: Final = "examples/rlhf.yaml"
LAST: Final = 12  # steps of its last run,
UPDATES: Final = 4  # of which so many follow each of its rollouts
REWARD: Final = "reward/sum"
DRAWN: Final = "rollout/tokens"


@dataclass(frozen=True)
class Chain:
    """The runs of the example, under names of this test's own, and the volume on this machine's disk."""

    manifests: dict[str, Json]  # by the ends of their names in the example: sft, reward, ppo
    shared: Path

    def name(self, stage: str) -> str:
        """Of the run."""
        found: str = self.manifests[stage]["metadata"]["name"]
        return found

    def here(self, uri: str) -> str:
        """Where this machine finds what is at `uri` to pods."""
        return uri.replace("/shared", str(self.shared), 1)


@pytest.fixture
def chain(runs: Runs) -> Iterator[Chain]:
    """All of it, applied at once."""
    runs.kube.kubectl("apply", "-n", runs.namespace, "--filename", DATA)
    packed = ("--for=condition=complete", "job/pack-topics", "--timeout=180s")
    runs.kube.kubectl("wait", "-n", runs.namespace, *packed)
    claim = runs.kube.get("pvc", "shared", "-n", runs.namespace) or {}
    shared = layout().shared / f"{runs.namespace}-shared-{claim['metadata']['uid'][:8]}"
    text = (ROOT / EXAMPLE).read_text().replace("rlhf-", f"t{uuid.uuid4().hex[:8]}-")
    manifests = {str(body["metadata"]["name"])[10:]: body for body in parse_documents(text)}
    manifests["ppo"] = _caught_easily(manifests["ppo"])
    found = Chain(manifests, shared)
    applied = yaml.safe_dump_all(manifests.values())
    runs.kube.kubectl("apply", "-n", runs.namespace, "--filename", "-", stdin=applied)
    yield found
    for stage in manifests:
        runs.delete(found.name(stage))


def _caught_easily(ppo: Json) -> Json:
    """`ppo` with rollouts that last longer, each of which begins when the checkpoint behind it is durable."""
    return changed(changed(ppo, "rollout.maxTokens", 96), "checkpoint.asynchronous", False)


def test_a_chain_ends_as_if_no_worker_of_it_had_been_lost(runs: Runs, chain: Chain, tmp_path: Path) -> None:
    """Each run waits for those that it names; a rollout goes on with the answers that outlived a worker."""
    for stage in ("reward", "ppo"):
        runs.wait_condition(chain.name(stage), "Ready", "False", "WaitingForRun", seconds=60)
        assert runs.status(chain.name(stage))["phase"] == "Queued" and not runs.pods(chain.name(stage))
    _check_trained(runs, chain.name("sft"))
    runs.wait_phase(chain.name("reward"), "Succeeded", seconds=300)
    given = {entry["field"]: entry for entry in _given(runs, chain)}
    with _in_one_process(chain, given, tmp_path) as twin:
        _kill_a_worker_in_a_rollout(runs, chain)
        status = runs.wait_phase(chain.name("ppo"), "Succeeded", seconds=300)
        assert status["restarts"] == 1 and status["world"]["nodes"] == 2
        assert twin.wait(300) == 0, (tmp_path / "output").read_text()
    expected = [json.loads(line) for line in (tmp_path / "rows").read_text().splitlines()]
    _check_same(runs, chain.name("ppo"), expected)
    _check_lineage(runs, chain, given)


def _check_trained(runs: Runs, name: str) -> None:
    """Loss falls, each step is in the history once; two workers on two nodes end by themselves."""
    status = runs.wait_phase(name, "Succeeded", seconds=300)

    def ended() -> list[datetime] | None:
        coordinators = runs.pods(name, "coordinator")
        pods = [*runs.pods(name), *coordinators]
        if not all(pod["status"]["phase"] in ("Succeeded", "Failed") for pod in pods):
            return None
        containers = [container for pod in pods for container in pod["status"]["containerStatuses"]]
        ends = [datetime.fromisoformat(entry["state"]["terminated"]["finishedAt"]) for entry in containers]
        # The operator deletes a coordinator that has nothing left to send: then it has ended by now.
        return ends if coordinators else [*ends, datetime.now(UTC)]

    ends = runs.until("every pod to have ended", ended, name, seconds=120)
    assert len(ends) >= 3
    # By clocks of the node and of the operator: how soon this test hears of it depends on the machine's load.
    assert max(ends) - datetime.fromisoformat(status["completionTime"]) <= timedelta(seconds=10)
    assert len({pod["spec"]["nodeName"] for pod in runs.pods(name)}) == 2
    rows = runs.whole_history(name, status["progress"]["totalSteps"])
    assert abs(rows[0]["loss"] - math.log(4096)) < 0.2
    assert rows[-1]["loss"] < math.log(4096) - 1.0
    assert status["progress"]["step"] == status["checkpoint"]["latestStep"] == len(rows)
    assert status["checkpoint"]["durable"]
    assert status["world"]["nodes"] == 2 and status["world"]["ranks"] == 4
    assert status.get("restarts", 0) == 0


def _given(runs: Runs, chain: Chain) -> list[Json]:
    """What the last run was given, once it is."""
    name = chain.name("ppo")
    found: list[Json] = runs.until("its lineage", lambda: runs.status(name).get("lineage"), name, seconds=60)
    return found


@contextmanager
def _in_one_process(chain: Chain, given: dict[str, Json], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The last run, without a cluster and undisturbed; ends with the block, whatever that raises."""
    alone = chain.manifests["ppo"]
    for field, entry in given.items():
        alone = changed(changed(alone, f"{field}.run", None), f"{field}.uri", chain.here(entry["uri"]))
    alone = changed(alone, "data.uri", chain.here(alone["spec"]["data"]["uri"]))
    alone = changed(alone, "checkpoint.uri", str(folder / "checkpoints"))
    (folder / "run.json").write_text(json.dumps(alone))
    command = ("train", str(folder / "run.json"), "--metrics", str(folder / "rows"))
    with (folder / "output").open("wb") as output:
        twin = subprocess.Popen(
            [sys.executable, "-m", "footplate_trainer", *command],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        yield twin
    finally:
        twin.kill()
        twin.wait()


def _kill_a_worker_in_a_rollout(runs: Runs, chain: Chain) -> None:
    """While its ranks have still to sample, and others of the rollout's answers are durable already.

    So is the checkpoint behind which the rollout begins: held ranks could not commit it, and from an older
    one the run would sample another rollout anew.
    """
    name = chain.name("ppo")
    checkpoints = Path(chain.here(chain.manifests["ppo"]["spec"]["checkpoint"]["uri"]))
    stays, goes = runs.wait_workers(name, 2, seconds=180)
    rollouts = checkpoints / "rollouts"
    wait_for(lambda: any(rollouts.glob("*/*.records")), 180)
    held, grip = processes.ranks(goes), Grip()  # found in time: a look for them may last as long as a rollout
    for begun in range(UPDATES, LAST, UPDATES):
        marker, journal = checkpoints / f"step-{begun}.committed", rollouts / f"{begun:010d}"
        wait_for(lambda at=marker, of=journal: at.exists() and any(of.glob("*.records")), 180, look=0.001)
        grip.stop(*held)
        if stands_in_rollout(runs, stays["metadata"]["name"]):
            processes.send(processes.main(goes), signal.SIGKILL)
            return
        grip.let_go()
    raise AssertionError(f"{name} was not caught in a rollout: {runs.explain(name)}")


def _check_same(runs: Runs, name: str, expected: list[Json]) -> None:
    """Rewards and losses are those of `expected`, though a rollout was sampled in two parts."""
    check_same_history(runs.whole_history(name, LAST), expected)
    path = f"/v1/namespaces/{runs.namespace}/runs/{name}/metrics?every=1&names={REWARD},{DRAWN}"
    values = runs.api.get(path)["values"]
    assert values[REWARD] == pytest.approx([row["values"][REWARD] for row in expected], abs=1e-5)
    # Of a rollout that went on with what was finished before, a row does not tell how much was drawn.
    whole = [row["step"] for row in expected if DRAWN in row["values"]]
    parts = [step for step in whole if values[DRAWN][step - 1] is None]
    assert len(whole) == LAST / UPDATES and len(parts) == 1, (whole, values[DRAWN])


def _check_lineage(runs: Runs, chain: Chain, given: dict[str, Json]) -> None:
    """The API knows the whole chain, and what data each of its runs read."""
    path = f"/v1/namespaces/{runs.namespace}/runs/{chain.name('ppo')}/lineage"
    told = runs.api.get(path)
    mine = {entry["field"]: entry for entry in told["ancestors"] if entry["depth"] == 1}
    assert {field: entry["digest"] for field, entry in mine.items()} == {
        field: entry["digest"] for field, entry in given.items()
    }
    assert {run["name"] for run in told["runs"]} == {chain.name(stage) for stage in chain.manifests}
    assert len({run["dataDigest"] for run in told["runs"]} - {None}) == len(chain.manifests)
