"""The chart as Helm renders it: what runs, with which rights, under which values."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.chart import (
    CHART,
    KUBERNETES,
    container,
    environment,
    helm,
    objects_in,
    one,
    rendered,
    rights,
    template,
)

LOCAL = ("--values", "values-local.yaml")
QUIET_CHILDREN = [
    ("", "configmaps"),
    ("", "services"),
    ("policy", "poddisruptionbudgets"),
    ("networking.k8s.io", "networkpolicies"),
]


@pytest.mark.parametrize("values", [pytest.param((), id="defaults"), pytest.param(LOCAL, id="local")])
def test_lint(values: tuple[str, ...]) -> None:
    done = helm("lint", "--strict", ".", f"--kube-version={KUBERNETES}", *values)
    assert done.returncode == 0, done.stdout


def test_rights_of_the_operator() -> None:
    objects = rendered()
    reading = {"get", "list", "watch"}
    owning = {"get", "list", "watch", "create", "delete", "deletecollection"}
    assert rights(one(objects, "ClusterRole", "footplate-operator")) == {
        ("footplate.dev", "trainingruns"): reading | {"delete"},
        ("footplate.dev", "trainingruns/status"): {"patch"},
        ("", "pods"): owning | {"patch"},
        **dict.fromkeys(QUIET_CHILDREN, owning),
        ("", "secrets"): {"create", "delete"},
        ("apps", "controllerrevisions"): owning,
        ("", "events"): {"list"},
        ("events.k8s.io", "events"): {"create"},
    }
    assert rights(one(objects, "ClusterRole", "footplate-operator-cluster")) == {
        ("footplate.dev", "computeprofiles"): {"list", "watch"},
        ("footplate.dev", "priceentries"): reading | {"create"},
        ("footplate.dev", "carbonintensities"): {"list", "watch"},
        ("footplate.dev", "usagerecords"): {"get", "list", "create", "patch", "delete"},
        ("scheduling.k8s.io", "priorityclasses"): {"list", "watch"},
        ("", "nodes"): reading,
    }
    without = one(rendered("--set", "operator.watchNodes=false"), "ClusterRole", "footplate-operator-cluster")
    assert ("", "nodes") not in rights(without)
    of_nodes = one(objects, "Role", "footplate-operator-node-leases")
    assert of_nodes["metadata"]["namespace"] == "kube-node-lease"
    assert rights(of_nodes) == {("coordination.k8s.io", "leases"): {"get"}}
    lease = one(objects, "Role", "footplate-operator-lease")
    assert lease["metadata"]["namespace"] == "footplate-system"
    assert rights(lease) == {("coordination.k8s.io", "leases"): {"get", "create", "update"}}


@pytest.mark.parametrize("name", ["footplate-operator", "footplate-api"])
def test_watched_namespaces_narrow_the_rights(name: str) -> None:
    objects = rendered("--set", "operator.watchNamespaces={research,demo}")
    bindings = [item for item in objects if item["kind"] in ("ClusterRoleBinding", "RoleBinding")]
    where = {item["metadata"].get("namespace") for item in bindings if item["roleRef"]["name"] == name}
    assert where == {"research", "demo"}
    assert environment(one(objects, "Deployment", name))["FOOTPLATE_WATCH_NAMESPACES"] == "research,demo"
    everywhere = rights(one(objects, "ClusterRole", f"{name}-cluster"))
    assert not {resource for _, resource in everywhere} & {"trainingruns", "pods", "secrets"}


@pytest.mark.parametrize("name", ["footplate-status", "footplate-requested-by", "footplate-compute"])
def test_watched_namespaces_narrow_what_policies_deny(name: str) -> None:
    """Two releases with namespaces of their own do not deny what the other one writes."""

    def where(*flags: str) -> list[dict[str, object]]:
        policy = one(rendered(*flags), "ValidatingAdmissionPolicy", name)
        selector = policy["spec"]["matchConstraints"].get("namespaceSelector", {})
        found: list[dict[str, object]] = selector.get("matchExpressions", [])
        return found

    named = {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["research", "demo"]}
    assert where() == []
    assert where("--set", "operator.watchNamespaces={research,demo}") == [named]


def test_watched_namespaces_narrow_whose_usage_nobody_else_writes() -> None:
    def conditions(*flags: str) -> list[str]:
        policy = one(rendered(*flags), "ValidatingAdmissionPolicy", "footplate-usage")
        return [known["expression"] for known in policy["spec"].get("matchConditions", [])]

    assert conditions() == []
    narrowed = ("--set", "operator.watchNamespaces={research,demo}")
    [found] = conditions(*narrowed)
    assert found.endswith(".spec.?owner.?namespace.orValue('') in ['research','demo','']"), "Nodes, too"
    [found] = conditions(*narrowed, "--set", "clusterScoped.enabled=false")
    assert found.endswith(".spec.?owner.?namespace.orValue('') in ['research','demo']")


@pytest.mark.parametrize("name", ["footplate-operator", "footplate-api"])
def test_pods_are_restricted(name: str) -> None:
    deployment = one(rendered(), "Deployment", name)
    pod = deployment["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container(deployment)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} <= container(deployment)["resources"].keys()
    assert container(deployment)["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert container(deployment)["readinessProbe"]["httpGet"]["path"] == "/readyz"


def test_no_pod_has_the_variables_that_services_of_its_namespace_make() -> None:
    """Of a Service footplate-api one is FOOTPLATE_API_PORT, an URL."""
    objects = rendered("--set", "operator.handOver=true", "--set", "api.backup.enabled=true")
    bodies = [body for body in objects if body["kind"] in {"Deployment", "Job", "Pod"}]
    specs = [body["spec"] if body["kind"] == "Pod" else body["spec"]["template"]["spec"] for body in bodies]
    assert {body["kind"] for body in bodies} == {"Deployment", "Job", "Pod"}
    assert all(spec["enableServiceLinks"] is False for spec in specs)


def test_the_next_operator_waits_for_the_lease_before_the_one_that_leads_goes() -> None:
    strategy = one(rendered(), "Deployment", "footplate-operator")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


def test_what_the_operator_is_told() -> None:
    told = environment(one(rendered(*LOCAL), "Deployment", "footplate-operator"))
    told.pop("HOME"), told.pop("PYTHONDONTWRITEBYTECODE")
    assert told == {
        "FOOTPLATE_NAMESPACE": {"fieldRef": {"fieldPath": "metadata.namespace"}},
        "FOOTPLATE_POD_NAME": {"fieldRef": {"fieldPath": "metadata.name"}},
        "FOOTPLATE_METRICS_PORT": "8080",
        "FOOTPLATE_LOG_LEVEL": "INFO",
        "FOOTPLATE_LOG_FORMAT": "logfmt",
        "FOOTPLATE_WATCH_NAMESPACES": "",
        "FOOTPLATE_CLUSTER_SCOPED": "true",
        "FOOTPLATE_KEYS_NAME": "footplate-run-key",
        "FOOTPLATE_NETWORK_POLICIES": "true",
        "FOOTPLATE_USAGE_RETENTION_DAYS": "7",
        "FOOTPLATE_TRAINER_IMAGE": "localhost/footplate/trainer:dev",
        "FOOTPLATE_COORDINATOR_IMAGE": "localhost/footplate/coordinator:dev",
        "FOOTPLATE_IMAGE_PULL_POLICY": "IfNotPresent",
        "FOOTPLATE_COORDINATOR_IMAGE_PULL_POLICY": "IfNotPresent",
        "FOOTPLATE_API_URL": "https://footplate-api.footplate-system.svc:8443",
        "FOOTPLATE_API_SERVICE": "footplate-api",
        "FOOTPLATE_API_TOKEN_FILE": "/etc/footplate/api/token",
        "SSL_CERT_FILE": "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt",
        "SSL_CERT_DIR": "",
    }


def test_the_operator_is_told_the_pull_secrets_of_runs() -> None:
    values = ("--set", "runs.imagePullSecrets[0].name=site", "--set", "runs.imagePullSecrets[1].name=mirror")
    told = environment(one(rendered(*values), "Deployment", "footplate-operator"))
    assert told["FOOTPLATE_IMAGE_PULL_SECRETS"] == "site,mirror"


SQLITE = "sqlite+aiosqlite:////var/lib/footplate/footplate.db"
POSTGRES = "postgresql+asyncpg://u:p@db/footplate"


@pytest.mark.parametrize(
    ("values", "url", "volume"),
    [
        pytest.param((), SQLITE, {"persistentVolumeClaim": {"claimName": "footplate-api"}}, id="sqlite"),
        pytest.param(
            ("--set", "api.persistence.enabled=false"),
            SQLITE,
            {"emptyDir": {"sizeLimit": "2Gi"}},
            id="emptydir",
        ),
        pytest.param(("--set", f"api.database.url={POSTGRES}"), POSTGRES, None, id="postgresql"),
        pytest.param(
            ("--set", "api.database.existingSecret.name=db"),
            {"secretKeyRef": {"name": "db", "key": "url"}},
            None,
            id="secret",
        ),
    ],
)
def test_where_the_history_is(values: tuple[str, ...], url: object, volume: dict[str, Any] | None) -> None:
    objects = rendered(*values)
    api = one(objects, "Deployment", "footplate-api")
    assert environment(api)["FOOTPLATE_DATABASE_URL"] == url
    volumes = {item.pop("name"): item for item in api["spec"]["template"]["spec"]["volumes"]}
    assert volumes.get("data") == volume
    claims = [item for item in objects if item["kind"] == "PersistentVolumeClaim"]
    assert bool(claims) == ("persistentVolumeClaim" in (volume or {}))


@pytest.mark.parametrize("mode", ["ReadWriteOnce", "ReadWriteOncePod"])
def test_the_file_is_on_a_volume_of_one_writer(mode: str) -> None:
    claim = one(
        rendered("--set", f"api.persistence.accessMode={mode}"), "PersistentVolumeClaim", "footplate-api"
    )
    assert claim["spec"]["accessModes"] == [mode]


def test_the_development_cluster_has_one_writer_too() -> None:
    claim = one(rendered(*LOCAL), "PersistentVolumeClaim", "footplate-api")
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_a_volume_that_is_not_used_may_be_anything() -> None:
    many = "api.persistence.accessMode=ReadWriteMany"
    for unused in (f"api.database.url={POSTGRES}", "api.persistence.enabled=false"):
        objects = rendered("--set", many, "--set", unused)
        assert not any(item["kind"] == "PersistentVolumeClaim" for item in objects)


def test_a_version_with_a_build_makes_labels_and_tags_that_are_legal(tmp_path: Path) -> None:
    chart = tmp_path / "footplate"
    shutil.copytree(CHART, chart)
    said = yaml.safe_load((chart / "Chart.yaml").read_text())
    version = "1.2.3-rc.1+" + "build.7" * 10
    (chart / "Chart.yaml").write_text(yaml.safe_dump(said | {"version": version, "appVersion": "1.2.3+b.7"}))
    done = helm("template", "footplate", str(chart), f"--kube-version={KUBERNETES}")
    assert done.returncode == 0, done.stderr
    objects = objects_in(done.stdout)
    for item in objects:
        labels = item["metadata"]["labels"]
        assert all(
            re.fullmatch(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?", label)
            for label in labels.values()
        )
        assert labels["helm.sh/chart"].startswith("footplate-1.2.3-rc.1_build.7")
        assert labels["app.kubernetes.io/version"] == "1.2.3_b.7"
    assert container(one(objects, "Deployment", "footplate-api"))["image"] == "footplate/api:1.2.3_b.7"


def test_what_the_api_is_told() -> None:
    told = environment(one(rendered("--set", "api.logLevel=DEBUG"), "Deployment", "footplate-api"))
    told.pop("HOME"), told.pop("PYTHONDONTWRITEBYTECODE")
    assert told == {
        "FOOTPLATE_API_PORT": "8443",
        "FOOTPLATE_TLS_CERTIFICATE_FILE": "/etc/footplate/tls/tls.crt",
        "FOOTPLATE_TLS_KEY_FILE": "/etc/footplate/tls/tls.key",
        "FOOTPLATE_DATABASE_URL": SQLITE,
        "FOOTPLATE_DATABASE_SIZE": "2Gi",
        "FOOTPLATE_RETENTION_ROWS_PER_RUN": "1000000",
        "FOOTPLATE_RETENTION_FULL_DAYS": "30",
        "FOOTPLATE_RETENTION_ROWS_AFTER": "10000",
        "FOOTPLATE_RETENTION_KEPT_DAYS": "365",
        "FOOTPLATE_TOKEN_AUDIENCES": "footplate-api",
        "FOOTPLATE_RATE_PER_SECOND": "50",
        "FOOTPLATE_RATE_BURST": "200",
        "FOOTPLATE_TELEMETRY_RATE_PER_SECOND": "20",
        "FOOTPLATE_TELEMETRY_RATE_BURST": "100",
        "FOOTPLATE_METRICS_PUBLIC": "false",
        "FOOTPLATE_DOCS_PUBLIC": "false",
        "FOOTPLATE_WATCH_NAMESPACES": "",
        "FOOTPLATE_CLUSTER_SCOPED": "true",
        "FOOTPLATE_LOG_LEVEL": "DEBUG",
        "FOOTPLATE_LOG_FORMAT": "logfmt",
    }


def test_annotations_and_labels_reach_the_pods() -> None:
    flags = ("--set-string", r"podAnnotations.footplate\.dev/images=abc", "--set", "podLabels.team=ml")
    for name in ("footplate-operator", "footplate-api"):
        metadata = one(rendered(*flags), "Deployment", name)["spec"]["template"]["metadata"]
        assert metadata["annotations"]["footplate.dev/images"] == "abc"
        assert metadata["labels"]["team"] == "ml"


def test_annotations_of_ours_give_way_and_labels_do_not() -> None:
    flags = (
        *("--set-string", r"podAnnotations.prometheus\.io/scrape=false"),
        *("--set-string", r"podLabels.app\.kubernetes\.io/name=other"),
    )
    for name in ("footplate-operator", "footplate-api"):
        deployment = one(rendered(*flags), "Deployment", name)["spec"]
        metadata = deployment["template"]["metadata"]
        assert metadata["annotations"]["prometheus.io/scrape"] == "false"
        assert metadata["annotations"]["prometheus.io/path"] == "/metrics"
        assert deployment["selector"]["matchLabels"].items() <= metadata["labels"].items()
    assert template(*flags).stdout.count("app.kubernetes.io/name: other") == 0


def test_words_that_yaml_takes_for_something_else_stay_words() -> None:
    flags = ("--set", "operator.priorityClassName=yes", "--set", "api.persistence.storageClassName=off")
    objects = rendered(*flags)
    pod = one(objects, "Deployment", "footplate-operator")["spec"]["template"]["spec"]
    claim = one(objects, "PersistentVolumeClaim", "footplate-api")
    assert (pod["priorityClassName"], claim["spec"]["storageClassName"]) == ("yes", "off")


def test_further_objects_are_templates() -> None:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}}
    given = [body, yaml.safe_dump(body | {"data": {"host": '{{ include "footplate.apiHost" . }}'}})]
    objects = rendered("--set-json", f"extraObjects={json.dumps(given)}")
    found = [item for item in objects if item["metadata"]["name"] == "footplate-more"]
    assert [item.get("data") for item in found] == [None, {"host": "footplate-api.footplate-system.svc"}]


def test_nothing_holds_up_an_uninstall() -> None:
    """Nor an installation, but on an empty cluster, where Helm waits for the kinds."""
    objects = rendered()
    assert not any("finalizers" in item["metadata"] for item in objects)
    hooks = {item["metadata"].get("annotations", {}).get("helm.sh/hook") for item in objects}
    assert hooks == {None, "test"}


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param(
            "operator.watchNamespace=x", "additional properties 'watchNamespace' not allowed", id="typo"
        ),
        pytest.param("api.service.port=70000", "at '/api/service/port'", id="port"),
        pytest.param("api.persistence.size=lots", "at '/api/persistence/size'", id="size"),
        pytest.param("api.database.url=mysql://x", "at '/api/database/url'", id="database"),
        pytest.param("api.database.url=sqlite:////x.db", "at '/api/database/url'", id="file-without-volume"),
        pytest.param(
            "trainer.image.pullPolicy=Sometimes", "at '/trainer/image/pullPolicy'", id="pull-policy"
        ),
        pytest.param(
            "api.tls.caConfigMap=trust",
            'api.tls.caConfigMap is "trust", but api.tls.existingSecret names no Secret',
            id="authorities-of-no-secret",
        ),
        pytest.param("api.tls.existingSecret=My Secret", "at '/api/tls/existingSecret'", id="certificate"),
        pytest.param("api.logLevel=loud", "at '/api/logLevel'", id="log-level"),
        pytest.param(
            "clusterScoped.enabled=false",
            "clusterScoped.enabled is false, but operator.watchNamespaces is empty",
            id="cluster-scoped-nowhere",
        ),
        pytest.param(
            "metrics.podMonitor.enabled=true",
            "metrics.podMonitor.enabled is true, but PodMonitor was removed",
            id="monitor-of-an-earlier-release",
        ),
        pytest.param(
            "api.persistence.accessMode=ReadWriteMany",
            "api.persistence.accessMode is ReadWriteMany, but a SQLite file has one writer: set"
            " ReadWriteOncePod",
            id="volume-of-many",
        ),
        pytest.param(
            "api.database.existingSecret.key=dsn",
            'api.database.existingSecret.key is "dsn", but api.database.existingSecret.name names no Secret',
            id="key-of-no-secret",
        ),
        pytest.param(
            "api.database.existingSecret.name=My Secret",
            "at '/api/database/existingSecret/name'",
            id="secret",
        ),
        pytest.param(
            "api.database.existingSecret.key=a/b",
            "at '/api/database/existingSecret/key'",
            id="key-of-a-secret",
        ),
        pytest.param(
            "api.auth.oidc.caConfigMap.name=My Map", "at '/api/auth/oidc/caConfigMap/name'", id="authorities"
        ),
        pytest.param(
            "api.database.url=postgresql://h/d,api.database.existingSecret.name=db",
            "api.database.url and api.database.existingSecret.name both set the history's database",
            id="two-databases",
        ),
    ],
)
def test_wrong_values_are_refused(flag: str, says: str) -> None:
    done = template("--set", flag)
    assert done.returncode != 0
    assert says in done.stderr
