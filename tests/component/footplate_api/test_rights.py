"""Kubernetes and the API agree on who may do what: a real API server with the chart's roles for people.

docs/rights.md is written from the same answers: GOLDEN=write renews it.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import json
import os
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import pytest_asyncio
import yaml
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cluster.kubernetes.envtest import ApiServer
from footplate_api.app import create_app
from footplate_api.app_context import AppContext
from footplate_api.db.database import Database
from footplate_api.identity.caller import Right
from footplate_api.identity.reviews import KubernetesReviewer
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.http import HttpKubernetesClient
from footplate_contracts.names import API_AUDIENCE, REQUESTED_BY_ANNOTATION
from tests.component.footplate_api import kube, rights_page
from tests.component.footplate_api.builders import eventually
from tests.component.footplate_api.kube import kubectl
from tests.component.footplate_api.rights_page import BOUND, OTHER, PEOPLE, Asked
from tests.component.footplate_api.test_kubernetes import manifest, with_token
from tests.component.footplate_api.usages import record
from tests.support.chart import NAMESPACE, rendered
from tests.support.usage_worlds import pod

PAGE: Final = Path(__file__).parents[3] / "docs" / "rights.md"
NEEDED: Final = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding")
REVIEW: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
RULES: Final = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
WITHIN_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Installation:
    """An API server with the chart's roles, bound to people of one namespace."""

    server: ApiServer
    folder: Path

    def token(self, account: str, *flags: str, namespace: str = BOUND) -> str:
        """One of Kubernetes."""
        create = ("create", "token", account, f"--namespace={namespace}", *flags)
        return kubectl(self.server, *create).strip()


def apply(server: ApiServer, folder: Path, objects: list[dict[str, Any]]) -> None:
    (folder / "objects.yaml").write_text(yaml.safe_dump_all(objects))
    kubectl(server, "apply", "--server-side", "--filename", str(folder / "objects.yaml"))


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    folder = tmp_path_factory.mktemp("rights")
    # The controller manager gives view, edit and admin the chart's rules.
    with kube.kubernetes(folder / "server", controller_manager=True) as server:
        for namespace in (NAMESPACE, BOUND, OTHER):
            kubectl(server, "create", "namespace", namespace)
        roles = [item for item in rendered() if item["kind"] in NEEDED]
        accounts = [
            {
                "apiVersion": "v1",
                "kind": "ServiceAccount",
                "metadata": {"name": person, "namespace": BOUND},
            }
            for person in PEOPLE
        ]
        apply(server, folder, roles + accounts + [binding(role) for role in PEOPLE if role != "nobody"])
        deadline = time.monotonic() + WITHIN_SECONDS
        while "footplate.dev" not in kubectl(server, "get", "clusterrole", "view", "--output=json"):
            assert time.monotonic() < deadline, "the roles are not aggregated"
            time.sleep(0.1)
        yield Installation(server, folder)


def binding(role: str) -> dict[str, Any]:
    """Of a role of Kubernetes to the account of the same name, in one namespace."""
    kind = "RoleBinding"
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": role, "namespace": BOUND},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": role, "namespace": BOUND}],
    }


@pytest_asyncio.fixture
async def own(installation: Installation, tmp_path: Path) -> AsyncIterator[HttpKubernetesClient]:
    """Kubernetes as the API's own account reaches it, with the rights that the chart gives that."""
    token = installation.token("footplate-api", namespace=NAMESPACE)
    async with with_token(installation.server, tmp_path, token) as connected:
        yield connected


