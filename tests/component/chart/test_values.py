"""Every value of the chart changes what is rendered: none is there for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any, Final

import pytest
import yaml

from tests.support.chart import CHART, template

VALUES: Final[dict[str, Any]] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: Final[dict[str, Any]] = json.loads((CHART / "values.schema.json").read_text())
# What another value has to be, or a leaf has nothing to act upon.
CLIENTS: Final = 'api.auth.oidc.clientIDs=["b"]'
ISSUER: Final = ("api.auth.oidc.issuerURL=https://a", CLIENTS)
AUTHORITIES: Final = "api.auth.oidc.caConfigMap.name=ca"
MONITORED: Final = "metrics.serviceMonitor.enabled=true"
RULES: Final = "metrics.rules.enabled=true"
ISSUED: Final = ("api.tls.certManager.enabled=true", "api.tls.certManager.issuerRef.name=house")
PUBLISHED: Final = ("api.ingress.enabled=true", "api.ingress.host=a.b", "api.ingress.tls.secretName=a")
DATABASE: Final = "api.database.url=postgresql://host/db"
BACKUP: Final = "api.backup.enabled=true"
GIVEN: Final = {
    "api.backup.schedule": (BACKUP,),
    "api.backup.keep": (BACKUP,),
    "api.backup.restoreFrom": (BACKUP,),
    "api.backup.persistence.existingClaim": (BACKUP,),
    "api.backup.persistence.size": (BACKUP,),
    "api.backup.persistence.storageClassName": (BACKUP,),
    "api.auth.oidc.issuerURL": (CLIENTS,),
    "api.auth.oidc.clientIDs": ISSUER,
    "api.auth.oidc.usernameClaim": ISSUER,
    "api.auth.oidc.usernamePrefix": ISSUER,
    "api.auth.oidc.groupsClaim": ISSUER,
    "api.auth.oidc.groupsPrefix": ISSUER,
    "api.auth.oidc.requiredClaims": ISSUER,
    "api.auth.oidc.signingAlgorithms": ISSUER,
    "api.auth.oidc.caConfigMap.name": ISSUER,
    "api.auth.oidc.caConfigMap.key": (*ISSUER, AUTHORITIES),
    "api.database.existingSecret.key": ("api.database.existingSecret.name=db",),
    "api.ingress.annotations": PUBLISHED,
    "api.ingress.className": PUBLISHED,
    "api.ingress.enabled": PUBLISHED[1:],
    "api.ingress.host": PUBLISHED,
    "api.ingress.tls.enabled": PUBLISHED,
    "api.ingress.tls.secretName": PUBLISHED,
    "api.podDisruptionBudget.enabled": ("api.replicaCount=2", DATABASE),
    "api.podDisruptionBudget.maxUnavailable": ("api.replicaCount=2", DATABASE),
    "api.replicaCount": (DATABASE,),
    "api.retention.databaseSize": (DATABASE,),
    "api.serviceAccount.create": ("api.serviceAccount.name=mine",),
    **{f"api.tls.certManager.{name}": ISSUED for name in ("duration", "renewBefore")},
    **{f"api.tls.certManager.issuerRef.{name}": ISSUED for name in ("name", "kind", "group")},
    "api.tls.certManager.enabled": ISSUED[1:],
    "api.tls.caConfigMap": ("api.tls.existingSecret=mine",),
    "clusterScoped.enabled": ('operator.watchNamespaces=["other"]',),
    "metrics.serviceMonitor.tokenSecret.name": (MONITORED,),
    "metrics.serviceMonitor.tokenSecret.key": (
        MONITORED,
        "metrics.serviceMonitor.tokenSecret.name=prometheus",
    ),
    "metrics.serviceMonitor.interval": (MONITORED,),
    "metrics.serviceMonitor.labels": (MONITORED,),
    **{f"metrics.rules.{name}": (RULES,) for name in ("labels", "runbookUrl", "disabled")},
    "networkPolicy.ingressController": PUBLISHED,
    "operator.podDisruptionBudget.enabled": ("operator.replicaCount=2",),
    "operator.podDisruptionBudget.maxUnavailable": ("operator.replicaCount=2",),
    "operator.serviceAccount.create": ("operator.serviceAccount.name=mine",),
}
# Where any other value would not do.
OTHERS: Final[dict[str, Any]] = {
    "prices": {"other": {"profile": "a", "dollarsPerNodeHour": 1, "effectiveFrom": "2026-01-01T00:00:00Z"}},
    "carbonIntensities": {
        "other": {"zone": "a", "points": [{"from": "2026-01-01T00:00:00Z", "gramsPerKilowattHour": 1}]}
    },
    "extraObjects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more"}}],
    **{
        f"networkPolicy.{who}": [{"podSelector": {}}]
        for who in ("monitoring", "ingressController", "clients")
    },
}
DIGEST: Final = f"sha256:{64 * 'a'}"
TEXTS: Final = ("other", DIGEST, "9Gi", "7s", "postgresql://host/other", "https://other", "77m", "4 5 * * *")


def schema_of(path: tuple[str, ...]) -> dict[str, Any]:
    """What the schema says of a value."""
    node = SCHEMA
    for name in path:
        node = node["properties"].get(name) if "properties" in node else node["additionalProperties"]
        if "$ref" in node:
            node = SCHEMA["definitions"][node["$ref"].rsplit("/", 1)[-1]]
    return node


def leaves(values: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Path and value of what is no further map; of a spec, which is handed over whole, one field."""
    for name, value in values.items():
        if name == "spec":
            yield (*path, name, "processesPerNode"), value["processesPerNode"]
        elif isinstance(value, dict) and value:
            yield from leaves(value, (*path, name))
        else:
            yield (*path, name), value


def another(value: Any, schema: dict[str, Any]) -> Any:
    """A value that the schema allows, and that is not `value`."""
    if "enum" in schema:
        return next(member for member in schema["enum"] if member != value)
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + 1
    if isinstance(value, list):
        return [another("", schema["items"])]
    if schema.get("type") == "object":
        return {"name" if "required" in schema else "other": "other"}
    return next(text for text in TEXTS if text != value and re.search(schema.get("pattern", ""), text))


def as_json(setting: str) -> str:
    """For `--set-json`: what `--set` says would win over the value that is changed."""
    path, _, value = setting.partition("=")
    with suppress(ValueError):
        json.loads(value)
        return setting
    return f"{path}={json.dumps(value)}"


@cache
def text(*flags: str) -> str:
    """The rendering; that without a value is what many share."""
    done = template(*flags)
    assert done.returncode == 0, done.stderr
    return done.stdout


LEAVES: Final = [pytest.param(path, value, id=".".join(path)) for path, value in leaves(VALUES)]


@pytest.mark.parametrize(("path", "value"), LEAVES)
def test_each_value_changes_the_rendering(path: tuple[str, ...], value: Any) -> None:
    given = [flag for setting in GIVEN.get(".".join(path), ()) for flag in ("--set-json", as_json(setting))]
    name = ".".join(path)
    changed = json.dumps(OTHERS[name] if name in OTHERS else another(value, schema_of(path)))
    assert text(*given, "--set-json", f"{name}={changed}") != text(*given)
