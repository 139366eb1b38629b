"""A gang whose network has addresses of IPv6 alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import RunState
from footplate_contracts.names import ExitCode
from tests.component.footplate_elastic.agent.machines import IPV6, Machines
from tests.support.web import needs_ipv6


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Two nodes of a gang."""
    try:
        made = Machines(tmp_path, nodes=2, machines=2, network=IPV6)
    except PermissionError:
        pytest.skip("network namespaces may not be made here")
    yield made
    made.close()


@needs_ipv6
def test_a_run_finishes_where_there_is_no_address_of_ipv4(machines: Machines) -> None:
    machines.steps = 20
    agents = machines.start()
    state = machines.wait_for(lambda state: state.state is RunState.FINISHED)
    assert [agent.wait(30) for agent in agents] == [ExitCode.SUCCESS] * 2
    assert {member.agent.address for member in state.members} <= {"fd99::10", "fd99::11"}
    assert state.progress.step == 20
