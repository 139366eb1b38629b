"""What the chart renders where OpenShift's API group is served."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.chart import rendered

OPENSHIFT = "--api-versions=security.openshift.io/v1"
IDS = ("runAsUser", "runAsGroup", "fsGroup")


@pytest.mark.parametrize(
    ("flags", "ids"),
    [pytest.param((), (1000, 1000, 1000), id="elsewhere"), pytest.param((OPENSHIFT,), (), id="openshift")],
)
def test_pods_state_no_ids_where_openshift_gives_them(flags: tuple[str, ...], ids: tuple[int, ...]) -> None:
    objects = rendered(*flags)
    pods = [body["spec"]["template"]["spec"] for body in objects if "template" in body.get("spec", {})]
    pods += [body["spec"] for body in objects if body["kind"] == "Pod"]
    assert len(pods) >= 3
    for pod in pods:
        security = pod["securityContext"]
        assert tuple(security[name] for name in IDS if name in security) == ids
        assert security["runAsNonRoot"] is True
        for item in (*pod["containers"], *pod.get("initContainers", ())):
            assert not {*IDS} & {*item.get("securityContext", {})}


def test_profiles_leave_ids_to_openshift_unless_they_state_some() -> None:
    def stated(*flags: str) -> dict[str, Any]:
        profiles = [body for body in rendered(*flags) if body["kind"] == "ComputeProfile"]
        return {body["metadata"]["name"]: body["spec"].get("securityContext") for body in profiles}

    own = "--set=profiles.items.local-cpu.spec.securityContext.runAsUser=1000680000"
    assert set(stated().values()) == {None}
    assert stated(OPENSHIFT, own).pop("local-cpu") == {"runAsUser": 1000680000}
    assert [ids for name, ids in stated(OPENSHIFT).items() if ids != {}] == []
