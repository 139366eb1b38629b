"""Silence of a coordinator where no other one is heard: the Lease of its node decides."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

from footplate_contracts.names import RunUid
from footplate_operator.errors import ClusterError, RequestForbidden
from footplate_operator.runtime.kinds import LEASE, Json, Kind
from footplate_operator.trainingrun.coordinator_client import (
    BaseCoordinatorClient,
    CoordinatorEndpoint,
    CoordinatorPoller,
)
from footplate_operator.trainingrun.coordinator_silence import SilenceDetector
from footplate_operator.trainingrun.observation import PodView
from tests.support.fake_cluster import FakeCluster

NOW = datetime(2026, 1, 31, 12, 0, 0, tzinfo=UTC)
UID = RunUid("run")
POD = PodView(
    name="c",
    uid="c",
    namespace="default",
    owner_uid="run",
    role="coordinator",
    created=NOW,
    node="a",
    phase="Running",
)


class Unheard(CoordinatorPoller):
    """Hears nobody: `seconds` is for how long."""

    def __init__(self, seconds: float, silence: float = 0.0) -> None:
        super().__init__(_no_client, lambda key: None)
        self.seconds = seconds
        self.said = silence

    def silence(self, uid: RunUid) -> float:
        return self.said

    def unanswered(self, uid: RunUid) -> tuple[str, float]:
        return "c", self.seconds


def _no_client(endpoint: CoordinatorEndpoint) -> BaseCoordinatorClient:
    raise AssertionError(endpoint)


@dataclass
class Leases(FakeCluster):
    """Answers with the renewal of each look, or raises it; `asked`: how many looks there were."""

    answers: list[str | Exception] = field(default_factory=list)
    asked: int = 0

    async def get(self, kind: Kind, namespace: str, name: str) -> Json:
        assert (kind, namespace, name) == (LEASE, "kube-node-lease", "a")
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        if isinstance(answer, Exception):
            raise answer
        return {"spec": {"renewTime": answer, "leaseDurationSeconds": 40}}


def leases(*answers: str | Exception) -> Leases:
    """A cluster with the Lease of one node, as it is at each look."""
    found = Leases(lambda: NOW, kinds=())
    found.answers = list(answers)
    return found


async def looks(cluster: Leases, seconds: range, unheard: Unheard) -> list[float]:
    """The silence at each of these seconds."""
    silence = SilenceDetector(cluster, unheard)
    return [await silence.find(UID, [POD], NOW + timedelta(seconds=second)) for second in seconds]


@pytest.mark.parametrize(
    ("answers", "lost"),
    [
        pytest.param(["1"], True, id="two-renewals-late"),
        pytest.param([*"1111122222"], False, id="renewed"),
        pytest.param([*"11111", ClusterError("x"), ClusterError("x"), "1"], True, id="a-look-failed"),
        pytest.param([*"11", *[ClusterError("x")] * 6, "1"], False, id="the-api-server-was-away"),
        pytest.param([RequestForbidden("x", 403)], False, id="not-allowed"),
    ],
)
async def test_a_node_is_lost_whose_lease_is_two_renewals_late(
    answers: list[str | Exception], lost: bool
) -> None:
    found = await looks(leases(*answers), range(0, 25, 2), Unheard(9.0))
    assert (found[-1] == 9.0) is lost
    assert not any(found[:11]), "it may have been renewed just before"


@pytest.mark.parametrize("unheard", [Unheard(4.0), Unheard(9.0, silence=9.0)], ids=["brief", "others-heard"])
async def test_no_lease_is_read_without_need(unheard: Unheard) -> None:
    cluster = leases("1")
    await looks(cluster, range(0, 25, 2), unheard)
    assert cluster.asked == 0


async def test_a_right_that_is_missing_is_not_tried_each_second() -> None:
    cluster = leases(RequestForbidden("x", 403))
    await looks(cluster, range(0, 250, 5), Unheard(9.0))
    assert cluster.asked == 1
