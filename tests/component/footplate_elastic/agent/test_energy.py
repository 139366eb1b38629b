"""What pods consume reaches the operator through coordinators that come and go, and agents that end."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from footplate_contracts.coordinator_state import CoordinatorState, RunState
from footplate_contracts.energy import PodEnergy
from footplate_contracts.names import FIRST_SPARE, Backend, Env, ExitCode
from footplate_contracts.rendezvous import AgentIdentity
from footplate_elastic.agent.client import Endpoint
from footplate_elastic.agent.devices import VISIBLE_DEVICES, NvmlDevices
from footplate_elastic.agent.energy_meter import EnergyMeter
from footplate_elastic.agent.errors import SIGTERM_EXIT
from footplate_elastic.agent.session import Session
from tests.component.footplate_elastic.agent.gang import HERE, TOKEN, Gang
from tests.support.nvml import Device, Nvml

WATTS, DEVICES = 300, 2  # of each of a pod's, and how many it has: driver/pynvml.py


def told(state: CoordinatorState) -> dict[str, PodEnergy]:
    return {energy.pod_uid: energy for energy in state.energy}


# -- agents of this process, which look all the time -----------------------------------


def agent_of(gang: Gang, index: int) -> Session:
    """An agent's conversation, whose device consumes 10 J in each of the ten seconds between two looks."""
    identity = AgentIdentity(
        index=index,
        incarnation=0,
        pod_name=f"w{index}",
        pod_uid=f"uid-{index}",
        address="127.0.0.1",
        local_world_size=1,
    )
    ticks, library = iter(range(0, 10**9, 10)), Nvml(Device("GPU-0", 0, burns=10_000))
    devices = NvmlDevices("", lambda: library)
    meter = EnergyMeter(identity.pod_uid, devices, lambda: float(next(ticks)), period=0.01)
    session = Session(identity, Endpoint("", gang.address, gang.port, TOKEN, None), None, meter)
    meter.start()
    return session


def test_sums_of_workers_and_spares_outlive_their_coordinator_and_never_fall(gang: Gang) -> None:
    first = gang.start_coordinator(epoch=1)
    worker, spare = agent_of(gang, 0), agent_of(gang, FIRST_SPARE)
    worker.start()
    spare.start()
    uids = {worker.identity.pod_uid, spare.identity.pod_uid}
    before = told(gang.wait_for(lambda state: told(state).keys() == uids))
    assert all(energy.millijoules == 1000 * energy.counter_seconds for energy in before.values())

    first.kill()
    gang.start_coordinator(epoch=2)
    after = told(gang.wait_for(lambda state: state.epoch == 2 and told(state).keys() == uids))

    assert all(after[uid].merge(before[uid]) == after[uid] for uid in uids)
    worker.leave()
    spare.leave()


def test_the_last_sum_goes_with_the_goodbye_itself(gang: Gang) -> None:
    gang.start_coordinator()
    gang.wait_for(lambda state: True)
    session = agent_of(gang, 0)
    session.meter.refresh(60.0)
    session.meter.refresh(60.0)
    reached = session.meter.energy
    assert reached is not None
    session.leave()
    [last] = gang.wait_for(lambda state: True).energy
    assert last.counter_seconds > reached.counter_seconds, "it has looked once more"


# -- real agents, which look at their devices when they begin and when something ends --


class Measured(Gang):
    """Each pod has the first two of a node's three devices."""

    def placed(self, command: list[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
        """With a driver, and a pod's uid."""
        uid = f"uid-{environment[str(Env.WORKER_INDEX)]}"
        path = os.pathsep.join([str(HERE / "driver"), environment["PYTHONPATH"]])
        pod = {str(Env.POD_UID): uid, VISIBLE_DEVICES: "GPU-0,GPU-1"}
        return command, {**environment, "PYTHONPATH": path, **pod}

    def use(self, backend: Backend) -> None:
        """As agents read it: the ranks here use gloo, whatever it says."""
        path = self.directory / "run.json"
        outline = json.loads(path.read_text())
        outline["world"]["backend"] = backend
        path.write_text(json.dumps(outline))


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Measured]:
    made = Measured(tmp_path)
    made.use(Backend.NCCL)
    yield made
    made.close()


def check(energy: PodEnergy) -> None:
    """The counters tell of whole seconds, and of a second more or less of each device."""
    assert energy.counter_seconds >= DEVICES and energy.power_seconds == 0
    assert abs(energy.millijoules / 1000 - WATTS * energy.counter_seconds) <= WATTS * DEVICES


def test_whoever_reads_that_a_run_has_finished_reads_what_all_its_pods_consumed(measured: Measured) -> None:
    measured.forked = True
    measured.steps = 100  # two seconds, of which the counters tell of one at least
    agents = measured.start()
    known = told(measured.wait_for(lambda state: state.state is RunState.FINISHED))
    assert known.keys() == {"uid-0", "uid-1"}
    for energy in known.values():
        check(energy)
    assert [agent.wait(30) for agent in agents] == [ExitCode.SUCCESS, ExitCode.SUCCESS]


@pytest.mark.long
def test_an_agent_that_is_told_to_end_has_told_what_its_devices_consumed(measured: Measured) -> None:
    agents = measured.start()
    measured.wait_for(lambda state: state.state is RunState.TRAINING and state.progress.step >= 7)
    agents[1].send_signal(signal.SIGTERM)
    assert agents[1].wait(60) == SIGTERM_EXIT
    check(told(measured.wait_for(lambda state: True))["uid-1"])
    assert agents[0].poll() is None


@pytest.mark.long
def test_agents_whose_ranks_use_no_devices_measure_none_though_there_are_some(measured: Measured) -> None:
    measured.use(Backend.GLOO)
    measured.steps = 20
    measured.start()
    assert measured.wait_for(lambda state: state.state is RunState.FINISHED).energy == []
