"""What we take from torch's private side: a release that changes it must fail here, not in a run."""

from __future__ import annotations

import inspect

import pytest
from torch.distributed.elastic.agent.server.api import SimpleElasticAgent
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.rendezvous import RendezvousHandler

from footplate_elastic.agent.elastic import FootplateAgent
from footplate_elastic.agent.rendezvous import FootplateRendezvous


@pytest.mark.parametrize(
    "name", ["_start_workers", "_stop_workers", "_monitor_workers", "_shutdown", "_exit_barrier"]
)
def test_what_the_agent_overrides_has_the_same_parameters(name: str) -> None:
    base = getattr(LocalElasticAgent, name)
    assert list(inspect.signature(getattr(FootplateAgent, name)).parameters) == list(
        inspect.signature(base).parameters
    )


def test_torchs_loop_still_calls_what_is_overridden() -> None:
    loop = inspect.getsource(SimpleElasticAgent._invoke_run)
    for name in ("_monitor_workers", "_restart_workers", "num_nodes_waiting", "_exit_barrier"):
        assert name in loop


def test_the_handler_is_complete() -> None:
    assert issubclass(FootplateRendezvous, RendezvousHandler)
    assert not inspect.isabstract(FootplateRendezvous)
