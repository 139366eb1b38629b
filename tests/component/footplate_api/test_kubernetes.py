"""The real client and the mirror against a real API server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import pytest_asyncio
from sqlalchemy import select

from cluster.kubernetes.api_client import ApiClient, ApiError
from cluster.kubernetes.envtest import ApiServer
from cluster.machine.ports import claim_ports
from footplate_api.app_context import utc_now
from footplate_api.db.database import Database
from footplate_api.errors import ClusterRefused, ClusterUnavailable, InstallationLacksRights, ListExpired
from footplate_api.installation import repository as installation
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes import http as kubernetes_http
from footplate_api.kubernetes.http import HttpKubernetesClient
from footplate_api.labels.selector import parse_selector
from footplate_api.mirror.namespaces import NamespaceMirror
from footplate_api.mirror.runs import RunMirror
from footplate_api.namespaces import repository as namespaces
from footplate_api.runs.estimate import HourlyCost, estimate_hourly
from footplate_api.runs.schemas import EXAMPLE
from footplate_contracts.names import ExitCode
from footplate_ledger.account import Tariff
from footplate_ledger.prices import PriceBook
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.kube import kubectl
from tests.component.footplate_api.mirrors import following, found
from tests.component.footplate_api.test_process import once

PROFILE = """
apiVersion: footplate.dev/v1alpha1
kind: ComputeProfile
metadata: {name: small}
spec: {backend: gloo, price: {dollarsPerNodeHour: 0.25}}
"""


@pytest_asyncio.fixture
async def client(kubernetes: ApiServer) -> AsyncIterator[HttpKubernetesClient]:
    connected = await kubernetes_http.connect(kubernetes.kubeconfig, in_pod=False)
    yield connected
    await connected.close()


def manifest(name: str, name_prefix: str = "", **spec: Any) -> dict[str, Any]:
    example = json.loads(json.dumps(EXAMPLE))
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"generateName": name_prefix} if name_prefix else {"name": name},
        "spec": {**example["spec"], **spec},
    }


async def test_the_example_of_the_documentation_is_a_valid_run(client: HttpKubernetesClient) -> None:
    created = await client.create_run("default", manifest("example"))
    assert created["metadata"]["managedFields"][0]["manager"] == "footplate-api"
    await client.delete_run("default", "example", created["metadata"]["uid"])


@pytest.mark.parametrize(
    ("wrong", "status", "said"),
    [
        pytest.param(manifest("a", trianing={}), 400, 'unknown field "spec.trianing"', id="unknown-field"),
        pytest.param(manifest("a", stage="dream"), 422, 'Unsupported value: "dream"', id="enum"),
        pytest.param(manifest("x" * 41), 422, "has 41 characters; at most 40", id="cel"),
    ],
)
async def test_refusals_keep_status_and_message(
    client: HttpKubernetesClient, wrong: dict[str, Any], status: int, said: str
) -> None:
    with pytest.raises(ClusterRefused) as refused:
        await client.create_run("default", wrong)
    assert refused.value.status == status
    assert said in refused.value.detail


async def test_a_dry_run_is_filled_in_and_checked_and_stores_nothing(client: HttpKubernetesClient) -> None:
    made = await client.try_run("default", manifest("dry"))
    assert made["metadata"]["name"] == "dry" and made["spec"]["checkpoint"]["keepLast"] == 3  # a default
    with pytest.raises(ClusterRefused) as refused:
        await client.get_run("default", "dry")
    assert refused.value.status == 404
    with pytest.raises(ClusterRefused, match="has 41 characters; at most 40"):
        await client.try_run("default", manifest("x" * 41))
    made = await client.try_run("default", manifest("", name_prefix="dry-"))
    assert made["metadata"]["name"].startswith("dry-")


async def test_a_list_of_nothing_is_one(client: HttpKubernetesClient) -> None:
    """Of metadata the API server says null for it."""
    nowhere = client.in_namespace("kube-system")
    for page in (await nowhere.list_versions(None), await nowhere.list_runs(None)):
        assert list(page.manifests) == [] and page.resource_version and page.next_token is None


async def test_a_run_and_a_profile_are_read(
    kubernetes: ApiServer, client: HttpKubernetesClient, tmp_path: Path
) -> None:
    created = await client.create_run("default", manifest("read"))
    assert await client.get_run("default", "read") == created
    await client.delete_run("default", "read", None)
    assert await client.get_profile("h100") is None
    assert await client.get_profile("no name/of anything") is None
    (tmp_path / "profile.yaml").write_text(PROFILE)
    kubectl(kubernetes, "apply", "--filename", str(tmp_path / "profile.yaml"))
    found = await client.get_profile("small")
    assert found is not None
    assert estimate_hourly("small", found["spec"], 2, Tariff(PriceBook([])), (), 0) == HourlyCost(
        dollars=Decimal("0.5")
    )


SELECTORS = (
    *(
        "",
        "a",
        "a=b",
        "a==b,c!=d",
        "a in (b, c),d notin (e)",
        "!a",
        "a=",
        "a in (,)",
        "in in (in)",
        "x.io/a=b",
    ),
    *(
        ",",
        "a,",
        "a b",
        "a in b",
        "a in (b",
        "a in (b c)",
        "a in ()",
        "a in (=)",
        "a=b c",
        "!",
        "!a=b",
        "a===b",
    ),
    *("(a)", "a=(b)", "a!b", "a in (b))", "a=!b", "-a", "a-", "a=-b", "a=b_", "/a", "x/y/z", "X_Y/a", "a/"),
    *("a" * 64, f"{'a' * 254}/b", f"a={'b' * 64}", f"a in (b, {'b' * 64}, -c)", "a\u00e4", "a=\u00e4"),
)


def test_selectors_are_taken_as_an_api_server_takes_them(kubernetes: ApiServer, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(kubectl(kubernetes, "config", "view", "--raw", "--flatten"))
    asking = ApiClient(config)
    for selector in SELECTORS:
        path = f"/api/v1/namespaces/default/configmaps?labelSelector={quote(selector)}"
        ours = refused_by(lambda: parse_selector(selector))  # noqa: B023
        assert ours in refused_by(lambda: asking.call("GET", path)), selector  # noqa: B023


def refused_by(ask: Callable[[], object]) -> str:
    """The beginning of what is said of a selector, "taken" where nothing is."""
    try:
        ask()
    except ApiError as error:
        return str(error).replace("\\u003c", "<").replace("\\u003e", ">")
    except ValueError as error:
        return json.dumps(str(error), ensure_ascii=False)[1:-1][:200]
    return "taken"


@asynccontextmanager
async def with_token(kubernetes: ApiServer, folder: Path, token: str) -> AsyncIterator[HttpKubernetesClient]:
    """A client that shows `token` and no certificate."""
    config = json.loads(kubectl(kubernetes, "config", "view", "--raw", "--flatten", "--output=json"))
    config["users"][0]["user"] = {"token": token}
    path = folder / "config"
    path.write_text(json.dumps(config))
    connected = await kubernetes_http.connect(path, in_pod=False)
    yield connected
    await connected.close()


async def test_an_account_without_rights_is_the_installations_fault(
    kubernetes: ApiServer, tmp_path: Path
) -> None:
    kubectl(kubernetes, "create", "serviceaccount", "powerless")
    token = kubectl(kubernetes, "create", "token", "powerless").strip()
    async with with_token(kubernetes, tmp_path, token) as powerless:
        with pytest.raises(InstallationLacksRights) as creating:
            await powerless.create_run("default", manifest("a"))
        with pytest.raises(InstallationLacksRights) as listing:
            await powerless.list_runs(None)
    assert 'create trainingruns.footplate.dev in the namespace "default"' in creating.value.detail
    assert "list trainingruns.footplate.dev in the whole cluster" in listing.value.detail
    assert "powerless" not in creating.value.detail + listing.value.detail


async def test_a_token_that_is_none_is_the_installations_fault(kubernetes: ApiServer, tmp_path: Path) -> None:
    async with with_token(kubernetes, tmp_path, "stale") as stale:
        with pytest.raises(InstallationLacksRights, match="does not accept the credentials"):
            await stale.list_runs(None)


POLICY = """
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: never-this}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [footplate.dev], apiVersions: ["*"], operations: [CREATE], resources: [trainingruns]}
  validations:
  - {expression: object.metadata.name != "never-this", message: not this one, reason: Forbidden}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: never-this}
