"""When a Pod was bound and when it ended, by what Kubernetes says of it, and what that makes of its usage."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Capacity, ComputeProfileSpec
from footplate_contracts.v1alpha1.status import Attempt
from footplate_ledger.conversion import format_time
from footplate_ledger.usage import LAST_SEEN, RUNNING, TOLD, EndTime, Owner
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.usage_inputs import attempt_at
from footplate_operator.usage.nodes import NodeObservation
from footplate_operator.usage.pod_observation import PodObservation, observe_pod
from footplate_operator.usage.pods import (
    PodProfile,
    build_pod_usage,
    end_by_evidence,
    find_end_evidence,
    update_usage,
)
from tests.support.pod_usage import GPU, H100

RUN = Owner("TrainingRun", "research", "gpt", "u1")


def at(second: int) -> str:
    return format_time(second)


def terminated(second: int | None) -> Json:
    ended = {} if second is None else {"finishedAt": at(second)}
    return {"state": {"terminated": {"exitCode": 1, **ended}}}


def condition(kind: str, second: int, status: str = "True") -> Json:
    return {"type": kind, "status": status, "lastTransitionTime": at(second)}


RUNS: Json = {"state": {"running": {"startedAt": at(20)}}}
BOUND = condition("PodScheduled", 10)


def pod(deleted: int | None = None, containers: int = 1, **status: Any) -> Json:
    metadata = {"uid": "p1", "name": "gpt-w0-0", "creationTimestamp": at(5)}
    resources = {"limits": {GPU: "4", "memory": "1Gi"}, "requests": {"cpu": "1500m"}}
    return {
        "metadata": metadata | ({} if deleted is None else {"deletionTimestamp": at(deleted)}),
        "spec": {"nodeName": "a", "containers": [{"resources": resources}] * containers},
        "status": {"conditions": [BOUND], **status},
    }


def test_a_pod_counts_from_when_a_node_was_bound_to_it() -> None:
    seen = observe_pod(pod(), "worker", "h100")
    assert (seen.bound, seen.node, seen.over) == (10, "a", False)
    assert seen.requests == {GPU: 4, "cpu": Fraction(3, 2)}


@pytest.mark.parametrize(
    ("status", "bound"),
    [
        pytest.param({"conditions": [], "startTime": at(7)}, 7, id="made-with-a-node"),
        pytest.param({"conditions": []}, 5, id="its-kubelet-has-not-seen-it"),
        pytest.param({"conditions": [condition("PodScheduled", 8, "False")]}, 5, id="before-it-was-bound"),
    ],
)
def test_without_the_time_of_its_binding_the_best_that_is_known_counts(status: Json, bound: int) -> None:
    assert observe_pod(pod(**status), "worker", "").bound == bound


@pytest.mark.parametrize(
    ("body", "end"),
    [
        pytest.param(pod(phase="Running", containerStatuses=[RUNS]), EndTime(RUNNING, 99), id="runs"),
        pytest.param(
            pod(phase="Running", containerStatuses=[RUNS], deleted=50), EndTime(RUNNING, 99), id="node-lost"
        ),
        pytest.param(
            pod(phase="Succeeded", containerStatuses=[terminated(60)]), EndTime(TOLD, 60), id="succeeded"
        ),
        pytest.param(
            pod(phase="Running", deleted=50, containerStatuses=[terminated(60)]),
            EndTime(TOLD, 60),
            id="all-have-ended",
        ),
        pytest.param(
            pod(phase="Running", containers=2, containerStatuses=[terminated(60), RUNS]),
            EndTime(RUNNING, 99),
            id="one-runs",
        ),
        pytest.param(
            pod(phase="Running", containers=2, containerStatuses=[terminated(60)]),
            EndTime(RUNNING, 99),
            id="one-has-not-begun",
        ),
        pytest.param(
            pod(phase="Failed", containerStatuses=[terminated(60)], initContainerStatuses=[terminated(70)]),
            EndTime(TOLD, 70),
            id="the-last-of-all-kinds",
        ),
        pytest.param(pod(phase="Failed", startTime=at(12)), EndTime(TOLD, 12), id="refused-by-its-kubelet"),
        pytest.param(
            pod(phase="Failed", conditions=[BOUND, condition("DisruptionTarget", 40)], startTime=at(12)),
            EndTime(TOLD, 40),
            id="evicted-before-it-began",
        ),
        pytest.param(
            pod(
                phase="Failed",
                conditions=[BOUND, condition("DisruptionTarget", 70)],
                containerStatuses=[RUNS],
                initContainerStatuses=[terminated(30)],
            ),
            EndTime(TOLD, 70),
            id="collected-from-a-lost-node",
        ),
        pytest.param(pod(phase="Failed", deleted=45), EndTime(TOLD, 45), id="deleted-before-it-began"),
        pytest.param(
            pod(phase="Failed", containerStatuses=[terminated(None)]), EndTime(LAST_SEEN, 99), id="no-time"
        ),
        pytest.param(
            pod(phase="Failed", containerStatuses=[terminated(3)]), EndTime(TOLD, 10), id="its-clock-is-late"
        ),
    ],
)
def test_a_pod_ends_when_kubernetes_says_that_its_containers_have(body: Json, end: EndTime) -> None:
    assert find_end_evidence(observe_pod(body, "worker", ""), now=99) == end


NODE = NodeObservation("n1", "a", 0, {"karpenter.sh/capacity-type": "spot"}, (), {}, "aws")


def test_a_worker_is_of_the_sku_of_its_profile_and_node() -> None:
    usage = build_pod_usage(observe_pod(pod(), "worker", "h100"), RUN, PodProfile("h100", H100), 2, NODE, 99)
    assert (usage.sku.profile, usage.sku.capacity, usage.node) == ("h100", Capacity.SPOT, "n1")
    assert (usage.devices, usage.cpu, usage.attempt, usage.start) == (4, Fraction(3, 2), 2, 10)
    assert usage.site.device_watts is not None and usage.site.provider == "aws"


def test_a_coordinator_is_of_no_sku() -> None:
    usage = build_pod_usage(observe_pod(pod(), "coordinator", ""), RUN, PodProfile("h100", H100), 1, NODE, 99)
    assert (usage.sku.profile, usage.role, usage.site.device_watts) == ("", Role.COORDINATOR, None)


def test_an_end_that_is_known_better_counts() -> None:
    known = build_pod_usage(observe_pod(pod(), "worker", ""), RUN, PodProfile("h100", H100), 1, NODE, 99)
    gone = end_by_evidence(known, 80)
    assert gone.end == EndTime(LAST_SEEN, 80) and end_by_evidence(known, 4).end.until == known.start
    told = observe_pod(pod(phase="Failed", containerStatuses=[terminated(60)]), "worker", "")
    assert update_usage(gone, told, 200).end == EndTime(TOLD, 60)
    assert (
        update_usage(update_usage(known, told, 100), observe_pod(pod(), "worker", ""), 200).end.known == TOLD
    )


def test_a_spare_that_has_a_slot_is_a_worker() -> None:
    known = build_pod_usage(observe_pod(pod(), "spare", ""), RUN, PodProfile("h100", H100), 1, NODE, 99)
    taken = update_usage(known, observe_pod(pod(), "worker", ""), 100)
    assert known.role is Role.SPARE and taken.role is Role.WORKER
    assert (
        update_usage(taken, PodObservation("p1", role="worker", node="a", bound=10), 120).role is Role.WORKER
    )


def attempt(number: int, start: int, end: int | None) -> Attempt:
    return Attempt(number=number, start=at(start), end=None if end is None else f"{at(end)[:-1]}.400Z")


@pytest.mark.parametrize(("start", "number"), [(5, 1), (19, 1), (20, 2), (25, 2), (39, 2), (40, 3), (99, 3)])
@pytest.mark.parametrize("last", [[], [attempt(3, 45, None)]])
def test_a_pod_belongs_to_the_attempt_that_had_not_ended_when_it_began(
    start: int, number: int, last: list[Attempt]
) -> None:
    assert attempt_at([attempt(1, 10, 20), attempt(2, 30, 40), *last], start) == number


def test_before_the_first_attempt_is_the_first() -> None:
    assert attempt_at([], 5) == 1


def test_sidecars_and_init_containers_count_as_the_scheduler_has_it() -> None:
    def asks(cpu: str, **more: str) -> Json:
        return {"resources": {"requests": {"cpu": cpu}}, **more}

    body = pod(containers=2)
    body["spec"]["initContainers"] = [
        asks("1", restartPolicy="Always"),
        asks("1500m"),
        asks("2", restartPolicy="Always"),
    ]
    assert observe_pod(body, "worker", "h100").requests == {GPU: 8, "cpu": 6}
    body["spec"]["initContainers"].append(asks("8"))
    assert observe_pod(body, "worker", "h100").requests == {GPU: 8, "cpu": 11}, "beside both sidecars"


def test_a_pod_whose_sidecar_still_runs_is_not_over() -> None:
    ended = {"containerStatuses": [terminated(30)], "initContainerStatuses": [RUNS]}
    assert not observe_pod(pod(**ended), "worker", "h100").over
    ended = {"containerStatuses": [terminated(30), RUNS]}
    assert not observe_pod(pod(containers=2, **ended), "worker", "h100").over


def test_devices_of_a_claim_are_those_of_the_profile() -> None:
    claims = ComputeProfileSpec.from_json(
        {
            **H100.to_json(),
            "gpu": {**H100.to_json()["gpu"], "resourceClaim": "gpus"},
            "resourceClaims": [{"name": "gpus", "resourceClaimTemplateName": "eight"}],
        }
    )
    body = pod()
    body["spec"]["containers"] = [{"resources": {"claims": [{"name": "gpus"}]}}]
    terms = PodProfile("h100", claims)
    assert build_pod_usage(observe_pod(body, "worker", "h100"), RUN, terms, 1, None, 50).devices == 8
    assert build_pod_usage(observe_pod(body, "coordinator", "h100"), RUN, terms, 1, None, 50).devices == 0
