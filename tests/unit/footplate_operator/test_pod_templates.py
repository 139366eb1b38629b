"""The podTemplate of a profile is merged last, by documented keys."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.names import Role, WorkerId
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.manifests import coordinator, worker
from tests.support.operator_runs import frozen, run, worker_pod

OURS: Json = worker_pod(run(), frozen(run()), WorkerId(1, 4), "", frozenset({"lost"}))


def worker_of(trainer: Json | None = None, **profile: Any) -> Json:
    subject = run(trainer=trainer or {})
    return worker_pod(subject, frozen(subject, **profile), WorkerId(1, 4), "", frozenset({"lost"}))


def spec_with(**spec: Any) -> Json:
    found: Json = worker_of(podTemplate={"spec": spec})["spec"]
    return found


def trainer_with(**fields: Any) -> Json:
    found: Json = spec_with(containers=[{"name": "trainer", **fields}])["containers"][0]
    return found


def test_an_empty_template_changes_nothing() -> None:
    assert worker_of(podTemplate={}) == OURS


def test_variables_are_replaced_by_name() -> None:
    variable = {"name": "OMP_NUM_THREADS", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    ours = [item for item in OURS["spec"]["containers"][0]["env"] if item["name"] != "OMP_NUM_THREADS"]
    further = {"name": "SITE", "value": "b"}
    assert trainer_with(env=[variable, further])["env"] == [*ours, variable, further]


def test_mounts_volumes_and_init_containers_are_added() -> None:
    mount = {"name": "huge", "mountPath": "/dev/hugepages"}
    volume = {"name": "huge", "emptyDir": {"medium": "HugePages-2Mi"}}
    download = {"name": "download", "image": "a", "securityContext": {"readOnlyRootFilesystem": False}}
    spec = spec_with(
        containers=[{"name": "trainer", "volumeMounts": [mount]}],
        volumes=[volume],
        initContainers=[download],
    )
    ours = OURS["spec"]
    assert spec["volumes"] == [*ours["volumes"], volume]
    assert spec["containers"][0]["volumeMounts"] == [*ours["containers"][0]["volumeMounts"], mount]
    security = {**ours["containers"][0]["securityContext"], "readOnlyRootFilesystem": False}
    assert spec["initContainers"] == [{**download, "securityContext": security}]


def test_a_sidecar_keeps_to_the_standard_of_the_profile() -> None:
    sidecar = {"name": "metrics", "image": "metrics:1"}
    trainer, metrics = spec_with(containers=[sidecar])["containers"]
    assert trainer == OURS["spec"]["containers"][0]
    assert metrics == {**sidecar, "securityContext": trainer["securityContext"]}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        pytest.param("dnsConfig", {"options": [{"name": "ndots", "value": "1"}]}, id="map"),
        pytest.param("dnsPolicy", "None", id="scalar"),
        pytest.param("preemptionPolicy", "Never", id="unknown-scalar"),
    ],
)
def test_what_is_not_there_is_added(field: str, value: object) -> None:
    assert spec_with(**{field: value}) == {**OURS["spec"], field: value}


def test_maps_are_merged_and_lists_within_replaced() -> None:
    security = trainer_with(securityContext={"capabilities": {"drop": ["NET_RAW"]}, "privileged": False})
    assert security["securityContext"] == {
        **OURS["spec"]["containers"][0]["securityContext"],
        "capabilities": {"drop": ["NET_RAW"]},
        "privileged": False,
    }


def test_tolerations_are_added_once() -> None:
    ours = OURS["spec"]["tolerations"]
    further = {"key": "dedicated", "operator": "Exists"}
    assert spec_with(tolerations=[ours[0], further])["tolerations"] == [*ours, further]


def test_node_affinity_is_asked_for_beside_the_nodes_that_are_avoided() -> None:
    zone = {"key": "topology.kubernetes.io/zone", "operator": "In", "values": ["a"]}
    pool = {"key": "pool", "operator": "Exists"}
    terms = [{"matchExpressions": [zone]}, {"matchExpressions": [pool]}]
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    affinity = spec_with(affinity={"nodeAffinity": required})["affinity"]
    (avoided,) = OURS["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    assert affinity["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"] == {
        "nodeSelectorTerms": [avoided | term for term in terms]
    }
    assert affinity["podAntiAffinity"] == OURS["spec"]["affinity"]["podAntiAffinity"]


def test_our_labels_and_annotations_win() -> None:
    template = {
        "metadata": {"labels": {"footplate.dev/role": "spare", "team": "a"}, "annotations": {"note": "b"}}
    }
    metadata = worker_of(podTemplate=template)["metadata"]
    assert metadata["labels"] == OURS["metadata"]["labels"] | {"team": "a"}
    assert metadata["annotations"] == OURS["metadata"]["annotations"] | {"note": "b"}


@pytest.mark.parametrize(
    ("trainer", "field", "wanted"),
    [
        pytest.param(
            {"env": [{"name": "SITE", "value": "b"}]}, "env", {"name": "SITE", "value": "b"}, id="env"
        ),
        pytest.param(
            {"volumeMounts": [{"name": "mine", "mountPath": "/huge"}]},
            "volumeMounts",
            {"name": "mine", "mountPath": "/huge"},
            id="mount",
        ),
        pytest.param(
            {"envFrom": [{"secretRef": {"name": "mine"}}]},
            "envFrom",
            {"secretRef": {"name": "mine"}},
            id="env-from-wins-last",
        ),
    ],
)
def test_what_a_run_states_wins(trainer: Json, field: str, wanted: Json) -> None:
    said = {
        "name": "trainer",
        "env": [{"name": "SITE", "value": "a"}],
        "envFrom": [{"configMapRef": {"name": "sites"}}],
        "volumeMounts": [{"name": "huge", "mountPath": "/huge"}],
    }
    template = {"spec": {"containers": [said]}}
    plain, own = (
        worker_of(stated, podTemplate=template)["spec"]["containers"][0][field] for stated in ({}, trainer)
    )
    replaced = said[field][0] if field != "envFrom" else None
    assert own == [item for item in plain if item != replaced] + [wanted]


def test_labels_and_annotations_of_a_run_win() -> None:
    template = {"metadata": {"labels": {"site": "a"}, "annotations": {"note": "a", "other": "a"}}}
    own = {"podLabels": {"site": "b"}, "podAnnotations": {"note": "b"}}
    metadata = worker_of(own, podTemplate=template)["metadata"]
    assert metadata["labels"]["site"] == "b"
    assert (metadata["annotations"]["note"], metadata["annotations"]["other"]) == ("b", "a")


@pytest.mark.parametrize(
    "taken",
    [
        {"restartPolicy": "Always", "hostname": "a", "terminationGracePeriodSeconds": 0},
        {"enableServiceLinks": True, "automountServiceAccountToken": True},
        {"containers": [{"name": "trainer", "image": "mine", "terminationMessagePolicy": "File"}]},
        {"containers": [{"name": "trainer", "env": [{"name": "FOOTPLATE_RUN_CONFIG", "value": "/a"}]}]},
        {"volumes": OURS["spec"]["volumes"], "tolerations": OURS["spec"]["tolerations"]},
    ],
)
def test_what_the_pod_states_already_stays_where_no_policy_refused_it(taken: Json) -> None:
    assert spec_with(**taken) == OURS["spec"]


@pytest.mark.parametrize("malformed", [{"affinity": []}, {"tolerations": {}}, {"securityContext": "a"}])
def test_a_value_of_another_type_is_left_to_the_api_server(malformed: Json) -> None:
    assert spec_with(**malformed) == OURS["spec"] | malformed


@pytest.mark.parametrize("name", ["trainer", "metrics"])
def test_a_malformed_security_context_is_left_to_the_api_server(name: str) -> None:
    containers = spec_with(containers=[{"name": name, "securityContext": ["a"]}])["containers"]
    assert containers[-1]["securityContext"] == ["a"]


def test_the_coordinator_has_no_part_in_it() -> None:
    template = {"spec": {"containers": [{"name": "metrics", "image": "a"}]}}
    assert coordinator.pod(run(), frozen(run(), podTemplate=template), 1) == coordinator.pod(
        run(), frozen(run()), 1
    )


@pytest.mark.parametrize(
    ("profile", "trainer", "ids", "mode"),
    [
        pytest.param({}, {}, (1000, 1000, 1000), 0o440, id="usual"),
        pytest.param({"securityContext": {}}, {}, (None, None, None), 0o444, id="the-platforms"),
        pytest.param(
            {"securityContext": {"runAsUser": 5000, "fsGroup": 70}}, {}, (5000, None, 70), 0o440, id="profile"
        ),
        pytest.param(
            {"securityContext": {}},
            {"securityContext": {"runAsUser": 5001, "runAsGroup": 5002}},
            (5001, 5002, None),
            0o444,
            id="run",
        ),
    ],
)
def test_ids_of_workers_and_coordinator(
    profile: Json, trainer: Json, ids: tuple[int | None, ...], mode: int
) -> None:
    subject = run(trainer=trainer)
    revision = frozen(subject, **profile)
    for pod in (worker_pod(subject, revision, WorkerId(0, 0), ""), coordinator.pod(subject, revision, 1)):
        security = pod["spec"]["securityContext"]
        assert tuple(security.get(name) for name in ("runAsUser", "runAsGroup", "fsGroup")) == ids
        assert security["runAsNonRoot"] is True
        assert ("fsGroupChangePolicy" in security) is (ids[2] is not None)
        (secret,) = [volume["secret"] for volume in pod["spec"]["volumes"] if "secret" in volume]
        assert secret["defaultMode"] == mode


@pytest.mark.parametrize("standard", ["baseline", "privileged"])
def test_a_coordinator_is_restricted_unless_it_is_root(standard: str) -> None:
    subject = run()
    plain = coordinator.pod(subject, frozen(subject, securityProfile=standard), 1)
    assert plain == coordinator.pod(subject, frozen(subject), 1)
    root = coordinator.pod(
        subject, frozen(subject, securityProfile=standard, securityContext={"runAsUser": 0}), 1
    )
    assert "runAsNonRoot" not in root["spec"]["securityContext"]
    assert "runAsNonRoot" not in root["spec"]["containers"][0]["securityContext"]


@pytest.mark.parametrize("role", [Role.WORKER, Role.SPARE])
def test_pods_that_are_built_together_are_those_that_are_built_alone(role: Role) -> None:
    sidecar = {"name": "probe", "env": [{"name": "FOOTPLATE_WORKER_INDEX", "value": "its own"}]}
    subject = run(trainer={"env": [{"name": "USER", "value": "a"}]})
    revision = frozen(subject, podTemplate={"spec": {"containers": [sidecar]}})
    slots = [WorkerId(0, 3), WorkerId(1, 4), WorkerId(7, 12)]
    avoided = frozenset({"lost"})
    together = worker.pods(subject, revision, role, slots, "10.0.0.9", avoided)
    alone = [worker.pods(subject, revision, role, [slot], "10.0.0.9", avoided) for slot in slots]
    assert [[pod] for pod in together] == alone
    assert worker.pods(subject, revision, role, [], "") == []