spec: {policyName: never-this, validationActions: [Deny]}
"""


async def test_what_a_policy_forbids_is_the_callers(
    kubernetes: ApiServer, client: HttpKubernetesClient, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY)
    kubectl(kubernetes, "apply", "--filename", str(tmp_path / "policy.yaml"))

    async def answered() -> ClusterRefused | None:
        try:
            await client.create_run("default", manifest("never-this"))
        except ClusterRefused as refused:
            return refused
        await client.delete_run("default", "never-this", None)  # the policy is not in force yet
        return None

    refused = await eventually(answered, lambda refused: refused is not None)
    assert refused is not None and refused.status == 403
    assert "not this one" in refused.detail


async def test_deleting_needs_the_right_uid(client: HttpKubernetesClient) -> None:
    await client.create_run("default", manifest("mine"))
    with pytest.raises(ClusterRefused) as refused:
        await client.delete_run("default", "mine", "another")
    assert refused.value.status == 409
    await client.delete_run("default", "mine", None)
    with pytest.raises(ClusterRefused) as missing:
        await client.delete_run("default", "mine", None)
    assert missing.value.status == 404


@pytest.mark.parametrize("held", [False, True])
async def test_a_deletion_tells_whom_it_met(
    kubernetes: ApiServer, client: HttpKubernetesClient, held: bool
) -> None:
    wanted = manifest("held" if held else "free")
    wanted["metadata"]["finalizers"] = ["footplate.dev/test"] if held else []
    created = await client.create_run("default", wanted)
    name = created["metadata"]["name"]
    assert await client.delete_run("default", name, None) == created["metadata"]["uid"]
    if held:
        freed = ("--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
        kubectl(kubernetes, "patch", "trainingrun", name, *freed)


async def test_an_expired_version_says_so(client: HttpKubernetesClient) -> None:
    async def answered() -> bool:
        try:
            async for _ in client.watch_runs("1"):
                raise AssertionError("version 1 is watched")
        except ClusterUnavailable:  # 429: the first request of all for a kind begins to fill its watch cache
            return False
        return True

    with pytest.raises(ListExpired):
        await eventually(answered, bool)


async def test_no_api_server_is_no_answer(kubernetes: ApiServer, tmp_path: Path) -> None:
    elsewhere = tmp_path / "config"
    elsewhere.write_text(kubernetes.kubeconfig.read_text().replace(kubernetes.url, "https://127.0.0.1:1"))
    nobody = await kubernetes_http.connect(elsewhere, in_pod=False)
    with pytest.raises(ClusterUnavailable, match="does not answer"):
        await nobody.list_runs(None)
    await nobody.close()


async def test_the_cluster_is_told_by_its_namespace_kube_system(
    kubernetes: ApiServer, client: HttpKubernetesClient
) -> None:
    uid = kubectl(kubernetes, "get", "namespace", "kube-system", "--output=jsonpath={.metadata.uid}")
    assert await client.get_cluster_uid() == uid


async def test_a_database_of_another_cluster_ends_the_process_with_a_sentence(
    kubernetes: ApiServer, sqlite_url: str, tmp_path: Path
) -> None:
    database = Database(sqlite_url)
    async with database.write() as session:
        await installation.claim(session, "uid-of-another-cluster")
    await database.close()
    code, said = once(tmp_path, claim_ports(1)[0], sqlite_url, kubernetes.kubeconfig)
    assert code == ExitCode.CONFIG
    assert "footplate-api: The database holds the history of another cluster" in said
    assert "Traceback" not in said


async def test_namespaces_are_followed_by_their_metadata(
    kubernetes: ApiServer, client: HttpKubernetesClient, sqlite_url: str
) -> None:
    database = Database(sqlite_url)

    async def uid(name: str) -> str | None:
        async with database.read() as session:
            return await session.scalar(select(namespaces.current_uid(name)))

    async with following(NamespaceMirror(client, database, ApiMetrics(), MirrorHealth(), utc_now)):
        await eventually(lambda: uid("default"), bool)
        await asyncio.to_thread(kubectl, kubernetes, "create", "namespace", "made-while-watched")
        known = await eventually(lambda: uid("made-while-watched"), bool)
    path = ["get", "namespace", "made-while-watched", "--output=jsonpath={.metadata.uid}"]
    assert known == kubectl(kubernetes, *path)
    page = await client.list_namespaces(None)
    assert not any({"spec", "status"} & set(manifest) for manifest in page.manifests)
    await database.close()


async def test_the_mirror_follows_kubectl(
    kubernetes: ApiServer, client: HttpKubernetesClient, sqlite_url: str
) -> None:
    database = Database(sqlite_url)
    watcher = RunMirror(client, database, ApiMetrics(), MirrorHealth(), utc_now)
    async with following(watcher):
        await client.create_run("default", manifest("gpt"))
        await eventually(lambda: found(database, "gpt", "default"), lambda run: run is not None)
        status = json.dumps({"status": {"phase": "Running", "progress": {"step": 7, "totalSteps": 200}}})
        patch = ["patch", "trainingrun", "gpt", "--subresource=status", "--type=merge", "--patch", status]
        await asyncio.to_thread(kubectl, kubernetes, *patch)
        run = await eventually(
            lambda: found(database, "gpt", "default"), lambda run: run is not None and run.step == 7
        )
        assert run is not None and run.phase == "Running"
        live = await client.get_run("default", "gpt")
        assert live["status"]["progress"]["step"] == 7
        await asyncio.to_thread(kubectl, kubernetes, "delete", "trainingrun", "gpt")
        await eventually(
            lambda: found(database, "gpt", "default"),
            lambda run: run is not None and run.deleted_at is not None,
        )
        with pytest.raises(ClusterRefused) as refused:
            await client.get_run("default", "gpt")
        assert refused.value.status == 404
    await database.close()
