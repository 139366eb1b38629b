"""What a status says of the coordinator of its run, in whatever release's words."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_api.coordinators.record import CoordinatorPod, coordinator_of, coordinators_of

GPT = CoordinatorPod("pod", "uid", "research", "gpt", 3)


def manifest(status: Any) -> dict[str, Any]:
    return {"metadata": {"uid": "uid", "namespace": "research", "name": "gpt"}, "status": status}


@pytest.mark.parametrize(
    ("status", "found"),
    [
        pytest.param({"coordinator": {"podUID": "pod", "epoch": 3}}, GPT, id="one-that-serves"),
        pytest.param({"coordinator": {"podUID": "", "epoch": 3}}, None, id="pod-not-seen-yet"),
        pytest.param({"coordinator": {"epoch": 3}}, None, id="no-pod"),
        pytest.param({"coordinator": {"podUID": "pod"}}, None, id="no-epoch"),
        pytest.param({"coordinator": {"podUID": "pod", "epoch": -1}}, None, id="epoch-negative"),
        pytest.param({"coordinator": {"podUID": "pod", "epoch": 2**63}}, None, id="epoch-too-large"),
        pytest.param({"coordinator": {"podUID": 7, "epoch": 3}}, None, id="pod-of-another-type"),
        pytest.param({"coordinator": "pod"}, None, id="another-type"),
        pytest.param({}, None, id="nothing"),
        pytest.param(None, None, id="no-status"),
    ],
)
def test_a_status_is_read_leniently(status: Any, found: CoordinatorPod | None) -> None:
    assert coordinator_of(manifest(status)) == found


def test_each_is_told_once_and_in_order() -> None:
    statuses = [{"coordinator": {"podUID": pod, "epoch": 3}} for pod in ("pod", "a", "pod")]
    assert coordinators_of(map(manifest, statuses)) == [GPT._replace(pod_uid="a"), GPT]
