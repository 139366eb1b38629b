"""What is kept of what the watches delivered."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.kinds import POD, Json
from footplate_operator.runtime.objects import Key
from footplate_operator.trainingrun.observation import view_pod
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World


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


def run_cache() -> Cache:
    return World().cache


def test_an_older_version_never_replaces_a_newer_one() -> None:
    cache = run_cache()
    cache.put_child(POD, pod(8))
    cache.put_child(POD, pod(7))
    assert [child.version for child in cache.children("default", "r1")] == [8]


def test_a_pod_that_is_gone_stays_gone() -> None:
    cache = run_cache()
    cache.put_child(POD, pod(7))
    cache.drop_child(view_pod(pod(9)))
    cache.put_child(POD, pod(8))
    assert cache.children("default", "r1") == []
    cache.put_child(POD, pod(10, uid="p2"))
    assert [child.uid for child in cache.children("default", "r1")] == ["p2"]


@pytest.mark.parametrize(
    "metadata",
    [
        pytest.param({"namespace": "elsewhere"}, id="of-another-namespace"),
        pytest.param({"ownerReferences": []}, id="owned-by-nobody"),
        pytest.param({"ownerReferences": [{"uid": "r2", "controller": True}]}, id="owned-by-another"),
    ],
)
def test_labels_alone_make_no_pod_of_a_run(metadata: dict[str, Any]) -> None:
    cache, stranger = run_cache(), pod(9)
    cache.put_child(POD, pod(7))
    stranger["metadata"] |= {"uid": "p2", "name": "tiny-w0-0", **metadata}
    cache.put_child(POD, stranger)
    assert [child.uid for child in cache.children("default", "r1")] == ["p1"]


def test_a_listing_doubts_what_it_does_not_show() -> None:
    cache = run_cache()
    cache.put_child(POD, pod(7))
    cache.set_children(POD, "default", "r1", [])
    assert [child.name for child in cache.list_doubted("default", "r1")] == ["tiny-w0-0"], "it is asked for"


def test_a_run_that_was_deleted_does_not_hide_its_namesake() -> None:
    cache, old, new = run_cache(), run_manifest(), run_manifest()
    old["metadata"] |= {"uid": "old", "resourceVersion": "5"}
    new["metadata"] |= {"uid": "new", "resourceVersion": "9"}
    cache.put(old)
    cache.put(new)
    cache.drop(old)
    known = cache.get(Key("default", "tiny"))
    assert known is not None and known["metadata"]["uid"] == "new"


def test_a_run_that_has_ended_takes_a_fraction_and_comes_back_whole() -> None:
    cache, body = run_cache(), run_manifest()
    body["metadata"] |= {"uid": "r1", "resourceVersion": "5"}
    body["status"] = {"phase": "Succeeded", "attempts": [{"message": "m" * 1000}] * 10}
    cache.put(body)
    packed = cache._objects[Key("default", "tiny")].body
    assert isinstance(packed, bytes) and len(packed) < 1000
    assert cache.get(Key("default", "tiny")) == body


@pytest.mark.parametrize(
    ("phase", "live"), [pytest.param("Running", 1, id="live"), pytest.param("Failed", 0, id="ended")]
)
def test_live_runs_are_counted(phase: str, live: int) -> None:
    cache, body = run_cache(), run_manifest()
    body["metadata"] |= {"uid": "u", "resourceVersion": "5"}
    cache.put(body)
    assert cache.live() == 1
    cache.put({**body, "status": {"phase": phase}})
    assert cache.live() == live
    cache.drop(body)
    assert cache.live() == 0
