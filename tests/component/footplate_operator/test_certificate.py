"""The API's certificate with a real API server, and with the rights that the chart gives the operator."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cluster.kubernetes.envtest import ApiServer
from cluster.machine.ports import claim_ports
from footplate_operator.certificates.manifests import CertificateNames
from footplate_operator.certificates.reconciler import CertificateReconciler
from footplate_operator.runtime.cluster import KubernetesCluster, login
from footplate_operator.runtime.kinds import POD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import operator_process
from tests.component.footplate_operator.kubelet import Node
from tests.support.certificates import vouches
from tests.support.chart import NAMESPACE
from tests.support.operator_fakes import run_manifest

PLACE = CertificateNames(NAMESPACE, "footplate-api")
OBJECTS = (f"secret/{PLACE.authority}", f"secret/{PLACE.serving}", f"configmap/{PLACE.bundle}")
HOST = f"{PLACE.service}.{NAMESPACE}.svc"


@pytest.fixture
def home(server: ApiServer) -> Iterator[Api]:
    """The release's namespace, with no certificate in it."""
    api = replace(Api(server.kubectl, server.kubeconfig), namespace=NAMESPACE)
    api("delete", "--ignore-not-found", *OBJECTS)
    yield api
    api("delete", "--ignore-not-found", *OBJECTS)


@pytest.fixture
async def keeper(server: ApiServer, home: Api) -> AsyncIterator[CertificateReconciler]:
    """A keeper with the operator's rights."""
    cluster = KubernetesCluster(await login(str(server.kubeconfig.with_name("operator.kubeconfig"))))
    yield CertificateReconciler(cluster, PLACE, lambda: datetime.now(UTC))
    await cluster.close()


def read(home: Api, what: str) -> dict[str, str]:
    """The data of an object; empty where there is none."""
    text = home("get", "--ignore-not-found", "-o", "json", what)
    return dict(json.loads(text).get("data") or {}) if text.strip() else {}


def holds(home: Api) -> bool:
    """Whether a client that trusts what is published takes what the API mounts."""
    _, serving, bundle = (read(home, what) for what in OBJECTS)
    if not serving or not bundle:
        return False
    certificate = base64.b64decode(serving["tls.crt"])
    return vouches(bundle["ca.crt"], certificate, HOST, datetime.now(UTC))


def test_it_is_there_a_moment_after_the_operator_leads(server: ApiServer, home: Api, tmp_path: Path) -> None:
    with operator_process(server, tmp_path, api_service=PLACE.service) as first:
        wait_for(lambda: first.said("message=leading"), "the first leads", pause=0.02)
        began = time.monotonic()
        wait_for(lambda: read(home, OBJECTS[1]), "the API has a certificate", 10, pause=0.02)
        print(f"\nfrom the operator's lead to the API's certificate: {time.monotonic() - began:.2f} s")
        assert time.monotonic() - began < 5 and holds(home)
        made = [read(home, what) for what in OBJECTS]
        with operator_process(server, tmp_path, "second", api_service=PLACE.service) as second:
            wait_for(lambda: second.said("waiting for the Lease"), "the second waits")
            home("delete", OBJECTS[0])
            first.process.terminate()
            assert first.process.wait(timeout=10) == 0
            wait_for(lambda: second.said("creating the API's certificate"), "the second makes it anew")
            wait_for(lambda: holds(home), "the API has a certificate again")
        assert [read(home, what) for what in OBJECTS] != made
        assert first.said("cannot be maintained") == second.said("cannot be maintained") == 0


@pytest.mark.parametrize(
    "patch",
    [
        pytest.param('{"data": null}', id="emptied"),
        pytest.param('{"data": {"tls.crt": "YQ==", "tls.key": "YQ=="}}', id="garbage"),
        pytest.param('{"data": {"tls.crt": "", "tls.key": ""}, "immutable": true}', id="immutable"),
    ],
)
async def test_an_edited_secret_is_set_right(keeper: CertificateReconciler, home: Api, patch: str) -> None:
    await keeper.reconcile()
    if "null" in patch:
        home("delete", OBJECTS[1])
        home("create", "secret", "generic", PLACE.serving)  # of another type, which cannot be changed
    else:
        home("patch", OBJECTS[1], "--type=merge", "-p", patch)
    assert not holds_or_false(home)
    await keeper.reconcile()
    assert holds(home)
    kind = home("get", OBJECTS[1], "-o", "jsonpath={.type}")
    assert kind == "kubernetes.io/tls"


def holds_or_false(home: Api) -> bool:
    """As `holds`; false for what is no certificate at all."""
    try:
        return holds(home)
    except (ValueError, KeyError):
        return False


async def test_python_servers_and_clients_take_what_is_made(
    keeper: CertificateReconciler, home: Api, tmp_path: Path
) -> None:
    await keeper.reconcile()
    serving, bundle = read(home, OBJECTS[1]), read(home, OBJECTS[2])
    for name in ("tls.crt", "tls.key"):
        (tmp_path / name).write_bytes(base64.b64decode(serving[name]))
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(tmp_path / "tls.crt", tmp_path / "tls.key")
    client = ssl.create_default_context(cadata=bundle["ca.crt"])
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(down, up, server_hostname=HOST), server.wrap_bio(up, down, server_side=True))
    for _ in range(4):
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert ends[0].getpeercert() is not None and ends[0].version() == "TLSv1.3"


@pytest.mark.long
def test_a_coordinator_that_knows_no_api_has_a_successor_and_no_worker_notices(
    server: ApiServer, home: Api, api: Api, node: Node, tmp_path: Path
) -> None:
    """As after an upgrade from a release whose API served in clear."""
    body = run_manifest()
    body["metadata"] = {"name": "tiny", "namespace": api.namespace}
    body["spec"]["training"]["steps"] = 20_000
    with operator_process(server, tmp_path):
        api.apply(body)
        wait_for(lambda: api.status("tiny").get("phase") == "Running", "it trains")
    before = {name: uid for name, uid in uids(api).items() if "-w" in name}
    before_step = int(api.status("tiny").get("progress", {}).get("step", 0))
    url = f"https://127.0.0.1:{claim_ports(1)[0]}"  # nobody is there: its rows wait
    with operator_process(server, tmp_path, api_service=PLACE.service, api_url=url):
        wait_for(lambda: "tiny-c2" in api.names(POD), "the next coordinator")
        wait_for(lambda: "tiny-c1" not in api.names(POD), "the first one is gone")
        wait_for(lambda: step(api) > before_step, "it trains on", 120)
        assert read(api, "configmap/tiny-api-bundle") == read(home, OBJECTS[2])
    assert {name: uid for name, uid in uids(api).items() if "-w" in name} == before


def step(api: Api) -> int:
    """The last step that a coordinator of a later epoch than the first has told."""
    status = api.status("tiny")
    serves = status["coordinator"]["epoch"] > 1 and status["phase"] == "Running"
    return int(status.get("progress", {}).get("step", 0)) if serves else 0


def uids(api: Api) -> dict[str, str]:
    """Of all pods, by name."""
    items = json.loads(api("get", "pods", "-o", "json"))["items"]
    return {item["metadata"]["name"]: item["metadata"]["uid"] for item in items}
