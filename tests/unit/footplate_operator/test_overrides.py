"""A run states what its profile lists."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.v1alpha1.computeprofile import USUALLY_OVERRIDABLE, Overridable
from footplate_operator.profiles import decode_profile
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.trainingrun.policies.overrides import refusal
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_runs import run
from tests.support.operator_world import World

# Each field as a run states it, and where.
STATED: dict[Overridable, tuple[str, Json]] = {
    Overridable.PROCESSES_PER_NODE: (
        "spec.compute",
        {"compute": {"profile": "local-cpu", "nodes": 2, "processesPerNode": 1}},
    ),
    Overridable.PRIORITY_CLASS_NAME: ("spec", {"priorityClassName": "urgent"}),
    Overridable.PLACEMENT: (
        "spec.compute",
        {
            "compute": {
                "profile": "local-cpu",
                "nodes": 2,
                "placement": {"spread": {"topologyKey": "topology.kubernetes.io/zone"}},
            }
        },
    ),
    **{
        field: ("spec.trainer", {"trainer": said})
        for field, said in (
            (Overridable.ENV, {"env": [{"name": "A", "value": "1"}]}),
            (Overridable.RESOURCES, {"resources": {"limits": {"cpu": "1"}}}),
            (Overridable.VOLUMES, {"volumes": [{"name": "data", "emptyDir": {}}]}),
            (Overridable.SERVICE_ACCOUNT_NAME, {"serviceAccountName": "reader"}),
            (Overridable.POD_LABELS, {"podLabels": {"team": "a"}}),
            (Overridable.POD_ANNOTATIONS, {"podAnnotations": {"note": "a"}}),
            (Overridable.SECURITY_CONTEXT, {"securityContext": {}}),
            (Overridable.TOLERATIONS, {"tolerations": [{"operator": "Exists"}]}),
            (Overridable.NODE_SELECTOR, {"nodeSelector": {"zone": "a"}}),
            (Overridable.RUNTIME_CLASS_NAME, {"runtimeClassName": "kata"}),
            (Overridable.SCHEDULER_NAME, {"schedulerName": "volcano"}),
        )
    },
}


def said_of(spec: Json, **profile: Any) -> str:
    return refusal(run(**spec), decode_profile(profile_manifest(**profile)))


def test_each_field_has_a_row() -> None:
    assert set(STATED) == set(Overridable)


@pytest.mark.parametrize("field", list(Overridable))
def test_a_field_is_refused_unless_the_profile_lists_it(field: Overridable) -> None:
    where, spec = STATED[field]
    assert said_of(spec, overridable=[field]) == ""
    assert said_of(spec, overridable=[]) == (
        f"{where}.{field}: profile local-cpu lets a run set nothing; remove it, or use another profile"
    )
    assert bool(said_of(spec)) is (field not in USUALLY_OVERRIDABLE)


@pytest.mark.parametrize(
    ("trainer", "field"),
    [
        pytest.param({"envFrom": [{"secretRef": {"name": "a"}}]}, "env", id="env-from"),
        pytest.param({"volumeMounts": [{"name": "a", "mountPath": "/a"}]}, "volumes", id="mounts"),
        pytest.param({"tolerations": []}, "tolerations", id="empty-list"),
        pytest.param({"nodeSelector": {}}, "nodeSelector", id="empty-map"),
    ],
)
def test_whatever_is_stated_counts(trainer: Json, field: str) -> None:
    assert said_of({"trainer": trainer}, overridable=[field]) == ""
    assert said_of({"trainer": trainer}, overridable=[]).startswith(f"spec.trainer.{field}: ")


def test_what_is_listed_is_named() -> None:
    assert "lets a run set only env, volumes" in said_of(
        STATED[Overridable.RESOURCES][1], overridable=["env", "volumes"]
    )


def test_as_many_processes_as_the_profile_says_are_no_override() -> None:
    compute = {"profile": "local-cpu", "nodes": 2, "processesPerNode": 2}
    assert said_of({"compute": compute}, overridable=[]) == ""


def test_root_is_refused_where_the_profile_is_restricted() -> None:
    root = {"trainer": {"securityContext": {"runAsUser": 0}}}
    assert said_of(root, overridable=["securityContext"]) == (
        "spec.trainer.securityContext.runAsUser: 0 is root, which securityProfile restricted of profile"
        " local-cpu refuses; use another id, or another profile"
    )
    assert said_of(root, overridable=["securityContext"], securityProfile="baseline") == ""


async def test_a_run_that_came_before_its_profile_is_told_and_nothing_is_made() -> None:
    world = World()
    world.cluster.put(profile_manifest(overridable=[]))
    world.submit(priorityClassName="urgent")
    await world.live(2)
    said = world.condition("Reconciled")
    assert (world.phase, said["reason"]) == ("Queued", "ConfigRefused")
    assert said["message"].startswith("spec.priorityClassName: profile local-cpu lets a run set nothing")
    assert world.cluster.all(POD) == []
    world.cluster.put(profile_manifest())
    await world.live(30, until=lambda: world.phase == "Running")
