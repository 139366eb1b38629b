"""Two machines that reach everybody but each other: one of their agents gives its place up."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.connectivity_probes import Peer
from footplate_contracts.coordinator_state import CoordinatorState, RunState, Verdict
from footplate_contracts.names import Cause, ExitCode, Reason
from footplate_elastic.agent.probe import find_unreached
from tests.component.footplate_elastic.agent.machines import Machines


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[Machines]:
    """Three nodes of a gang, and a fourth machine beside them."""
    try:
        made = Machines(tmp_path, nodes=3, machines=4)
    except PermissionError:
        pytest.skip("network namespaces may not be made here")
    yield made
    made.close()


@pytest.mark.long
def test_a_substitute_on_another_machine_has_the_place_of_one_of_two(machines: Machines) -> None:
    machines.hang_seconds = 3
    machines.start()
    state = machines.wait_for(lambda state: state.state is RunState.TRAINING)
    assert find_unreached(where_they_listen(state)) == [], "also while they train"

    machines.isolate(0, 1)
    state = machines.wait_for(lambda state: bool(state.missed))
    [missed], [pair], [failure] = state.missed, state.unreachable, state.failures
    assert (missed.agent.node_name, missed.verdict) == ("machine-1", Verdict.UNREACHABLE)
    assert (pair.one.node_name, pair.other.node_name) == ("machine-0", "machine-1")
    assert (failure.failure.cause, failure.failure.reason) == (Cause.COMMUNICATION, Reason.NETWORK_PARTITION)
    assert [agent.poll() for agent in machines.agents] == [None] * 3, "all stay until there is a substitute"

    machines.start_agent(1, incarnation=1)
    state = machines.wait_for(lambda state: state.state is RunState.TRAINING)
    assert [member.agent.node_name for member in state.members] == ["machine-0", "machine-3", "machine-2"]
    assert machines.agents[1].wait(30) == ExitCode.STALE
    assert not state.missed and not state.unreachable and len(state.failures) == 1


def where_they_listen(state: CoordinatorState) -> list[Peer]:
    return [
        Peer(pod_name=member.agent.pod_name, address=member.agent.address, port=member.store_port)
        for member in state.members
    ]


def test_who_is_reached() -> None:
    """Whoever listens, though nobody accepts; not who does not listen."""
    with socket.create_server(("127.0.0.1", 0)) as listens, socket.create_server(("127.0.0.1", 0)) as ended:
        ports = [listens.getsockname()[1], ended.getsockname()[1]]
        ended.close()
        peers = [Peer(pod_name=f"w{port}", address="127.0.0.1", port=port) for port in ports]
        assert find_unreached(peers) == [f"w{ports[1]}"]
        assert find_unreached([]) == []
