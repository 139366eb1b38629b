"""The oldest and the newest Kubernetes take every rendered object; every pod is a restricted one."""

from __future__ import annotations

import importlib.resources
import json
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from jsonschema_rs import Draft202012Validator, Registry

from cluster.kubernetes.envtest import api_server
from tests.component.contracts.kube import Kubectl
from tests.support.chart import CHART, NAMESPACE, rendered, template

# What each release of Kubernetes takes as an object: by schemas of the package kubernetes-validate.
#
# They are made of the OpenAPI of those releases, and strict: a field that is not there is a fault, as it is
# for `kubectl --validate=strict`. Our own kinds have the schemas of `crds/`. Of the kinds of others that the
# chart renders, those of the Prometheus operator and of cert-manager, there is none in that package; what
# stands here names the fields that we use, by their documentation, and is no proof that those projects take
# them.

Json = dict[str, Any]
ROOT: Final = Path(__file__).resolve().parents[3]
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


ALL: Final = Path(__file__).parent / "values" / "everything.yaml"
SETS: Final = {
    "default": (),
    "local": ("--values", "values-local.yaml"),
    "everything": ("--values", str(ALL)),
    "everything-else": ("--set=operator.handOver=true,networkPolicy.enabled=false,rbac.create=false",),
}
_CHART: Final = yaml.safe_load((CHART / "Chart.yaml").read_text())
OLDEST: Final = _CHART["kubeVersion"].removeprefix(">=").rpartition(".")[0]
NEWEST: Final = releases()[-1]
RESTRICTED: Final = "pod-security.kubernetes.io/enforce=restricted"


def test_which_releases_of_kubernetes_are_meant() -> None:
    assert f">={OLDEST}.0-0" == _CHART["kubeVersion"] and OLDEST in releases()
    assert [int(part) for part in NEWEST.split(".")] >= [1, 37]


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_kubernetes_takes_what_is_rendered(values: tuple[str, ...], release: str) -> None:
    objects = rendered(f"--kube-version={release}.0", *values)
    assert [fault for body in objects for fault in faults(body, release)] == []


def test_everything_is_everything() -> None:
    """What no other set renders is rendered by that one."""
    kinds = {name: {item["kind"] for item in rendered(*values)} for name, values in SETS.items()}
    everything = kinds.pop("everything")
    only_with_a_file = {"PersistentVolumeClaim"}
    assert set.union(*kinds.values()) - everything <= only_with_a_file
    of_others = {"Certificate", "ServiceMonitor", "PrometheusRule"}
    assert of_others | {"Ingress", "PodDisruptionBudget", "Job"} <= everything


def _deployment(**more: Any) -> dict[str, Any]:
    pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "b"}]}}
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod, **more}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": spec}


@pytest.mark.parametrize("release", [OLDEST, NEWEST])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        pytest.param(_deployment(), [], id="right"),
        pytest.param(_deployment(replicas="x"), ["Deployment d: spec.replicas: "], id="type"),
        pytest.param(_deployment(replica=1), ["Deployment d: spec: "], id="field"),
        pytest.param(
            {
                "apiVersion": "footplate.dev/v1alpha1",
                "kind": "ComputeProfile",
                "metadata": {"name": "p"},
                "spec": {"backend": "gloo", "processesPerNod": 1},
            },
            ["ComputeProfile p: spec: "],
            id="field-of-ours",
        ),
    ],
)
def test_what_is_wrong_is_told(body: dict[str, Any], says: list[str], release: str) -> None:
    told = faults(body, release)
    assert [any(fault.startswith(said) for fault in told) for said in says] == [True] * len(says)
    assert bool(told) == bool(says)


def test_a_kind_that_is_not_known_is_no_right_one() -> None:
    with pytest.raises(LookupError, match=r"1\.30 has no Deployment of apps/v9"):
        faults(_deployment() | {"apiVersion": "apps/v9"}, "1.30")


def test_an_older_cluster_is_refused() -> None:
    done = template("--kube-version=1.29.9")
    assert done.returncode != 0
    said = "chart requires kubeVersion: >=1.30.0-0 which is incompatible with Kubernetes v1.29.9"
    assert said in done.stderr
    assert template("--kube-version=1.30.0").returncode == 0


def _pods(objects: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each pod that comes of these, with a name of its own."""
    for body in objects:
        name, spec = f"{body['kind']}-{body['metadata']['name']}".lower(), body.get("spec", {})
        pod = body if body["kind"] == "Pod" else spec.get("template", {})
        if "containers" in pod.get("spec", {}):
            about = {"name": name, "labels": pod["metadata"].get("labels", {})}
            yield name, {"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": pod["spec"]}


@pytest.fixture(scope="module")
def kubectl(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Of an API server with our kinds and the namespaces of all sets."""
    with api_server(tmp_path_factory.mktemp("schemas") / "server") as server:
        found = Kubectl(server.kubectl, server.kubeconfig)
        for name in (NAMESPACE, "research", "demo", "strict"):
            found("create", "namespace", name)
        found("label", "namespace", "strict", RESTRICTED)
        found("apply", "--server-side", "--filename=crds/")
        found("wait", "--for=condition=Established", "--timeout=30s", "--filename=crds/")
        yield found


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_an_api_server_takes_what_is_rendered(kubectl: Kubectl, values: tuple[str, ...]) -> None:
    """It knows more than a schema says; of the kinds of others there is none here."""
    others = {"ServiceMonitor", "PrometheusRule", "Certificate"}
    objects = [body for body in rendered(*values) if body["kind"] not in others]
    bodies = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=bodies)


def test_pods_are_taken_where_only_restricted_ones_are(kubectl: Kubectl) -> None:
    """So there is no level of Pod Security that a namespace may enforce and the chart does not meet."""
    pods = dict(_pods([body for values in SETS.values() for body in rendered(*values)]))
    wanted = {"deployment-footplate-operator", "deployment-footplate-api", "job-footplate-hand-over-before"}
    assert wanted | {"pod-footplate-test"} <= pods.keys()
    loose = json.loads(json.dumps(pods["deployment-footplate-api"]))
    del loose["spec"]["containers"][0]["securityContext"]
    create = ("create", "--dry-run=server", "--namespace=strict", "--filename=-")
    kubectl(*create, stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": [*pods.values()]}))
    refused = kubectl.run(*create, stdin=json.dumps(loose))
    assert 'violates PodSecurity "restricted:latest"' in refused.stderr
