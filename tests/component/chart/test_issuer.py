"""What the chart tells the API of an OIDC issuer."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from tests.support.chart import container, environment, one, rendered, template

URL: Final = {"issuerURL": "https://login.example.com"}
ISSUER: Final = {**URL, "clientIDs": ["footplate", "portal"]}


def flags(oidc: dict[str, Any]) -> tuple[str, str]:
    return "--set-json", f"api.auth.oidc={json.dumps(oidc)}"


def test_what_the_api_is_told_of_an_issuer() -> None:
    oidc = {
        **ISSUER,
        "usernamePrefix": "-",
        "groupsClaim": "groups",
        "groupsPrefix": "oidc:",
        "requiredClaims": {"hd": "example.com", "a": "b"},
        "caConfigMap": {"name": "authorities"},
    }
    deployment = one(rendered(*flags(oidc)), "Deployment", "footplate-api")
    told = {name: value for name, value in environment(deployment).items() if "OIDC" in name}
    assert told == {
        "FOOTPLATE_OIDC_ISSUER": "https://login.example.com",
        "FOOTPLATE_OIDC_AUDIENCES": "footplate,portal",
        "FOOTPLATE_OIDC_USERNAME_CLAIM": "sub",
        "FOOTPLATE_OIDC_USERNAME_PREFIX": "-",
        "FOOTPLATE_OIDC_GROUPS_CLAIM": "groups",
        "FOOTPLATE_OIDC_GROUPS_PREFIX": "oidc:",
        "FOOTPLATE_OIDC_REQUIRED_CLAIMS": "a=b,hd=example.com",
        "FOOTPLATE_OIDC_ALGORITHMS": "RS256,ES256",
        "FOOTPLATE_OIDC_CA_FILE": "/etc/footplate/oidc/ca.crt",
    }
    [volume] = [v for v in deployment["spec"]["template"]["spec"]["volumes"] if v["name"] == "oidc"]
    assert volume["configMap"] == {"name": "authorities"}
    [mount] = [m for m in container(deployment)["volumeMounts"] if m["name"] == "oidc"]
    assert (mount["mountPath"], mount["readOnly"]) == ("/etc/footplate/oidc", True)


@pytest.mark.parametrize(
    ("oidc", "says"),
    [
        pytest.param(URL, "clientIDs is empty: set the clients", id="no-clients"),
        pytest.param({**ISSUER, "issuerURL": "http://a"}, "issuerURL", id="plain-http"),
        pytest.param({**ISSUER, "signingAlgorithms": ["HS256"]}, "signingAlgorithms", id="symmetric"),
        pytest.param({**ISSUER, "requiredClaims": {"hd": "a,b"}}, "requiredClaims", id="comma"),
    ],
)
def test_an_issuer_that_cannot_be_is_refused(oidc: dict[str, Any], says: str) -> None:
    done = template(*flags(oidc))
    assert done.returncode != 0 and says in done.stderr
