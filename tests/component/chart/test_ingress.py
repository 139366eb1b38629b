"""The way to the API from outside of the cluster."""

from __future__ import annotations

from typing import Final

import pytest

from tests.support.chart import NAMESPACE, one, rendered, template

HOST: Final = "footplate.example.com"
PUBLISHED: Final = (
    "--set=api.ingress.enabled=true",
    f"--set=api.ingress.host={HOST}",
    "--set=api.ingress.tls.secretName=site",
)


def test_nothing_is_published_unless_that_is_wanted() -> None:
    assert not [item for item in rendered() if item["kind"] == "Ingress"]


def test_an_ingress_leads_to_the_api() -> None:
    annotation = r"api.ingress.annotations.nginx\.ingress\.kubernetes\.io/backend-protocol=HTTPS"
    objects = rendered(*PUBLISHED, "--set=api.ingress.className=nginx", f"--set={annotation}")
    ingress = one(objects, "Ingress", "footplate-api")
    assert ingress["metadata"]["namespace"] == NAMESPACE
    assert ingress["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/backend-protocol": "HTTPS"}
    [rule] = ingress["spec"].pop("rules")
    [path] = rule["http"]["paths"]
    asked = path["backend"]["service"]
    service = one(objects, "Service", asked["name"])["spec"]
    assert asked["port"]["name"] in {port["name"] for port in service["ports"]}
    assert (rule["host"], path["path"], path["pathType"]) == (HOST, "/", "Prefix")
    assert ingress["spec"] == {
        "ingressClassName": "nginx",
        "tls": [{"hosts": [HOST], "secretName": "site"}],
    }


def test_somebody_else_may_end_tls() -> None:
    objects = rendered(*PUBLISHED[:2], "--set=api.ingress.tls.enabled=false")
    ingress = one(objects, "Ingress", "footplate-api")
    assert "tls" not in ingress["spec"] and "ingressClassName" not in ingress["spec"]
    assert "annotations" not in ingress["metadata"]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        pytest.param(
            ["api.ingress.enabled=true"],
            "api.ingress.enabled is true, but api.ingress.host is empty",
            id="no-host",
        ),
        pytest.param(
            ["api.ingress.enabled=true", f"api.ingress.host={HOST}"],
            "api.ingress.tls.enabled is true, but api.ingress.tls.secretName names no Secret",
            id="tls-without-a-secret",
        ),
        pytest.param(["api.ingress.host=https://a"], "at '/api/ingress/host'", id="url"),
        pytest.param(
            ["api.tls.certManager.enabled=true"],
            "api.tls.certManager.enabled is true, but api.tls.certManager.issuerRef.name names no issuer",
            id="no-issuer",
        ),
        pytest.param(
            [
                "api.tls.certManager.enabled=true",
                "api.tls.certManager.issuerRef.name=house",
                "api.tls.existingSecret=mine",
            ],
            'api.tls.existingSecret is "mine" and api.tls.certManager.enabled is true',
            id="two-certificates",
        ),
        pytest.param(
            ["api.tls.certManager.duration=90d"], "at '/api/tls/certManager/duration'", id="duration"
        ),
    ],
)
def test_what_cannot_be_is_refused(flags: list[str], says: str) -> None:
    done = template(*(f"--set={flag}" for flag in flags))
    assert done.returncode != 0 and says in done.stderr, done.stderr
