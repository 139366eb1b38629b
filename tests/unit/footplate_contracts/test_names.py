"""Names of a run's children fit where Kubernetes puts them."""

from __future__ import annotations

import re

import pytest

from footplate_contracts import names
from footplate_contracts.names import Phase

LONGEST = "x" * names.RUN_NAME_LIMIT
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(names.worker_pod_name(LONGEST, 4095, 99_999), id="worker"),
        pytest.param(names.coordinator_pod_name(LONGEST, 99_999), id="coordinator"),
        pytest.param(names.coordinator_service_name(LONGEST), id="service"),
        pytest.param(names.secret_name(LONGEST), id="secret"),
        pytest.param(names.config_map_name(LONGEST, "0123456789abcdef"), id="config-map"),
        pytest.param(names.revision_name(LONGEST, 99_999), id="revision"),
        pytest.param(names.api_ca_name(LONGEST), id="api-ca"),
    ],
)
def test_longest_names_are_host_names(name: str) -> None:
    assert DNS_LABEL.fullmatch(name)


def test_no_two_children_share_a_name() -> None:
    """Pods of one run at least: kinds have name spaces of their own."""
    pods = {names.worker_pod_name("a", index, life) for index in range(12) for life in range(12)}
    pods |= {names.coordinator_pod_name("a", epoch) for epoch in range(12)}
    assert len(pods) == 12 * 12 + 12


def test_a_configuration_is_found_by_its_content() -> None:
    assert names.config_map_name("a", "0" * 64) != names.config_map_name("a", "1" * 64)


def test_terminal_phases() -> None:
    assert [phase for phase in Phase if phase.is_terminal] == [Phase.SUCCEEDED, Phase.FAILED]
