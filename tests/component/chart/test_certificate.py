"""What the chart gives to operator and API so that the API proves itself."""

from __future__ import annotations

import itertools
from typing import Any
from urllib.parse import urlsplit

import pytest

from footplate_contracts.names import API_AUDIENCE, API_TOKEN_FILE, API_TOKEN_MOUNT
from footplate_operator.certificates.manifests import CertificateNames
from tests.support.chart import NAMESPACE, container, environment, mounts, one, rendered, volumes

ISSUED = ("api.tls.certManager.enabled=true", "api.tls.certManager.issuerRef.name=house")
PLACE = CertificateNames(NAMESPACE, "footplate-api")


def test_the_api_serves_with_what_the_operator_makes() -> None:
    objects = rendered()
    api = one(objects, "Deployment", "footplate-api")
    files = [{"key": name, "path": name} for name in ("tls.crt", "tls.key")]
    secret = {"secretName": PLACE.serving, "defaultMode": 0o440, "items": files}
    assert volumes(api)["tls"] == {"secret": secret}
    assert mounts(api)["tls"] == "/etc/footplate/tls"
    service = one(objects, "Service", PLACE.service)
    (port,) = service["spec"]["ports"]
    assert port == {"name": "https", "port": 8443, "targetPort": "https", "appProtocol": "https"}
    assert container(api)["ports"] == [{"name": "https", "containerPort": 8443}]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        asked = container(api)[probe]["httpGet"]
        assert (asked["port"], asked["scheme"]) == ("https", "HTTPS")
    annotations = api["spec"]["template"]["metadata"]["annotations"]
    assert (annotations["prometheus.io/scheme"], annotations["prometheus.io/port"]) == ("https", "8443")


def test_the_operator_has_a_token_that_the_api_alone_takes() -> None:
    operator = one(rendered(), "Deployment", "footplate-operator")
    token = {"audience": API_AUDIENCE, "expirationSeconds": 3600, "path": API_TOKEN_FILE}
    assert volumes(operator)["api-token"] == {"projected": {"sources": [{"serviceAccountToken": token}]}}
    assert mounts(operator)["api-token"] == API_TOKEN_MOUNT


def named_rights(role: dict[str, Any]) -> dict[tuple[str, str], set[str]]:
    """(resource, name) -> verbs; rules without names have an empty one."""
    found: dict[tuple[str, str], set[str]] = {}
    for rule in role["rules"]:
        for key in itertools.product(rule["resources"], rule.get("resourceNames", [""])):
            found.setdefault(key, set()).update(rule["verbs"])
    return found


def test_rights_on_the_certificate() -> None:
    role = one(rendered(), "Role", "footplate-operator-certificates")
    changing = {"get", "update", "delete"}
    assert role["metadata"]["namespace"] == NAMESPACE
    assert named_rights(role) == {
        ("secrets", ""): {"create"},
        ("configmaps", ""): {"create"},
        ("secrets", PLACE.authority): changing,
        ("secrets", PLACE.serving): changing,
        ("configmaps", PLACE.bundle): changing,
    }


def test_whoever_is_authenticated_may_know_who_vouches_for_the_api() -> None:
    objects = rendered()
    role = one(objects, "Role", PLACE.bundle)
    assert named_rights(role) == {("configmaps", PLACE.bundle): {"get", "watch"}}
    binding = one(objects, "RoleBinding", PLACE.bundle)
    assert {item["metadata"]["namespace"] for item in (role, binding)} == {NAMESPACE}
    assert binding["roleRef"]["name"] == PLACE.bundle
    assert [subject["name"] for subject in binding["subjects"]] == ["system:authenticated"]


@pytest.mark.parametrize(
    ("flags", "told", "read"),
    [
        pytest.param(
            ("api.tls.existingSecret=mine",),
            {"FOOTPLATE_API_CA_SECRET": "mine"},
            {("secrets", "mine"): {"get"}},
            id="secret",
        ),
        pytest.param(
            ("api.tls.existingSecret=mine", "api.tls.caConfigMap=trust"),
            {"FOOTPLATE_API_CA_CONFIG_MAP": "trust"},
            {("secrets", "mine"): {"get"}, ("configmaps", "trust"): {"get"}},
            id="secret-and-authorities",
        ),
        pytest.param(
            ISSUED,
            {"FOOTPLATE_API_CA_SECRET": "footplate-api-certificate"},
            {("secrets", "footplate-api-certificate"): {"get"}},
            id="cert-manager",
        ),
        pytest.param(
            (*ISSUED, "api.tls.caConfigMap=trust"),
            {"FOOTPLATE_API_CA_CONFIG_MAP": "trust"},
            {("secrets", "footplate-api-certificate"): {"get"}, ("configmaps", "trust"): {"get"}},
            id="cert-manager-and-authorities",
        ),
    ],
)
def test_a_certificate_of_somebody_else(
    flags: tuple[str, ...], told: dict[str, str], read: dict[tuple[str, str], set[str]]
) -> None:
    objects = rendered(*(part for flag in flags for part in ("--set", flag)))
    serving = volumes(one(objects, "Deployment", "footplate-api"))["tls"]["secret"]["secretName"]
    assert ("secrets", serving) in read
    said = environment(one(objects, "Deployment", "footplate-operator"))
    assert {name: value for name, value in said.items() if "_CA_" in name} == told
    rights = named_rights(one(objects, "Role", "footplate-operator-certificates"))
    assert rights == {
        ("configmaps", ""): {"create"},
        ("configmaps", PLACE.bundle): {"get", "update", "delete"},
        **read,
    }


def test_what_cert_manager_is_asked_for() -> None:
    wanted = ("duration=2160h", "renewBefore=360h", "issuerRef.kind=ClusterIssuer")
    flags = [*ISSUED, *(f"api.tls.certManager.{flag}" for flag in wanted)]
    objects = rendered(*(f"--set={flag}" for flag in flags))
    certificate = one(objects, "Certificate", PLACE.service)["spec"]
    serving = volumes(one(objects, "Deployment", "footplate-api"))["tls"]["secret"]
    assert certificate["secretName"] == serving["secretName"] != PLACE.serving, "the operator keeps that one"
    assert certificate["issuerRef"] == {"name": "house", "kind": "ClusterIssuer", "group": "cert-manager.io"}
    assert (certificate["duration"], certificate["renewBefore"]) == ("2160h", "360h")
    url = urlsplit(environment(one(objects, "Deployment", "footplate-operator"))["FOOTPLATE_API_URL"])
    assert url.hostname in certificate["dnsNames"]
    assert not [item for item in rendered() if item["kind"] == "Certificate"], "unless it is chosen"


@pytest.mark.parametrize("named", ["mine", "mine,footplate-api"])
def test_tokens_of_coordinators_are_taken_whatever_others_are(named: str) -> None:
    objects = rendered("--set", f"api.auth.audiences={{{named}}}")
    taken = environment(one(objects, "Deployment", "footplate-api"))["FOOTPLATE_TOKEN_AUDIENCES"]
    assert taken == f"{API_AUDIENCE},mine"
