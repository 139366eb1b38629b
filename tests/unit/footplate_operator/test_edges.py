"""The edges without their sockets: queue, Lease, cache, settings, Events, logs."""

from __future__ import annotations

import asyncio
import random
from datetime import datetime, timedelta
from typing import Any

import pytest

from footplate_contracts.names import Phase
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_operator import settings
from footplate_operator.errors import ClusterError, LeadershipLost, OperatorError, SettingsError
from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.kinds import LEASE, POD, PROFILE, TRAINING_RUN, Json, Kind
from footplate_operator.runtime.leader import Leadership, LeaseView, Move, next_move
from footplate_operator.runtime.workqueue import WorkQueue, retry_delay
from footplate_operator.trainingrun import events
from footplate_operator.trainingrun.run import Key, decode
from tests.support.fake_cluster import Clock, FakeCluster
from tests.support.operator_fakes import run_manifest

# -- queue -----------------------------------------------------------------------------


async def _work(queue: WorkQueue[str], rounds: int, work: Any, workers: int = 2) -> None:
    task = asyncio.create_task(queue.run(workers, work))
    for _ in range(rounds):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_key_that_waits_is_not_queued_twice() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert len(queue) == 2
    await _work(queue, 10, work)
    assert done == ["a", "b"]


async def test_a_key_is_worked_on_by_one_worker_and_again_if_named_meanwhile() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    at_once = most = rounds = 0

    async def work(key: str) -> None:
        nonlocal at_once, most, rounds
        at_once, rounds = at_once + 1, rounds + 1
        most = max(most, at_once)
        if rounds == 1:
            queue.add(key)
            queue.add(key)
        await asyncio.sleep(0)
        at_once -= 1

    queue.add("a")
    await _work(queue, 20, work, workers=4)
    assert (most, rounds) == (1, 2)


async def test_a_failure_comes_back_later_and_stops_nobody() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    done: list[str] = []

    async def work(key: str) -> None:
        if key == "bad":
            raise OperatorError("no")
        done.append(key)

    queue.add("bad")
    queue.add("good")
    await _work(queue, 20, work)
    assert done == ["good"] and len(queue) == 0


async def test_what_happens_during_a_failure_does_not_wait_for_its_long_retry() -> None:
    queue: WorkQueue[str] = WorkQueue(random.Random(0))
    rounds = 0

    async def work(key: str) -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 5:
            queue.add(key)  # an event, while the fifth try is about to fail
        raise OperatorError("not yet")

    for _ in range(5):
        queue.add("a")
        await _work(queue, 5, work)
    due = queue._timers["a"].when() - asyncio.get_running_loop().time()
    assert rounds == 5 and due < 0.5


@pytest.mark.parametrize(
    ("failures", "least", "most"),
    [
        pytest.param(1, 0.18, 0.32, id="first"),
        pytest.param(5, 3, 5, id="fifth"),
        pytest.param(50, 45, 75, id="at-most-a-minute"),
    ],
)
def test_retry_delay(failures: int, least: float, most: float) -> None:
    assert least <= retry_delay(failures, 0.0) < retry_delay(failures, 1.0) <= most


# -- Lease -----------------------------------------------------------------------------

NOW = Clock()()


def lease(holder: str) -> LeaseView:
    return LeaseView(holder, NOW, 15, 0)


@pytest.mark.parametrize(
    ("view", "unchanged", "move"),
    [
        pytest.param(None, 0, Move.CREATE, id="none"),
        pytest.param(lease("me"), 3, Move.TAKE, id="ours"),
        pytest.param(lease(""), 3, Move.TAKE, id="given-back"),
        pytest.param(lease("other"), 14, Move.WAIT, id="held"),
        pytest.param(lease("other"), 16, Move.TAKE, id="expired"),
        pytest.param(LeaseView("other", None, 15, 0), 0, Move.TAKE, id="never-renewed"),
    ],
)
def test_next_move(view: LeaseView | None, unchanged: float, move: Move) -> None:
    assert next_move(view, "me", unchanged) is move


def _replica(cluster: FakeCluster, identity: str) -> Leadership:
    return Leadership(cluster, "default", "footplate-operator", identity, 0.03, cluster.clock)


async def test_one_leads_and_the_other_follows_when_it_lets_go() -> None:
    cluster = FakeCluster()
    first, second = _replica(cluster, "first"), _replica(cluster, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.02)
    assert not waiting.done()
    await first.release()
    await asyncio.wait_for(waiting, 30)
    spec = cluster.objects[LEASE, "footplate-operator"]["spec"]
    assert (spec["holderIdentity"], spec["leaseTransitions"]) == ("second", 2)


