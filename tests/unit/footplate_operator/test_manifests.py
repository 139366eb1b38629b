"""What is made: pods within restricted Pod Security, children owned by the run, frozen revisions."""

from __future__ import annotations

import base64
import json
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from footplate_contracts.names import Env, Phase, WorkerId
from footplate_contracts.v1alpha1.pods import PullPolicy
from footplate_contracts.v1alpha1.status import GatheringStatus
from footplate_operator.keys.credentials import KEY_BYTES, RunCredentials, derive_credentials, key_id
from footplate_operator.profiles import decode_profile
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.manifests import children, coordinator
from footplate_operator.trainingrun.metadata import certificate_names
from footplate_operator.trainingrun.observation import ApiEndpoint
from footplate_operator.trainingrun.revision import (
    Defaults,
    admit,
    find_revision,
    needs_admission,
    view_revision,
)
from footplate_operator.trainingrun.run import Run
from tests.support.operator_fakes import DEFAULTS, RELEASE, profile_manifest
from tests.support.operator_runs import H100, frozen, run, worker_pod

KEY = bytes(range(KEY_BYTES))
NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def worker(subject: Run, *, address: str = "10.0.0.9", **profile: Any) -> Json:
    return worker_pod(subject, frozen(subject, **profile), WorkerId(1, 4), address)


def leader(subject: Run, **profile: Any) -> Json:
    return coordinator.pod(subject, frozen(subject, **profile), 3, ApiEndpoint("http://api"))


