"""What each release of Kubernetes takes as an object: by schemas of the package kubernetes-validate.

They are made of the OpenAPI of those releases, and strict: a field that is not there is a fault, as it is for
`kubectl --validate=strict`. Our own kinds have the schemas of `crds/`. Of the kinds of others that the chart
renders, those of the Prometheus operator and of cert-manager, there is none in that package; what stands here
names the fields that we use, by their documentation, and is no proof that those projects take them.
"""

from __future__ import annotations

import importlib.resources
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema_rs import Draft202012Validator, Registry

Json = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parents[2]
_CARRIED: Final = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
_DEFINITIONS: Final = "https://kubernetes.io/api/_definitions.json"


def releases() -> list[str]:
    """Releases of Kubernetes with schemas, such as "1.30", oldest first."""
    names = (re.fullmatch(r"v(\d+)\.(\d+)\.0-local-strict", entry.name) for entry in _CARRIED.iterdir())
    found = sorted((int(name[1]), int(name[2])) for name in names if name)
    return [f"{major}.{minor}" for major, minor in found]


def faults(body: Json, release: str) -> list[str]:
    """What is wrong with an object for that release of Kubernetes, each with its place; empty: nothing.

    Raises LookupError for a kind that the release does not serve, and that is not known otherwise.
    """
    found = _validator(body["apiVersion"], body["kind"], release).iter_errors(body)
    about = f"{body['kind']} {body['metadata']['name']}"
    return [f"{about}: {'.'.join(map(str, fault.instance_path))}: {fault.message}" for fault in found]


@cache
def _validator(api_version: str, kind: str, release: str) -> Draft202012Validator:
    own = _ours() | _OTHERS
    if (api_version, kind) in own:
        return Draft202012Validator(own[api_version, kind])
    group, _, version = api_version.rpartition("/")
    name = "-".join(part for part in (kind.lower(), group.partition(".")[0], version) if part)
    file = _CARRIED / f"v{release}.0-local-strict" / f"{name}.json"
    if not file.is_file():
        raise LookupError(f"Kubernetes {release} has no {kind} of {api_version}, and no schema here is of it")
    return Draft202012Validator(json.loads(file.read_text()), registry=_definitions(release))


@cache
def _definitions(release: str) -> Registry:
    file = _CARRIED / f"v{release}.0-local-strict" / "_definitions.json"
    return Registry([(_DEFINITIONS, json.loads(file.read_text()))])


@cache
def _ours() -> dict[tuple[str, str], Json]:
    found = {}
    for path in sorted((ROOT / "crds").glob("*.yaml")):
        spec = yaml.safe_load(path.read_text())["spec"]
        for version in spec["versions"]:
            known = version["schema"]["openAPIV3Schema"]
            known["properties"]["metadata"] = {"type": "object"} | _OPEN
            found[f"{spec['group']}/{version['name']}", spec["names"]["kind"]] = _strict(known)
    return found


_OPEN: Final = {"x-kubernetes-preserve-unknown-fields": True}


def _strict(schema: Any) -> Any:
    """`schema` with what the API server does to fields that it does not name, as a fault."""
    if isinstance(schema, list):
        return [_strict(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    found = {name: _strict(item) for name, item in schema.items()}
    if isinstance(found.get("properties"), dict) and not found.get("x-kubernetes-preserve-unknown-fields"):
        found.setdefault("additionalProperties", False)
    return found


def _record(required: tuple[str, ...] = (), **fields: Json) -> Json:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": fields,
        "required": list(required),
    }


def _kind(spec: Json) -> Json:
    text = {"type": "string"}
    metadata = {"type": "object", "required": ["name", "namespace"]}
    return _record(("spec",), apiVersion=text, kind=text, metadata=metadata, spec=spec)


_TEXT: Final[Json] = {"type": "string"}
_TEXTS: Final[Json] = {"type": "array", "items": _TEXT, "minItems": 1}
_LABELS: Final[Json] = {"type": "object", "additionalProperties": _TEXT}
_KEY: Final = _record(("name", "key"), name=_TEXT, key=_TEXT)
_DURATION: Final[Json] = {"type": "string", "pattern": "^(0|(([0-9]+)(h|m|s|ms))+)$"}
_ENDPOINT: Final = _record(
    ("port",),
    port=_TEXT,
    scheme={"enum": ["http", "https", "HTTP", "HTTPS"]},
    interval=_DURATION,
    honorLabels={"type": "boolean"},
    bearerTokenFile=_TEXT,
    authorization=_record(type=_TEXT, credentials=_KEY),
    tlsConfig=_record(serverName=_TEXT, ca=_record(configMap=_KEY)),
)
_ALERT: Final[Json] = {
    "alert": _TEXT,
    "expr": _TEXT,
    "for": _DURATION,
    "labels": _LABELS,
    "annotations": _LABELS,
}
_RULE: Final[Json] = {
    "oneOf": [_record(("record", "expr"), record=_TEXT, expr=_TEXT), _record(tuple(_ALERT), **_ALERT)]
}
_GROUP: Final = _record(("name", "rules"), name=_TEXT, rules={"type": "array", "items": _RULE, "minItems": 1})
_OTHERS: Final[dict[tuple[str, str], Json]] = {
    ("monitoring.coreos.com/v1", "ServiceMonitor"): _kind(
        _record(
            ("selector", "endpoints"),
            selector=_record(matchLabels=_LABELS),
            namespaceSelector=_record(matchNames=_TEXTS),
            endpoints={"type": "array", "items": _ENDPOINT, "minItems": 1},
        )
    ),
    ("monitoring.coreos.com/v1", "PrometheusRule"): _kind(
        _record(("groups",), groups={"type": "array", "items": _GROUP, "minItems": 1})
    ),
    ("cert-manager.io/v1", "Certificate"): _kind(
        _record(
            ("secretName", "issuerRef"),
            secretName=_TEXT,
            issuerRef=_record(("name",), name=_TEXT, kind=_TEXT, group=_TEXT),
            dnsNames=_TEXTS,
            usages={"type": "array", "items": {"enum": ["server auth"]}},
            privateKey=_record(
                algorithm={"enum": ["RSA", "ECDSA", "Ed25519"]}, rotationPolicy={"enum": ["Always", "Never"]}
            ),
            duration=_DURATION,
            renewBefore=_DURATION,
        )
    ),
}
