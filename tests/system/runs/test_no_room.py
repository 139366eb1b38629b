"""A node is lost and nothing can take its worker: the run goes on smaller, and grows once there is room."""

from __future__ import annotations

import copy
import json
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from demo.kube import ROOT, Kube
from tests.support.inside import hold, patient, release, wait_joined
from tests.support.placement import by_company, node_of
from tests.support.runs import Json, Runs, changed, check_same_history, tiny

pytestmark = [pytest.mark.system, pytest.mark.long]

LABEL = "footplate.dev/test-room"


@dataclass(frozen=True)
class Room:
    """Where workers of `profile` may be placed; pods that run stay wherever they are."""

    kube: Kube
    profile: str

    def everywhere(self) -> None:
        """On each node."""
        self.kube.kubectl("label", "nodes", "--all", "--overwrite", f"{LABEL}=yes")

    def only(self, *nodes: str) -> None:
        """On these nodes; without any, nowhere."""
        self.kube.kubectl("label", "nodes", "--all", f"{LABEL}-")
        for node in nodes:
            self.kube.kubectl("label", "node", node, f"{LABEL}=yes")


@pytest.fixture
def room(kube: Kube) -> Iterator[Room]:
    """A profile like local-cpu whose workers need a label of the node, which all have."""
    found = Room(kube, f"room-{uuid.uuid4().hex[:6]}")
    profile = kube.get("computeprofile", "local-cpu") or {}
    spec = copy.deepcopy(profile["spec"]) | {"scheduling": {"nodeSelector": {LABEL: "yes"}}}
    manifest = {**{key: profile[key] for key in ("apiVersion", "kind")}, "spec": spec}
    manifest["metadata"] = {"name": found.profile}
    kube.kubectl("apply", "--filename", "-", stdin=json.dumps(manifest))
    try:
        found.everywhere()
        yield found
    finally:
        found.only()
        kube.kubectl("delete", "computeprofile", found.profile)


@pytest.mark.alone
def test_a_run_without_room_shrinks_and_grows_again(
    runs: Runs, name: str, room: Room, mended: None, undisturbed: list[Json]
) -> None:
    """One of two nodes goes on alone until a third may be used; no loss changes and no step is lost."""
    size = {"profile": room.profile, "nodes": 2, "minNodes": 1}
    manifest = tiny(name, runs.namespace, steps=len(undisturbed))
    runs.apply(patient(changed(manifest, "compute", size)))
    victim, stays = by_company(runs, name)
    alone = stays["metadata"]["name"]
    hold(runs, alone, nodes=2, step=10)
    room.only()
    subprocess.run(["python3", "dev/cluster", "kill-node", node_of(victim)], cwd=ROOT, check=True)
    hold(runs, alone, nodes=1)

    def substitute() -> Json | None:
        known = (stays["metadata"]["uid"], victim["metadata"]["uid"])
        return next((pod for pod in runs.pods(name) if pod["metadata"]["uid"] not in known), None)

    waiting = runs.until("a substitute", substitute, name, seconds=180)
    assert (waiting["status"]["phase"], node_of(waiting)) == ("Pending", "")
    free = {node["metadata"]["name"] for node in (runs.kube.get("nodes") or {})["items"]}
    [third] = free - {node_of(stays), node_of(victim)}
    room.only(third)
    wait_joined(runs, alone, index=int(victim["metadata"]["labels"]["footplate.dev/index"]))
    release(runs, alone)

    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed), late_seconds=180), undisturbed)
    assert status["failures"] == {"NodeLost": 1}
    story = [(attempt["nodes"], attempt.get("reason")) for attempt in status["attempts"]]
    assert [nodes for nodes, _ in story] == [2, 1, 2] and story[1][1] == "Resized", story
    grown = substitute()
    assert grown is not None and node_of(grown) == third
