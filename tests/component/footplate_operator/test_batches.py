"""A second kind has a bill, rights and a guarded status by its folder and one line in the table of kinds."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from tools.crds import all_definitions
from tools.rights import rights_file

from cluster.kubernetes.envtest import ApiServer, api_server
from footplate_contracts.v1alpha1.usagerecord import PodUsage, UsageRecordSpec
from footplate_operator.__main__ import KINDS
from footplate_operator.runtime.kinds import JOB
from footplate_operator.usage.writes import USAGE_RECORD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.batches import BATCH, Batches
from tests.component.footplate_operator.conftest import Process, grant, operator_process
from tests.component.footplate_operator.parcels import definition
from tests.support.chart import CHART, rendered
from tests.support.connection import Json
from tests.support.operator_fakes import profile_manifest

DEFINITION = definition(BATCH)
MACHINE = "machine"


@pytest.fixture(scope="module")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with the rights about Batches, as `make gen` would write them."""
    copy = tmp_path_factory.mktemp("charts") / "footplate"
    shutil.copytree(CHART, copy)
    definitions = [*all_definitions().values(), DEFINITION]
    (copy / "files" / "rights.yaml").write_text(rights_file([*KINDS, Batches], definitions))
    return copy


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, chart: Path) -> Iterator[ApiServer]:
    """An API server with our CRDs, that of Batches, and what the chart says of statuses."""
    with api_server(tmp_path_factory.mktemp("api-server")) as running:
        api = Api(running.kubectl, running.kubeconfig)
        api("apply", "--server-side", "-f", "crds/")
        policies = [body for body in rendered(chart=chart) if body["metadata"]["name"] == "footplate-status"]
        api.apply(DEFINITION, *policies)
        for crds in ("-f=crds/", f"crd/{DEFINITION['metadata']['name']}"):
            api("wait", "--for=condition=Established", "--timeout=30s", crds)
        api.apply(profile_manifest(), {"apiVersion": "v1", "kind": "Node", "metadata": {"name": MACHINE}})
        grant(running, chart)
        yield running


@pytest.fixture
def api(server: ApiServer) -> Api:
    """A namespace of this module's own."""
    api = Api(server.kubectl, server.kubeconfig)
    api("create", "namespace", "research")
    return replace(api, namespace="research")


@pytest.fixture
def operator(server: ApiServer, tmp_path: Path) -> Iterator[Process]:
    """An operator of TrainingRuns and Batches, with the rights that the chart gives it."""
    module = "tests.component.footplate_operator.batches"
    with operator_process(server, tmp_path, module=module) as process:
        wait_for(lambda: process.said("message=leading"), "the operator leads")
        yield process


def start_pod(api: Api, job: Json) -> str:
    """Create and bind the pod of a Job, as its controller and the scheduler do; return its name."""
    about, template = job["metadata"], job["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": about["name"], "uid": about["uid"]}
    metadata = {
        "name": f"{about['name']}-x7k",
        "labels": template["metadata"]["labels"],
        "ownerReferences": [{**owner, "controller": True}],
    }
    api.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    api.bind(metadata["name"], MACHINE)
    return metadata["name"]


def end_pod(api: Api, name: str) -> None:
    """Report the end of a pod's container, as a kubelet does."""
    end = {"exitCode": 0, "startedAt": "2100-01-01T00:00:00Z", "finishedAt": "2100-01-01T01:00:00Z"}
    container = {"name": "work", "image": "work:1", "imageID": "", "ready": False, "restartCount": 0}
    containers = [{**container, "state": {"terminated": end}}]
    api.patch_status(name, {"phase": "Succeeded", "containerStatuses": containers})


def entries(api: Api, uid: str) -> dict[str, PodUsage]:
    """Return recorded pods of a Batch by name."""
    body = api.get(USAGE_RECORD, f"{uid}-0")
    if body is None:
        return {}
    record = UsageRecordSpec.from_json(body["spec"])
    assert record.owner is not None and (record.owner.kind, record.owner.name) == ("Batch", "b")
    return {pod.name: pod for pod in record.pods.values()}


def test_a_batch_has_the_bill_of_its_jobs_pods(operator: Process, api: Api) -> None:
    spec = {"jobs": 2, "profile": profile_manifest()["metadata"]["name"]}
    api.apply({"apiVersion": BATCH.api_version, "kind": "Batch", "metadata": {"name": "b"}, "spec": spec})
    wait_for(lambda: api.names(JOB) == ["b-0", "b-1"], "it has its Jobs")
    pods = [start_pod(api, job) for job in api.find(JOB)]
    uid = (api.get(BATCH, "b") or {})["metadata"]["uid"]
    wait_for(lambda: entries(api, uid).keys() == set(pods), "pods of its Jobs are recorded as its own")
    assert [(pod.profile, pod.millicores) for pod in entries(api, uid).values()] == [
        (spec["profile"], 2000)
    ] * 2
    wait_for(lambda: (api.get(BATCH, "b") or {})["status"].get("recorded") == 2, "its status has them")
    end_pod(api, pods[0])
    wait_for(lambda: entries(api, uid)[pods[0]].end == "2100-01-01T01:00:00Z", "the end is Kubernetes' own")
    assert entries(api, uid)[pods[1]].end is None
    with pytest.raises(AssertionError, match=r"status is written by system:serviceaccount:\S+ alone"):
        api("patch", "batch", "b", "--subresource=status", "--type=merge", '-p={"status":{"recorded":9}}')
    api("delete", "batch", "b")
    wait_for(lambda: not api.find(JOB) or None, "its Jobs are deleted")
    for name in pods:
        api.end(name)
    record = f"{uid}-0"
    wait_for(lambda: (api.get(USAGE_RECORD, record) or {})["spec"].get("completed"), "its record is over")
    assert entries(api, uid)[pods[1]].end is not None, "also of the pod whose end nobody reported"
    assert operator.said("forbidden") == 0 and "Traceback" not in operator.log.read_text()