@pytest_asyncio.fixture
async def caller(own: HttpKubernetesClient, sqlite_url: str) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the API in front of that API server."""
    database = Database(sqlite_url)
    context = AppContext(database, own, KubernetesReviewer(own), ApiMetrics(), MirrorHealth())
    app = create_app(context)
    async with app.router.lifespan_context(app):
        await context.startup.wait()
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="http://api", timeout=60
        ) as client:
            yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


class Kubernetes:
    """What Kubernetes itself answers a person who asks what they may do."""

    def __init__(self, client: httpx.Client, tokens: Mapping[str, str]) -> None:
        self._client = client
        self._tokens = tokens

    def allows(self, person: str, right: Right) -> bool:
        """As `kubectl auth can-i` asks it."""
        what = rights_page.attributes(right)
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview", "spec": what}
        answer = self._client.post(REVIEW, json=review, headers=bearer(self._tokens[person]))
        assert answer.status_code == 201, answer.text
        return bool(answer.json()["status"]["allowed"])

    def seen_everywhere(self, person: str) -> dict[str, set[str]]:
        """Resource -> verbs that somebody has where nothing is bound to them, as `auth can-i --list`."""
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectRulesReview",
            "spec": {"namespace": OTHER},
        }
        answer = self._client.post(RULES, json=review, headers=bearer(self._tokens[person])).json()["status"]
        assert not answer["incomplete"], answer
        found: dict[str, set[str]] = {}
        for rule in answer["resourceRules"]:
            for group, resource in itertools.product(rule["apiGroups"], rule["resources"]):
                found.setdefault(f"{group}/{resource}", set()).update(rule["verbs"])
        return found


@pytest.fixture(scope="module")
def kubernetes(installation: Installation) -> Iterator[Kubernetes]:
    authority = ssl.create_default_context(cafile=str(installation.server.certificate_authority))
    with httpx.Client(base_url=installation.server.url, verify=authority, timeout=60) as client:
        yield Kubernetes(client, {person: installation.token(person) for person in PEOPLE})


async def test_kubernetes_and_the_api_agree_over_every_route(
    installation: Installation, kubernetes: Kubernetes, caller: httpx.AsyncClient
) -> None:
    tokens = {person: bearer(installation.token(person, f"--audience={API_AUDIENCE}")) for person in PEOPLE}
    table: dict[Asked, dict[tuple[str, str], bool]] = {}
    for asked in rights_page.routes():
        answers = table[asked] = {}
        for person in PEOPLE:
            for namespace in (BOUND, OTHER):
                path = asked.path.format(namespace=namespace, name="no-such-run")
                answer = await caller.request(asked.method, path, headers=tokens[person])
                assert answer.status_code not in (401, 500, 502, 503), (asked, person, answer.text)
                answers[person, namespace] = answer.status_code != 403
                if asked.demand is not None:
                    right = asked.demand(namespace, "no-such-run")
                    allowed = await asyncio.to_thread(kubernetes.allows, person, right)
                    assert answers[person, namespace] == allowed, (asked, person, namespace, answer.text)
    told = rights_page.page(table)
    if os.environ.get("GOLDEN") == "write":
        PAGE.write_text(told)
    assert PAGE.read_text() == told, "docs/rights.md says otherwise; if this is meant: GOLDEN=write"


@pytest.mark.parametrize(
    ("person", "asked", "namespace", "answer"),
    [
        pytest.param("view", "get", BOUND, "yes", id="view-reads"),
        pytest.param("view", "delete", BOUND, "no", id="view-does-not-write"),
        pytest.param("edit", "delete", OTHER, "no", id="edit-is-bound-in-one-namespace"),
    ],
)
def test_kubectl_says_the_same(
    installation: Installation, kubernetes: Kubernetes, person: str, asked: str, namespace: str, answer: str
) -> None:
    account = f"system:serviceaccount:{BOUND}:{person}"
    command = [str(installation.server.kubectl), "--kubeconfig", str(installation.server.kubeconfig)]
    can_i = ["auth", "can-i", asked, "trainingruns.footplate.dev/gpt", f"--namespace={namespace}"]
    done = subprocess.run([*command, *can_i, f"--as={account}"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == answer
    right = Right(asked, namespace=namespace, name="gpt")
    assert kubernetes.allows(person, right) == (answer == "yes")


@pytest.mark.parametrize("person", PEOPLE)
def test_who_has_a_role_of_a_namespace_sees_profiles_and_nothing_else_of_the_cluster(
    installation: Installation, kubernetes: Kubernetes, person: str
) -> None:
    profile = {"spec": {"backend": "gloo"}, **of_kind("ComputeProfile", "seen")}
    apply(installation.server, installation.folder, [profile])
    account = f"--as=system:serviceaccount:{BOUND}:{person}"
    assert "computeprofile.footplate.dev/seen" in kubectl(
        installation.server, "get", "cprof", "--output=name", account, "--as-group=system:authenticated"
    )
    seen = kubernetes.seen_everywhere(person)
    assert {resource for resource, verbs in seen.items() if verbs & {"get", "list", "watch", "*"}} == {
        "footplate.dev/computeprofiles"
    }
    assert seen["footplate.dev/computeprofiles"] == {"get", "list", "watch"}


async def test_a_run_is_created_and_deleted_for_its_caller(
    installation: Installation, caller: httpx.AsyncClient
) -> None:
    """With no more than the API's own role, and told of with the uid that Kubernetes gave."""
    headers = bearer(installation.token("edit", f"--audience={API_AUDIENCE}"))
    runs = f"/v1/namespaces/{BOUND}/runs"
    created = await caller.post(runs, json=manifest("gpt"), headers=headers)
    assert created.status_code == 201, created.text
    stored = json.loads(
        kubectl(installation.server, "get", "trun", "gpt", f"--namespace={BOUND}", "--output=json")
    )
    name = stored["metadata"]["annotations"][REQUESTED_BY_ANNOTATION]
    assert name == f"system:serviceaccount:{BOUND}:edit"
    assert (await caller.delete(f"{runs}/gpt", headers=headers)).status_code == 202
    to = ("--clusterrole=view", f"--serviceaccount={BOUND}:default")
    kubectl(installation.server, "create", "clusterrolebinding", "auditor", *to)
    everywhere = bearer(installation.token("default", f"--audience={API_AUDIENCE}"))
    told = (await caller.get("/v1/audit", headers=everywhere)).json()["items"]
    assert [(event["verb"], event["uid"], event["username"]) for event in told] == [
        ("delete", stored["metadata"]["uid"], name),
        ("create", stored["metadata"]["uid"], name),
    ]


