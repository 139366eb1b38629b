"""Whose doing an eviction is; more of the kubelet's messages are among the crashes of tests/golden."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Cause
from footplate_operator.trainingrun.policies.eviction import get_blamed_cause

SHORT = "The node was low on resource: {}. Threshold quantity: {}, available: 1Gi. "
USED = "Container trainer was using {}, request is {}, has larger consumption of it. "


@pytest.mark.parametrize(
    ("resource", "kept", "used", "request_", "cause"),
    [
        pytest.param("memory", "100Mi", "20Gi", "16Gi", Cause.OUT_OF_MEMORY, id="more-memory-than-requested"),
        pytest.param("memory", "100Mi", "15Gi", "16Gi", None, id="less-memory-than-requested"),
        pytest.param("memory", "100Mi", "15Gi", "0", None, id="no-memory-requested"),
        pytest.param("ephemeral-storage", "100Gi", "11G", "10G", Cause.STORAGE, id="more-disk"),
        pytest.param("ephemeral-storage", "100Gi", "1e9", "1G", None, id="as-much-as-requested"),
        pytest.param("ephemeral-storage", "100Gi", "101Gi", "0", Cause.STORAGE, id="more-than-the-reserve"),
        pytest.param("ephemeral-storage", "100Gi", "99Gi", "0", None, id="less-than-the-reserve"),
        pytest.param("ephemeral-storage", "a lot", "99Gi", "0", None, id="a-reserve-that-is-no-quantity"),
        pytest.param("ephemeral-storage", "100Gi", "99ki", "1ki", None, id="quantities-that-are-none"),
        pytest.param("inodes", "1k", "20Gi", "16Gi", None, id="what-no-pod-can-request"),
        pytest.param("pids", "1k", "20Gi", "16Gi", None, id="nor-this"),
    ],
)
def test_a_pod_is_blamed_for_what_it_used_beyond_what_it_asked_for(
    resource: str, kept: str, used: str, request_: str, cause: Cause | None
) -> None:
    assert get_blamed_cause(SHORT.format(resource, kept) + USED.format(used, request_)) is cause


def test_one_container_is_enough() -> None:
    message = SHORT.format("memory", "100Mi") + USED.format("1Mi", "1Gi") + USED.format("2Gi", "1Gi")
    assert get_blamed_cause(message) is Cause.OUT_OF_MEMORY


def test_nothing_said_is_nobodys_doing() -> None:
    assert get_blamed_cause("") is None
