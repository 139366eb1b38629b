"""ComputeProfiles that are deleted, changed or contradictory, and runs that none of their sizes suits."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.profiles import PROFILE, contradiction
from footplate_operator.runtime.kinds import POD
from footplate_operator.trainingrun.policies.profile import list_changed_fields
from tests.support.operator_fakes import profile_manifest
from tests.support.operator_world import World, running

GPU = {
    "count": 4,
    "product": "any",
    "memoryGiB": 80,
    "peakTflops": {"bf16": 989.4, "fp32": 67},
    "tdpWatts": 700,
}


def _profile(**spec: Any) -> ComputeProfileSpec:
    return ComputeProfileSpec.from_json({"backend": "gloo", **spec})


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        pytest.param({"gpu": GPU, "processesPerNode": 4}, "", id="none"),
        pytest.param(
            {"gpu": GPU, "processesPerNode": 4, "resources": {"limits": {"nvidia.com/gpu": 2}}},
            "resources.limits.nvidia.com/gpu 2 contradicts gpu.count 4; remove it; gpu.count sets how many a"
            " worker has",
            id="other-count-of-gpus",
        ),
        pytest.param(
            {
                "network": {"rdma": {"resource": "rdma/hca", "count": 8}},
                "resources": {"requests": {"rdma/hca": "1"}},
            },
            "resources.requests.rdma/hca 1 contradicts network.rdma.count 8; remove it; network.rdma.count"
            " sets how many a worker has",
            id="other-count-of-adapters",
        ),
        pytest.param(
            {"resources": {"requests": {"cpu": "8"}, "limits": {"cpu": "500m"}}},
            "resources.requests.cpu 8 is above resources.limits.cpu 500m; lower it, or raise the limit",
            id="request-above-limit",
        ),
        pytest.param(
            {"network": {"sharedMemoryGiB": 64}, "resources": {"limits": {"memory": "32Gi"}}},
            "network.sharedMemoryGiB 64 is above resources.limits.memory 32Gi, which includes it; lower"
            " it, or raise the limit",
            id="shared-memory-above-memory",
        ),
    ],
)
def test_contradictions(spec: dict[str, Any], said: str) -> None:
    assert contradiction(_profile(**spec)) == said


def test_what_was_changed_is_named_by_field() -> None:
    before = _profile(processesPerNode=2, scheduling={"nodeSelector": {"pool": "a"}})
    after = _profile(processesPerNode=1, scheduling={"nodeSelector": {"pool": "b"}})
    assert list_changed_fields(before, after) == ["processesPerNode", "scheduling.nodeSelector"]


async def test_a_contradictory_profile_is_named_and_a_run_goes_on_once_it_is_mended() -> None:
    world = World()
    world.cluster.put(profile_manifest(resources={"requests": {"cpu": 8}, "limits": {"cpu": 4}}))
    world.submit()
    await world.live(2)
    said = world.condition("Reconciled")
    assert (world.phase, said["status"], said["reason"]) == ("Queued", "False", "ConfigRefused")
    assert "compute.profile local-cpu: ComputeProfile local-cpu: resources.requests.cpu 8" in said["message"]
    assert world.cluster.all(POD) == []
    world.cluster.put(profile_manifest())
    await world.live(30, until=lambda: world.phase == "Running")


async def test_a_profile_that_is_deleted_while_runs_train_is_missed_and_nobody_is_restarted() -> None:
    world = await running()
    world.trains = False
    world.cluster.bury(PROFILE, "local-cpu")
    await world.live(2)
    said = world.condition("Reconciled")
    assert (world.phase, said["status"], said["reason"]) == ("Running", "False", "ProfileNotFound")
    assert said["message"].startswith(
        "compute.profile local-cpu: the ComputeProfile no longer exists; the run continues"
    )
    world.cluster.bury(POD, "tiny-w1-0")
    await world.live(5, until=lambda: "tiny-w1-1" in world.workers("Running"))
    world.start_operator()
    await world.live(2)
    assert world.condition("Reconciled")["reason"] == "ProfileNotFound"
    world.cluster.put(profile_manifest())
    await world.live(2)
    assert world.condition("Reconciled")["status"] == "True"


async def test_a_profile_that_is_changed_takes_effect_with_the_next_resumption_and_that_is_said() -> None:
    world = await running()
    world.trains = False
    world.cluster.put(profile_manifest(scheduling={"nodeSelector": {"pool": "b"}}, network={"nccl": {}}))
    await world.live(2)
    said = world.condition("Reconciled")
    assert (said["status"], said["message"]) == (
        "True",
        "these take effect when the run is suspended and resumed:"
        " compute.profile (local-cpu was changed: scheduling.nodeSelector)",
    )


async def test_a_profile_that_becomes_too_small_is_told_before_anybody_suspends() -> None:
    gpus = {"gpu": GPU, "processesPerNode": 4}
    world = World()
    world.cluster.put(profile_manifest(**gpus))
    world.submit(compute={"profile": "local-cpu", "nodes": 2, "processesPerNode": 4})
    await world.live(30, until=lambda: world.phase == "Running")
    world.cluster.put(profile_manifest(gpu={**GPU, "count": 2}, processesPerNode=2))
    await world.live(2)
    said = world.condition("Reconciled")
    assert (world.phase, said["status"], said["reason"]) == ("Running", "False", "ConfigRefused")
    assert "compute.processesPerNode 4 is above the 2 GPUs that a node of ComputeProfile" in said["message"]
    world.change(suspend=True)
    await world.live(30, until=lambda: world.phase == "Suspended")
    world.change(suspend=False)
    await world.live(5, until=lambda: world.phase == "Queued")
    assert "lower it, or use another profile" in world.condition("Progressing")["message"]
    await world.live(20)
    assert world.workers() == [], "nothing half-made stays"
    world.change(compute={"profile": "local-cpu", "nodes": 2, "processesPerNode": 2})
    await world.live(30, until=lambda: world.phase == "Running")


@pytest.mark.parametrize(
    ("compute", "said"),
    [
        pytest.param({"nodes": 2}, "compute.nodes 2, with 2 processes on each", id="nodes"),
        pytest.param(
            {"nodes": 2, "minNodes": 1}, "compute.minNodes 1 to compute.nodes 2, with 2 processes", id="range"
        ),
    ],
)
async def test_a_run_without_a_size_that_can_train_makes_nothing(compute: dict[str, int], said: str) -> None:
    world = World()
    world.submit(
        compute={"profile": "local-cpu", **compute},
        parallelism={"sharding": "hybrid", "replicas": 3},
    )
    await world.live(10)
    told = world.condition("Reconciled")
    assert (world.phase, told["status"], told["reason"]) == ("Queued", "False", "ConfigRefused")
    assert said in told["message"] and "the nearest that fit: 3, 6, 9, 12" in told["message"]
    assert world.cluster.all(POD) == []
    world.change(compute={"profile": "local-cpu", "nodes": 3})
    await world.live(30, until=lambda: world.phase == "Running")