async def test_what_costs_follow_from_is_read_and_written_with_no_more_than_the_apis_role(
    installation: Installation, caller: httpx.AsyncClient
) -> None:
    """A price is entered for who may, and a record of a run that never was goes once it is stored."""
    profile = {"spec": {"backend": "gloo"}, **of_kind("ComputeProfile", "small")}
    usage = {"spec": record([pod()], completed=True), **of_kind("UsageRecord", "uid-gpt-0")}
    apply(installation.server, installation.folder, [profile, usage])
    flags = ("--verb=update,list", "--resource=computeprofiles.footplate.dev")
    kubectl(installation.server, "create", "clusterrole", "pricing", *flags)
    to = ("--clusterrole=pricing", f"--serviceaccount={BOUND}:nobody")
    kubectl(installation.server, "create", "clusterrolebinding", "pricing", *to)
    headers = bearer(installation.token("nobody", f"--audience={API_AUDIENCE}"))
    asked = {"profile": "small", "dollarsPerNodeHour": "0.1", "effectiveFrom": "2026-01-01T00:00:00Z"}
    tried = await caller.post("/v1/prices", json=asked, headers=headers, params={"dryRun": "true"})
    entered = await caller.post("/v1/prices", json=asked, headers=headers)
    assert (tried.status_code, entered.status_code) == (200, 201), tried.text + entered.text
    get = ("get", "price", "--output=jsonpath={.items[*].metadata.name} {.items[*].spec.createdBy}")
    name = f"system:serviceaccount:{BOUND}:nobody"
    assert kubectl(installation.server, *get) == f"{entered.json()['id']} {name}"

    async def records() -> str:
        return await asyncio.to_thread(kubectl, installation.server, "get", "usage", "--output=name")

    await eventually(records, lambda left: left == "", seconds=30)
    to = ("--clusterrole=view", f"--serviceaccount={BOUND}:default")
    kubectl(installation.server, "create", "clusterrolebinding", "billing", *to)
    everywhere = bearer(installation.token("default", f"--audience={API_AUDIENCE}"))
    costs = {"from": "2026-11-25T00:00:00Z", "to": "2026-11-26T00:00:00Z"}
    [row] = (await caller.get("/v1/costs", params=costs, headers=everywhere)).json()["rows"]
    assert (row["nodeSeconds"], row["group"]) == (3600, {"namespace": "research"})


def of_kind(kind: str, name: str) -> dict[str, Any]:
    return {"apiVersion": "footplate.dev/v1alpha1", "kind": kind, "metadata": {"name": name}}


# -- whose a token is ------------------------------------------------------------------------


