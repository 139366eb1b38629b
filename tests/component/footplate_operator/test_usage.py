"""What pods used is recorded by Kubernetes' times, with the rights that the chart gives the operator."""

from __future__ import annotations

from pathlib import Path

from cluster.kubernetes.envtest import ApiServer
from footplate_contracts.v1alpha1.usagerecord import PodUsage, UsageRecordSpec
from footplate_operator.runtime.kinds import NODE, POD
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.writes import USAGE_RECORD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import operator_process
from tests.component.footplate_operator.kubelet import Node
from tests.support.connection import Json
from tests.support.operator_fakes import run_manifest

WORKERS = ("tiny-w0-0", "tiny-w1-0")


def record(api: Api, name: str) -> UsageRecordSpec | None:
    body = api.get(USAGE_RECORD, name)
    return None if body is None else UsageRecordSpec.from_json(body["spec"])


def entries(api: Api, uid: str) -> dict[str, PodUsage]:
    """By the name of the pod."""
    found = record(api, f"{uid}-0")
    return {} if found is None else {pod.name: pod for pod in found.pods.values()}


def bound(pod: Json) -> str:
    [condition] = [known for known in pod["status"]["conditions"] if known["type"] == "PodScheduled"]
    return str(condition["lastTransitionTime"])


def finished(pod: Json) -> str:
    return str(pod["status"]["containerStatuses"][0]["state"]["terminated"]["finishedAt"])


def test_usage_outlives_operator_pods_and_run(
    server: ApiServer, api: Api, node: Node, machine: str, tmp_path: Path
) -> None:
    body = run_manifest()
    body["metadata"] = {"name": "tiny", "namespace": api.namespace}
    body["spec"]["training"]["steps"] = 2000
    with operator_process(server, tmp_path, "first") as first:
        api.apply(body)
        wait_for(lambda: api.status("tiny").get("phase") == "Running", "it trains")
        for name in WORKERS:
            api.bind(name, machine)
        uid = (api.get(TRAINING_RUN, "tiny") or {})["metadata"]["uid"]
        wait_for(lambda: set(WORKERS) <= entries(api, uid).keys(), "its workers are recorded")
        first.process.kill()
    starts = {pod["metadata"]["name"]: bound(pod) for pod in api.find(POD) if pod["spec"].get("nodeName")}
    machine_uid = (api.get(NODE, machine) or {})["metadata"]["uid"]
    node.kill("tiny-w1-0")
    ended = finished(api.get(POD, "tiny-w1-0") or {})
    with operator_process(server, tmp_path, "first") as second:
        wait_for(lambda: entries(api, uid)["tiny-w1-0"].end, "the end that nobody saw is recorded")
        wait_for(lambda: "cost" in api.status("tiny"), "the run says what it has cost")
        wait_for(lambda: record(api, f"node-{machine_uid}"), "its node is recorded, which another task does")
        api("delete", "trun", "tiny", "--wait=false")
        wait_for(
            lambda: (record(api, f"{uid}-0") or UsageRecordSpec()).completed, "nothing is added any more"
        )
        assert second.said("forbidden") == 0 and "Traceback" not in second.log.read_text()
    used = entries(api, uid)
    assert {name: used[name].start for name in WORKERS} == starts
    assert (used["tiny-w1-0"].end, used["tiny-w1-0"].estimated) == (ended, False)
    assert {used[name].node for name in WORKERS} == {machine_uid} and used["tiny-w0-0"].end
    on = record(api, f"node-{machine_uid}")
    assert on is not None and on.nodes[machine_uid].name == machine
