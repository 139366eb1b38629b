"""Pods of a Job belong to the object that owns the Job."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_operator.runtime.cache import Cache
from footplate_operator.runtime.controller import Controller, OwnedKind
from footplate_operator.runtime.kinds import JOB, POD, Json, Kind
from footplate_operator.runtime.objects import controller_of, view_child


class _Batches(Controller[Any, Any, Any]):
    kind = Kind("example.dev/v1", "Batch", "batches")
    uid_label = "uid"
    owns = (OwnedKind(JOB), OwnedKind(POD, lingers=True))


def body(name: str, owner: str = "", uid: str = "", label: str = "b1") -> Json:
    """Return an object whose uid is its name, with a controller of the kind `owner`."""
    reference = {"kind": owner, "name": f"name-of-{uid}", "uid": uid, "controller": True}
    metadata = {"name": name, "uid": name, "namespace": "default", "labels": {"uid": label}}
    return {"metadata": {**metadata, "ownerReferences": [reference] if owner else []}}


JOB_OF_BATCH = body("job", "Batch", "b1")
POD_OF_JOB = body("pod", "Job", "job")


def cache_with(*jobs: Json) -> Cache:
    """Return a cache of Batches with these Jobs."""
    cache = Cache(_Batches())
    for job in jobs:
        cache.put_child(JOB, job)
    return cache


def children(cache: Cache) -> set[str]:
    """Return the names of the Batch's children."""
    return {child.name for child in cache.children("default", "b1")}


def test_a_pod_of_a_job_is_a_child_of_the_jobs_owner() -> None:
    cache = cache_with(JOB_OF_BATCH)
    cache.put_child(POD, POD_OF_JOB)
    assert children(cache) == {"job", "pod"}
    owner = controller_of(cache.resolve_owner(POD_OF_JOB))
    assert (owner["kind"], owner["name"], owner["uid"]) == ("Batch", "name-of-b1", "b1")


@pytest.mark.parametrize(
    "pod",
    [
        pytest.param(body("pod", "Job", "another"), id="of-a-job-that-is-not-known"),
        pytest.param(body("pod", "Job", "job", label="b2"), id="with-another-owners-label"),
        pytest.param(body("pod", "ReplicaSet", "job"), id="of-a-kind-that-is-not-owned"),
        pytest.param(body("pod"), id="of-nobody"),
    ],
)
def test_any_other_pod_is_nobodys_child(pod: Json) -> None:
    cache = cache_with(JOB_OF_BATCH)
    assert cache.resolve_owner(pod) == pod
    cache.put_child(POD, pod)
    assert children(cache) == {"job"}


def test_a_pod_outlives_its_job() -> None:
    cache = cache_with(JOB_OF_BATCH)
    cache.put_child(POD, POD_OF_JOB)
    cache.drop_child(view_child(JOB, JOB_OF_BATCH))
    assert controller_of(cache.resolve_owner(POD_OF_JOB))["uid"] == "b1"
    cache.put_child(POD, body("pod"))
    assert children(cache) == set(), "somebody took its owner from it"