async def test_a_leader_that_cannot_renew_steps_down() -> None:
    cluster = FakeCluster()
    first = _replica(cluster, "first")
    await first.acquire()
    cluster.down = True
    keeping = asyncio.create_task(first.keep())
    await asyncio.sleep(0.02)
    cluster.clock.advance(1)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(keeping, 30)


async def test_a_leader_steps_down_for_another() -> None:
    cluster = FakeCluster()
    first, second = _replica(cluster, "first"), _replica(cluster, "second")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0)
    cluster.clock.advance(60)
    await asyncio.wait_for(waiting, 30)
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(first.keep(), 30)


async def test_a_clock_that_is_ahead_takes_no_lease_from_a_leader_that_renews_it() -> None:
    cluster, ahead = FakeCluster(), Clock()
    ahead.advance(60)
    await _replica(cluster, "first").acquire()
    waiting = asyncio.create_task(
        Leadership(cluster, "default", "footplate-operator", "second", 0.03, ahead).acquire()
    )
    await asyncio.sleep(0.02)
    assert not waiting.done()
    waiting.cancel()


async def test_a_leader_whose_api_server_hangs_steps_down_before_its_lease_ends() -> None:
    class Hanging(FakeCluster):
        async def get(self, kind: Kind, namespace: str, name: str) -> Json:
            await asyncio.Event().wait()
            raise AssertionError

    def now() -> datetime:
        return NOW + timedelta(seconds=asyncio.get_running_loop().time())

    leader = Leadership(Hanging(), "default", "footplate-operator", "first", 0.06, now)
    began = asyncio.get_running_loop().time()
    with pytest.raises(LeadershipLost):
        await asyncio.wait_for(leader.keep(), 30)
    assert asyncio.get_running_loop().time() - began >= 0.05


# -- cache -----------------------------------------------------------------------------


def pod(version: int, phase: str = "Pending", uid: str = "p1") -> Json:
    return {
        "kind": "Pod",
        "metadata": {
            "name": "tiny-w0-0",
            "namespace": "default",
            "uid": uid,
            "resourceVersion": str(version),
            "creationTimestamp": "2026-01-31T12:00:00Z",
            "labels": {"footplate.dev/run-uid": "r1", "footplate.dev/run": "tiny"},
            "ownerReferences": [{"kind": "TrainingRun", "name": "tiny", "uid": "r1", "controller": True}],
        },
        "status": {"phase": phase},
    }


def test_an_older_version_never_replaces_a_newer_one() -> None:
    cache = Cache()
    cache.put_pod(pod(8, "Running"))
    cache.put_pod(pod(7, "Pending"))
    assert [each.phase for each in cache.pods("default", "r1")] == ["Running"]


def test_a_pod_that_is_gone_stays_gone() -> None:
    cache = Cache()
    cache.put_pod(pod(7))
    cache.drop_pod(pod(9))
    cache.put_pod(pod(8))
    assert cache.pods("default", "r1") == []
    cache.put_pod(pod(10, uid="p2"))
    assert [each.uid for each in cache.pods("default", "r1")] == ["p2"]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"namespace": "elsewhere"}, id="of-another-namespace"),
        pytest.param({"ownerReferences": []}, id="owned-by-nobody"),
        pytest.param({"ownerReferences": [{"uid": "r2", "controller": True}]}, id="owned-by-another"),
    ],
)
def test_labels_alone_make_no_pod_of_a_run(metadata: dict[str, Any]) -> None:
    cache, stranger = Cache(), pod(9)
    cache.put_pod(pod(7))
    stranger["metadata"] |= {"uid": "p2", "name": "tiny-w0-0", **metadata}
    cache.put_pod(stranger)
    assert [each.uid for each in cache.pods("default", "r1")] == ["p1"]


def test_a_listing_takes_what_it_does_not_show() -> None:
    cache = Cache()
    cache.put_pod(pod(7))
    cache.set_pods("default", "r1", [])
    assert cache.pods("default", "r1") == []


def test_a_run_that_was_deleted_does_not_hide_its_namesake() -> None:
    cache, old, new = Cache(), run_manifest(), run_manifest()
    old["metadata"] |= {"uid": "old", "resourceVersion": "5"}
    new["metadata"] |= {"uid": "new", "resourceVersion": "9"}
    cache.put_run(old)
    cache.put_run(new)
    cache.drop_run(old)
    known = cache.run(Key("default", "tiny"))
    assert known is not None and known["metadata"]["uid"] == "new"


