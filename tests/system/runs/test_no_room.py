"""A node is lost and nothing can take its worker: the run goes on smaller, and grows once there is room."""

from __future__ import annotations

import subprocess

import pytest

from demo.kube import ROOT
from tests.support.placement import Room, index_of, node_of
from tests.support.processes import hold, patient, release, wait_joined
from tests.support.runs import Json, Runs, changed, check_same_history, tiny

pytestmark = [pytest.mark.system, pytest.mark.long]


@pytest.mark.alone
def test_a_run_without_room_shrinks_and_grows_again(
    runs: Runs, name: str, room: Room, mended: None, undisturbed: list[Json]
) -> None:
    """One of two nodes goes on alone until a third may be used; no loss changes and no step is lost."""
    size = {"profile": room.profile, "nodes": 2, "minNodes": 1}
    manifest = tiny(name, runs.namespace, steps=len(undisturbed))
    victim, stays = room.apply_apart(runs, patient(changed(manifest, "compute", size)))
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
    wait_joined(runs, alone, index=index_of(victim))
    release(runs, alone)

    status = runs.wait_phase(name, "Succeeded", seconds=300)
    check_same_history(runs.whole_history(name, len(undisturbed)), undisturbed)
    assert status["failures"] == {"NodeLost": 1}
    story = [(attempt["nodes"], attempt.get("reason")) for attempt in status["attempts"]]
    assert [nodes for nodes, _ in story] == [2, 1, 2] and story[1][1] == "Resized", story
    grown = substitute()
    assert grown is not None and node_of(grown) == third
