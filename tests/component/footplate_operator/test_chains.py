"""A chain before a real API server: its rules, its status by server-side apply, and a watch that wakes."""

from __future__ import annotations

from typing import Any

from footplate_operator.runtime.kinds import POD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process
from tests.component.footplate_operator.kubelet import Node
from tests.support.connection import Json
from tests.support.operator_fakes import run_manifest


def _run(api: Api, name: str, steps: int, **spec: Any) -> Json:
    own = {"uri": f"/shared/{name}", "everySteps": 10}
    compute = {"profile": "local-cpu", "nodes": 1}
    body = run_manifest(name, **{"checkpoint": own, "compute": compute, **spec})
    body["metadata"] = {"name": name, "namespace": api.namespace}
    body["spec"]["training"]["steps"] = steps
    return body


def _reason(api: Api, name: str) -> str:
    conditions = api.status(name).get("conditions", [])
    return next((found["reason"] for found in conditions if found["type"] == "Ready"), "")


def test_a_run_waits_for_another_and_is_given_its_last_checkpoint(
    operator: Process, api: Api, node: Node
) -> None:
    api.apply(_run(api, "next", 20, initFrom={"run": {"name": "base"}}))
    wait_for(lambda: _reason(api, "next") == "RunNotFound", "that there is no such run", 20)
    api.apply(_run(api, "base", 30))
    wait_for(lambda: _reason(api, "next") == "WaitingForRun", "that it waits", 20)
    assert not [name for name in api.names(POD) if name.startswith("next-")]
    followers = wait_for(lambda: api.status("base").get("followers"), "who waits for it", 20)
    assert [follower["name"] for follower in followers] == ["next"]

    for name in ("base", "next"):  # each of them starts, trains and ends
        wait_for(lambda name=name: api.status(name).get("phase") == "Succeeded", f"the end of {name}", 120)
    assert api.status("next")["progress"]["step"] == 20
    (entry,) = api.status("next")["lineage"]
    latest = api.status("base")["checkpoint"]
    directory = latest["uri"].rpartition("/")[2]
    assert (entry["step"], entry["uri"]) == (30, f"/shared/base/{directory}")
    wait_for(lambda: "followers" not in api.status("base"), "that nobody stands on it", 20)
    assert "Traceback" not in operator.log.read_text()