def env(pod: Json) -> dict[str, str]:
    return {variable["name"]: variable.get("value", "") for variable in pod["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("make", [pytest.param(worker, id="worker"), pytest.param(leader, id="coordinator")])
def test_pods_are_restricted_and_carry_no_token(make: Any) -> None:
    spec = make(run())["spec"]
    container = spec["containers"][0]
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["runAsUser"] == 1000
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["automountServiceAccountToken"] is False and spec["enableServiceLinks"] is False
    assert spec["restartPolicy"] == "Never"
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert {"/tmp", "/home/footplate"} <= writable


def test_a_worker_is_named_and_owned() -> None:
    pod = worker(run())
    metadata = pod["metadata"]
    assert metadata["name"] == pod["spec"]["hostname"] == "tiny-w1-4"
    assert metadata["ownerReferences"] == [
        {
            "apiVersion": "footplate.dev/v1alpha1",
            "kind": "TrainingRun",
            "name": "tiny",
            "uid": "uid-1",
            "controller": True,
            "blockOwnerDeletion": False,
        }
    ]
    assert metadata["annotations"]["cluster-autoscaler.kubernetes.io/safe-to-evict"] == "false"
    assert pod["spec"]["terminationGracePeriodSeconds"] == 90, "emergency deadline and half a minute"
    endless = [
        toleration
        for toleration in pod["spec"]["tolerations"]
        if toleration["key"].startswith("node.kubernetes.io/")
    ]
    assert len(endless) == 2 and all("tolerationSeconds" not in toleration for toleration in endless)


def test_a_worker_knows_its_place_but_not_the_private_key() -> None:
    pod = worker(run())
    variables = env(pod)
    assert variables[Env.WORKER_INDEX] == "1" and variables[Env.WORKER_INCARNATION] == "4"
    assert variables[Env.COORDINATOR_ADDRESS] == "10.0.0.9"
    assert variables[Env.COORDINATOR_HOST] == "tiny-coordinator.default.svc"
    assert Env.TLS_KEY_FILE not in variables and Env.API_URL not in variables
    assert Env.COORDINATOR_ADDRESS not in env(worker(run(), address=""))
    secret = next(volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume)
    assert [item["key"] for item in secret["items"]] == ["token", "tls.crt"]


def test_the_coordinator_has_the_key_and_no_user_volume() -> None:
    trainer = {
        "volumes": [{"name": "data", "emptyDir": {}}],
        "volumeMounts": [{"name": "data", "mountPath": "/d"}],
    }
    pod = leader(run(trainer=trainer), **H100)
    assert env(pod)[Env.TLS_KEY_FILE] == "/etc/footplate/run/tls.key"
    assert env(pod)[Env.COORDINATOR_EPOCH] == "3" and env(pod)[Env.API_URL] == "http://api"
    assert "data" not in [volume["name"] for volume in pod["spec"]["volumes"]]
    assert "nvidia.com/gpu" not in json.dumps(pod["spec"]["containers"][0]["resources"])
    assert "nodeSelector" not in pod["spec"], "it needs no GPU node, but may stand on one"
    assert pod["spec"]["tolerations"][0]["key"] == "nvidia.com/gpu"


@pytest.mark.parametrize(
    ("api", "variables", "sources"),
    [
        pytest.param(ApiEndpoint(), set(), [], id="none"),
        pytest.param(
            ApiEndpoint("http://api", "who"), {Env.API_URL, Env.API_TOKEN_FILE}, ["token"], id="in-clear"
        ),
        pytest.param(
            ApiEndpoint("https://api"), {Env.API_URL, Env.API_TOKEN_FILE}, ["token"], id="of-the-system"
        ),
        pytest.param(
            ApiEndpoint("https://api", ""),
            {Env.API_URL, Env.API_TOKEN_FILE, Env.API_CA_FILE},
            ["token", "tiny-api-bundle"],
            id="not-known-yet",
        ),
    ],
)
def test_the_coordinator_learns_who_vouches_for_the_api(
    api: ApiEndpoint, variables: set[str], sources: list[str]
) -> None:
    pod = coordinator.pod(run(), frozen(run()), 1, api)
    said = env(pod)
    assert {name for name in (Env.API_URL, Env.API_TOKEN_FILE, Env.API_CA_FILE) if name in said} == variables
    projected = [volume["projected"]["sources"] for volume in pod["spec"]["volumes"] if "projected" in volume]
    told = [
        source.get("serviceAccountToken") or source["configMap"] for given in projected for source in given
    ]
    assert [source.get("path") or source["name"] for source in told] == sources
    assert all(source["optional"] for source in told if "optional" in source or "name" in source)


@pytest.mark.parametrize(
    ("own", "expected"),
    [pytest.param(PullPolicy.ALWAYS, "Always", id="own"), pytest.param(None, "IfNotPresent", id="trainers")],
)
def test_the_coordinators_image_is_pulled_as_said(own: PullPolicy | None, expected: str) -> None:
    subject = run()
    defaults = DEFAULTS.model_copy(update={"coordinator_image_pull_policy": own})
    revision = admit(subject, decode_profile(profile_manifest()), defaults, [], RELEASE)
    made = coordinator.pod(subject, revision, 1)
    assert made["spec"]["containers"][0]["imagePullPolicy"] == expected


@pytest.mark.parametrize(
    ("general", "own", "of_worker", "of_coordinator"),
    [
        pytest.param(None, ["team"], ["team"], ["team"], id="none-of-the-installation"),
        pytest.param(["site"], [], ["site"], ["site"], id="none-of-the-run"),
        pytest.param(["site", "team"], ["team"], ["team"], ["team", "site"], id="both"),
    ],
)
def test_images_are_pulled_with_the_secrets_of_run_and_installation(
    general: list[str] | None, own: list[str], of_worker: list[str], of_coordinator: list[str]
) -> None:
    subject = run(trainer={"imagePullSecrets": [{"name": name} for name in own]})
    defaults = DEFAULTS.model_copy(update={"image_pull_secrets": general})
    revision = admit(subject, decode_profile(profile_manifest()), defaults, [], RELEASE)
    pods = worker_pod(subject, revision, WorkerId(0, 0), ""), coordinator.pod(subject, revision, 1)
    named = [[secret["name"] for secret in pod["spec"]["imagePullSecrets"]] for pod in pods]
    assert named == [of_worker, of_coordinator]


def test_a_profile_becomes_devices_and_variables() -> None:
    pod = worker(run(compute={"profile": "h100", "nodes": 2}), **H100)
    container = pod["spec"]["containers"][0]
    assert container["resources"] == {
        "requests": {"cpu": "32", "nvidia.com/gpu": "8", "rdma/hca": "8"},
        "limits": {"memory": "512Gi", "nvidia.com/gpu": "8", "rdma/hca": "8"},
    }
    assert env(pod)["NCCL_NET"] == "IB" and env(pod)["NCCL_SOCKET_IFNAME"] == "eth0"
    shm = next(volume["emptyDir"] for volume in pod["spec"]["volumes"] if volume["name"] == "footplate-shm")
    assert shm == {"medium": "Memory", "sizeLimit": "65536Mi"}
    assert pod["spec"]["nodeSelector"] == {"gpu": "h100"}
    assert pod["spec"]["priorityClassName"] == "training"
    assert pod["spec"]["topologySpreadConstraints"][0]["topologyKey"] == "topology.kubernetes.io/rack"


def test_what_a_user_states_wins_but_for_what_holds_the_run_together() -> None:
    trainer = {
        "image": "mine:2",
        "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}],
        "env": [
            {"name": "OMP_NUM_THREADS", "value": "4"},
            {"name": "FOOTPLATE_COORDINATOR_HOST", "value": "evil"},
        ],
        "resources": {"requests": {"cpu": "2"}},
        "serviceAccountName": "reader",
        "podLabels": {"team": "a", "footplate.dev/run-uid": "forged"},
        "volumeMounts": [{"name": "mine", "mountPath": "/tmp/"}],
    }
    pod = worker(run(trainer=trainer, priorityClassName="high"))
    container = pod["spec"]["containers"][0]
    assert (container["image"], container["imagePullPolicy"]) == ("mine:2", "Always")
    assert env(pod)["OMP_NUM_THREADS"] == "4"
    assert env(pod)[Env.COORDINATOR_HOST] == "tiny-coordinator.default.svc"
    assert pod["metadata"]["labels"]["team"] == "a"
    assert pod["metadata"]["labels"]["footplate.dev/run-uid"] == "uid-1"
    assert pod["spec"]["imagePullSecrets"] == [{"name": "registry"}]
    assert pod["spec"]["serviceAccountName"] == "reader" and pod["spec"]["priorityClassName"] == "high"
    assert [mount["mountPath"] for mount in container["volumeMounts"]].count("/tmp") == 0


def test_excluded_nodes_are_avoided_by_name() -> None:
    pod = worker(run(resilience={"excludeNodes": ["a", "b"]}))
    required = pod["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    fields = required["nodeSelectorTerms"][0]["matchFields"]
    assert fields == [
        {"key": "metadata.name", "operator": "NotIn", "values": ["a"]},
        {"key": "metadata.name", "operator": "NotIn", "values": ["b"]},
    ]


def test_builders_share_nothing() -> None:
    subject = run()
    first, second = worker(subject), worker(subject)
    first["metadata"]["labels"]["x"] = "y"
    first["spec"]["containers"][0]["env"].clear()
    assert second == worker(subject)


def test_the_config_map_holds_the_resolved_run_under_its_digest() -> None:
    subject = run()
    first = frozen(subject)
    body = children.config_map(subject, first)
    config = json.loads(body["data"]["run.json"])
    assert config["world"] == {"nodes": 2, "processesPerNode": 2, "backend": "gloo"}
    assert config["model"]["headSize"] == 16
    assert body["metadata"]["name"] == f"tiny-config-{first.frozen.config.digest()[:10]}"


def test_ranks_learn_the_peak_that_the_profile_states() -> None:
    config = frozen(run(), **H100).frozen.config
    assert config.to_json()["world"]["peakTflops"] == {"bf16": 989.0, "fp32": 67.0}


def made(key: bytes = KEY, uid: str = "uid-1") -> RunCredentials:
    return derive_credentials(key, uid, certificate_names(run()), NOW)


def test_a_secret_is_read_as_it_was_written() -> None:
    body = children.secret(run(), made())
    assert children.read_secret(body) == made()
    assert body["immutable"] and len(base64.b64decode(body["data"]["token"])) >= 32


def test_credentials_are_the_same_whoever_leads_and_of_one_run_and_one_key() -> None:
    assert made() == made()
    others = (made(uid="uid-2"), made(key=bytes(KEY_BYTES)))
    for other in others:
        assert other.token != made().token and other.private_key != made().private_key
        assert other.certificate != made().certificate
    assert KEY.hex() not in key_id(KEY) and key_id(KEY) != key_id(bytes(KEY_BYTES))


def test_a_certificate_is_its_own_and_only_authority() -> None:
    one = made()
    context = ssl.create_default_context(cadata=one.certificate.decode())
    [authority] = context.get_ca_certs()
    names = dict.fromkeys(pair[1] for pair in authority["subjectAltName"])
    assert next(iter(names)) == "tiny-coordinator.default.svc" and "tiny-coordinator" in names


@pytest.mark.parametrize(
    ("changes", "number"),
    [
        pytest.param({}, 1, id="nothing-changed"),
        pytest.param({"processesPerNode": 1}, 2, id="the-profile-changed"),
    ],
)
def test_a_revision_is_made_only_for_something_new(changes: dict[str, Any], number: int) -> None:
    subject = run()
    before = frozen(subject)
    again = admit(subject, decode_profile(profile_manifest(**changes)), DEFAULTS, [before], RELEASE)
    assert again.number == number


def test_an_upgrade_of_the_operator_is_a_change_at_the_next_admission_only() -> None:
    subject = run()
    before = frozen(subject)
    newer = Defaults(trainer_image="trainer:2", coordinator_image="coordinator:2")
    assert admit(subject, before.frozen.profile, newer, [before], RELEASE).number == 2
    admitted = replace(subject, status=subject.status.model_copy(update={"revision": "tiny-1"}))
    assert find_revision(admitted, [before]) == before


def test_a_revision_survives_the_api_server() -> None:
    subject = run(compute={"profile": "h100", "nodes": 2})
    made = frozen(subject, **H100)
    stored = json.loads(json.dumps(children.controller_revision(subject, made)).replace("80.0", "80"))
    assert view_revision(stored) == made
    assert view_revision(stored).config_map("tiny") == made.config_map("tiny")


@pytest.mark.parametrize(
    ("phase", "suspend", "needed"),
    [
        pytest.param(None, False, True, id="new"),
        pytest.param(Phase.QUEUED, False, True, id="queued"),
        pytest.param(Phase.RUNNING, False, False, id="running"),
        pytest.param(Phase.SUSPENDED, True, False, id="suspended"),
        pytest.param(Phase.SUSPENDED, False, True, id="resumed"),
    ],
)
def test_admission(phase: Phase | None, suspend: bool, needed: bool) -> None:
    known = run()
    subject = replace(known, status=known.status.model_copy(update={"phase": phase}))
    assert needs_admission(subject, suspend) is needed


def test_a_run_whose_pods_wait_for_nodes_is_not_admitted_anew() -> None:
    known, waits = run(), GatheringStatus(since="2026-01-31T12:00:00Z", turn_time="2026-01-31T12:00:00Z")
    queued = known.status.model_copy(update={"phase": Phase.QUEUED, "gathering": waits})
    assert not needs_admission(replace(known, status=queued), False)