def test_a_run_that_has_ended_takes_a_fraction_and_comes_back_whole() -> None:
    cache, body = Cache(), run_manifest()
    body["metadata"] |= {"uid": "r1", "resourceVersion": "5"}
    body["status"] = {"phase": "Succeeded", "attempts": [{"message": "m" * 1000}] * 10}
    cache.put_run(body)
    packed = cache._runs[Key("default", "tiny")].body
    assert isinstance(packed, bytes) and len(packed) < 1000
    assert cache.run(Key("default", "tiny")) == body


@pytest.mark.parametrize(
    ("phase", "live"), [pytest.param("Running", 1, id="live"), pytest.param("Failed", 0, id="ended")]
)
def test_live_runs_are_counted(phase: str, live: int) -> None:
    cache, body = Cache(), run_manifest()
    body["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    cache.put_run(body)
    assert cache.live_runs() == 1
    cache.put_run({**body, "status": {"phase": phase}})
    assert cache.live_runs() == live
    cache.drop_run(body)
    assert cache.live_runs() == 0


# -- settings, Events ----------------------------------------------------------------

IMAGES = {"FOOTPLATE_TRAINER_IMAGE": "t:1", "FOOTPLATE_COORDINATOR_IMAGE": "c:1"}


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        pytest.param({}, "FOOTPLATE_TRAINER_IMAGE is not set", id="no-image"),
        pytest.param(
            {**IMAGES, "FOOTPLATE_METRICS_PORT": "http"},
            "FOOTPLATE_METRICS_PORT is 'http'; a whole number is right",
            id="port",
        ),
        pytest.param(
            {**IMAGES, "FOOTPLATE_IMAGE_PULL_POLICY": "Sometimes"},
            "FOOTPLATE_IMAGE_PULL_POLICY is 'Sometimes'; one of Always, IfNotPresent, Never is right",
            id="pull-policy",
        ),
        pytest.param(
            {**IMAGES, "FOOTPLATE_LOG_FORMAT": "xml"},
            "FOOTPLATE_LOG_FORMAT is 'xml'; one of logfmt, json, text is right",
            id="log-format",
        ),
    ],
)
def test_settings_that_cannot_work_are_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says.split(";")[0]) as caught:
        settings.from_environment(environment, 1)
    assert str(caught.value).startswith(says)


def test_settings_have_defaults() -> None:
    own = settings.from_environment({**IMAGES, "FOOTPLATE_WATCH_NAMESPACES": "a, b"}, 17)
    assert (own.namespaces, own.metrics_port, own.namespace) == (("a", "b"), 8080, "default")
    assert own.identity.endswith("-17")
    inside = settings.from_environment(
        {**IMAGES, "KUBERNETES_SERVICE_HOST": "10.96.0.1", "FOOTPLATE_POD_NAME": "operator-x"}, 17
    )
    assert inside.identity == "operator-x"


def _run(phase: Phase | None) -> Any:
    body = run_manifest()
    body["metadata"] |= {"uid": "u", "creationTimestamp": "2026-01-31T12:00:00Z"}
    body["status"] = {"phase": phase.value} if phase else {}
    return decode(body)


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        pytest.param(None, Phase.STARTING, "Normal", id="starts"),
        pytest.param(Phase.RUNNING, Phase.RESTARTING, "Warning", id="restarts"),
        pytest.param(Phase.RUNNING, Phase.FAILED, "Warning", id="fails"),
        pytest.param(Phase.RUNNING, Phase.RUNNING, None, id="goes-on"),
    ],
)
def test_a_change_of_phase_is_an_event(before: Phase | None, after: Phase, kind: str | None) -> None:
    event = events.phase_event(_run(before), TrainingRunStatus(phase=after), "me", NOW)
    assert (event["type"] if event else None) == kind


def test_the_same_event_has_the_same_name() -> None:
    status = TrainingRunStatus(phase=Phase.RUNNING, phase_time="2026-01-31T12:00:00.000Z")
    names = {
        (events.phase_event(_run(None), status, identity, NOW) or {})["metadata"]["name"]
        for identity in ("first", "second")
    }
    assert len(names) == 1


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "path"),
    [
        pytest.param(POD, "ns", "p", "/api/v1/namespaces/ns/pods/p", id="core"),
        pytest.param(PROFILE, "", "x", "/apis/footplate.dev/v1alpha1/computeprofiles/x", id="cluster"),
        pytest.param(TRAINING_RUN, "", "", "/apis/footplate.dev/v1alpha1/trainingruns", id="everywhere"),
    ],
)
def test_paths(kind: Any, namespace: str, name: str, path: str) -> None:
    assert kind.path(namespace, name) == path


def test_an_error_keeps_what_the_api_server_said() -> None:
    error = ClusterError("exceeded quota", 403, "Forbidden")
    assert (str(error), error.status, error.reason) == ("exceeded quota", 403, "Forbidden")
