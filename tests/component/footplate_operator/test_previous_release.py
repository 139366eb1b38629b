"""One release up and one down, with runs of every phase, on a real API server: no child is touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from cluster.kubernetes.envtest import ApiServer, api_server
from footplate_operator.runtime.kinds import NODE, POD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import (
    RIGHTS,
    Process,
    grant,
    kubeconfig_of,
    operator_process,
)
from tests.component.footplate_operator.planted import Planted, nodes, plant
from tests.support import audit
from tests.support.chart import CHART, NAMESPACE, rendered
from tests.support.operator_fakes import DEFAULTS, profile_manifest
from tests.support.released.found import STORIES, found
from tests.support.released.tree import previous_tree

HAND_OVER: Final = "footplate-hand-over"
NOT_TAKEN_OVER: Final = ("RevisionUnreadable", "StatusUnreadable", "CredentialsUnknown")
ENDED: Final = ("Succeeded", "Failed")
LIVE: Final = [
    story
    for story in map(found, STORIES)
    if story.phase not in ENDED and any(body["kind"] == POD.name for body in story.objects)
]
OPERATOR: Final = f"system:serviceaccount:{NAMESPACE}:footplate-operator"
# What it says of runs, and to whom; none of it is a child of one.
WORDS: Final = {
    "trainingruns/status",
    "computeprofiles/status",
    "usagerecords",
    "priceentries",
    "events",
}


@dataclass(frozen=True)
class World:
    """An API server with what every story left."""

    server: ApiServer
    requests: audit.Log
    runs: list[Planted]
    folder: Path

    def hand_over(self) -> str:
        """What `helm upgrade` runs first, with the rights that it has; what that says."""
        grant(self.server)
        home = Api(self.server.kubectl, self.server.kubeconfig, NAMESPACE)
        hooks = rendered("--set=operator.handOver=true")
        rights = [body for body in hooks if body["metadata"]["name"] == HAND_OVER and body["kind"] in RIGHTS]
        home.apply(*rights)
        token = home("create", "token", HAND_OVER).strip()
        environment = {
            **os.environ,
            "KUBECONFIG": str(kubeconfig_of(self.server, "hand-over", token)),
            "FOOTPLATE_NAMESPACE": NAMESPACE,
        }
        command = [sys.executable, "-m", "footplate_operator.trainingrun.handover"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def reign(self, identity: str, tree: Path | None = None) -> Process:
        """An operator leads until it has looked at every run; `tree`: of that checkout."""
        grant(self.server, CHART if tree is None else tree / "charts" / "footplate")
        with operator_process(
            self.server, self.folder, identity, api_url=DEFAULTS.api_url, tree=tree
        ) as process:
            wait_for(lambda: process.said("message=leading"), f"{identity} leads")
            wait_for(lambda: _has_looked(process, len(self.runs)), f"{identity} has looked at every run")
        return process


# Under the names of this release and of the previous one.
_LOOKS: Final = ("footplate_operator_controller_reconcile_total", "footplate_operator_reconciles_total")
_DEPTH: Final = ("footplate_operator_workqueue_depth", "footplate_operator_queue_runs")


def _has_looked(process: Process, runs: int) -> bool:
    _, text = process.ask("/metrics")
    counts = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    looks = sum(float(value) for name, value in counts.items() if name.startswith(_LOOKS))
    return looks >= runs and all(float(counts[name]) == 0 for name in _DEPTH if name in counts)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    notes = tmp_path / "audit"
    with api_server(tmp_path / "api-server", flags=audit.flags(notes)) as server:
        api = Api(server.kubectl, server.kubeconfig)
        api("apply", "--server-side", "-f", "crds/")
        api("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/")
        stories = [found(name) for name in STORIES]
        machines = [
            {"apiVersion": NODE.api_version, "kind": NODE.name, "metadata": {"name": name}}
            for name in nodes(stories)
        ]
        urgent = {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": "urgent"},
        }
        profile = profile_manifest()
        # One for each story, as runs of one profile take turns to wait for nodes.
        profiles = [
            {**profile, "metadata": {**profile["metadata"], "name": story.story}} for story in stories
        ]
        api.apply(*profiles, {**urgent, "value": 1000}, *machines)
        profile_name = profile["metadata"]["name"]
        runs = [plant(api, story, {profile_name: story.story}, DEFAULTS.api_url) for story in stories]
        yield World(server, audit.Log(notes), runs, tmp_path)


@pytest.fixture(scope="module")
def previous() -> Path:
    """The checkout of the previous release."""
    return previous_tree()


def test_one_release_up_and_one_down_touches_no_child(world: World, previous: Path) -> None:
    before = {run.story: run.children() for run in world.runs}
    phases = {run.story: run.api.status("tiny")["phase"] for run in world.runs}
    assert len(before) >= 20 and sum(map(len, before.values())) > 100
    for identity, tree in (("old", previous), ("new", None), ("old-again", previous)):
        # The recorded runs' credentials are of another key than this installation's.
        assert f"runs={len(LIVE)}" in world.hand_over()
        process = world.reign(identity, tree)
        touched = {
            run.story: set(run.children().items()) ^ set(before[run.story].items()) for run in world.runs
        }
        assert not {story: children for story, children in touched.items() if children}, identity
        written = {
            request.resource
            for request in world.requests.of(OPERATOR)
            if request.writes and request.namespace != NAMESPACE  # where its Lease and its key are
        }
        assert "trainingruns/status" in written and written <= WORDS, f"{identity}: {written - WORDS}"
        assert not process.said("undecodable") and not process.said("Traceback"), identity
        for run in world.runs:
            assert run.condition("Reconciled")["reason"] not in NOT_TAKEN_OVER, run
            assert run.api.status("tiny")["phase"] == phases[run.story], f"{identity}: {run.story}"