async def test_a_token_for_others_is_nobodys(installation: Installation, own: HttpKubernetesClient) -> None:
    reviewer = KubernetesReviewer(own)
    for flags in ((), ("--audience=others",)):
        assert await reviewer.authenticate(installation.token("view", *flags), [API_AUDIENCE]) is None
    token = installation.token("view", f"--audience={API_AUDIENCE}")
    found = await reviewer.authenticate(token, [API_AUDIENCE])
    assert found is not None
    assert (found.username, found.namespace) == (f"system:serviceaccount:{BOUND}:view", BOUND)
    assert {"system:serviceaccounts", f"system:serviceaccounts:{BOUND}"} <= set(found.groups)


async def test_a_token_of_a_deleted_account_is_nobodys(
    installation: Installation, own: HttpKubernetesClient
) -> None:
    kubectl(installation.server, "create", "serviceaccount", "leaving", f"--namespace={BOUND}")
    # An API server remembers for ten seconds whose a token was: the second one is not shown before.
    shown, later = (installation.token("leaving", f"--audience={API_AUDIENCE}") for _ in range(2))
    reviewer = KubernetesReviewer(own)
    assert await reviewer.authenticate(shown, [API_AUDIENCE]) is not None
    kubectl(installation.server, "delete", "serviceaccount", "leaving", f"--namespace={BOUND}")
    assert await reviewer.authenticate(later, [API_AUDIENCE]) is None


POD: Final = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "coordinator", "namespace": BOUND},
    "spec": {"serviceAccountName": "view", "containers": [{"name": "main", "image": "none"}]},
}


async def test_a_token_of_a_pod_names_it_and_ends_with_it(
    installation: Installation, own: HttpKubernetesClient
) -> None:
    apply(installation.server, installation.folder, [POD])
    where = ("pod", "coordinator", f"--namespace={BOUND}")
    uid = kubectl(installation.server, "get", *where, "--output=jsonpath={.metadata.uid}")
    bound = ("--bound-object-kind=Pod", "--bound-object-name=coordinator")
    shown, later = (installation.token("view", f"--audience={API_AUDIENCE}", *bound) for _ in range(2))
    reviewer = KubernetesReviewer(own)
    found = await reviewer.authenticate(shown, [API_AUDIENCE])
    assert found is not None and found.pod_uid == uid
    kubectl(installation.server, "delete", *where, "--force", "--grace-period=0")
    assert await reviewer.authenticate(later, [API_AUDIENCE]) is None


def again(installation: Installation, token: str, expires: float) -> str:
    """`token` with another end, signed by the cluster's own key."""
    key = serialization.load_pem_private_key(
        (installation.folder / "server" / "pki" / "sa.key").read_bytes(), password=None
    )
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    header, claims, _ = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    changed = {**said, "iat": int(expires) - 3600, "nbf": int(expires) - 3600, "exp": int(expires)}
    signed = f"{header}.{encoded(json.dumps(changed).encode())}"
    pair = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{encoded(b''.join(number.to_bytes(32, 'big') for number in pair))}"


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.mark.parametrize(("left", "known"), [(1800, True), (-300, False)])
async def test_a_token_that_has_ended_is_nobodys(
    installation: Installation, own: HttpKubernetesClient, left: float, known: bool
) -> None:
    token = installation.token("view", f"--audience={API_AUDIENCE}")
    found = await KubernetesReviewer(own).authenticate(
        again(installation, token, time.time() + left), [API_AUDIENCE]
    )
    assert (found is not None) == known


async def test_a_token_that_somebody_else_signed_is_nobodys(
    installation: Installation, own: HttpKubernetesClient
) -> None:
    token = installation.token("view", f"--audience={API_AUDIENCE}")
    header, claims, signature = token.split(".")
    said = json.loads(base64.urlsafe_b64decode(claims + "=="))
    said["sub"] = f"system:serviceaccount:{BOUND}:admin"
    forged, unsigned = encoded(json.dumps(said).encode()), encoded(json.dumps({"alg": "none"}).encode())
    for wrong in (f"{header}.{forged}.{signature}", f"{unsigned}.{claims}."):
        assert await KubernetesReviewer(own).authenticate(wrong, [API_AUDIENCE]) is None


async def test_the_api_takes_no_token_that_is_not_for_it(
    installation: Installation, caller: httpx.AsyncClient
) -> None:
    answer = await caller.get(f"/v1/namespaces/{BOUND}/runs", headers=bearer(installation.token("view")))
    assert answer.status_code == 401
