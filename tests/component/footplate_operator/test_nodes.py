"""Nodes as the operator sees them with the rights that the chart gives it."""

from __future__ import annotations

from footplate_operator.runtime.kinds import POD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process
from tests.component.footplate_operator.kubelet import Node
from tests.support.operator_fakes import run_manifest


def test_an_announced_end_moves_the_worker_that_is_there(
    operator: Process, api: Api, node: Node, machine: str
) -> None:
    body = run_manifest()
    body["metadata"] = {"name": "tiny", "namespace": api.namespace}
    body["spec"]["training"]["steps"] = 400
    api.apply(body)
    wait_for(lambda: api.status("tiny").get("phase") == "Running", "it trains")
    api.bind("tiny-w1-0", machine)
    api("taint", "node", machine, "aws-node-termination-handler/spot-itn=true:NoSchedule")
    wait_for(lambda: "tiny-w1-1" in api.names(POD), "a substitute is made")
    wait_for(lambda: "tiny-w1-0" not in api.names(POD), "the first one has left")
    wait_for(lambda: api.status("tiny")["restarts"] == 1, "it goes on elsewhere")
    assert "tiny-w0-0" in api.names(POD)
    assert operator.said("forbidden") == 0 and "Traceback" not in operator.log.read_text()
