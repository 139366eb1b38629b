"""What of a run is read again when its object was written again."""

from __future__ import annotations

import pytest

from footplate_contracts.names import Phase
from footplate_operator.runtime.objects import Undecodable
from footplate_operator.trainingrun.run import decode
from tests.support.connection import Json
from tests.support.operator_fakes import run_manifest
from tests.support.operator_world import World

METADATA = {"namespace": "default", "uid": "uid-1", "creationTimestamp": "2026-01-31T12:00:00Z"}


def version(number: int, **parts: Json) -> Json:
    """The run as it was written at that time."""
    body = run_manifest()
    return {**body, **parts, "metadata": {**body["metadata"], **METADATA, "resourceVersion": str(number)}}


def test_a_spec_that_is_as_it_was_is_not_read_again() -> None:
    before = version(1)
    known = decode(before)
    run = decode(version(2, status={"phase": "Running"}), (before, known))
    assert run.spec is known.spec and run.phase is Phase.RUNNING and run.version == "2"


def test_a_status_that_is_as_it_was_is_not_read_again() -> None:
    before = version(1, status={"phase": "Running"})
    known = decode(before)
    spec = {**before["spec"], "suspend": True}
    run = decode(version(2, status=before["status"], spec=spec), (before, known))
    assert run.status is known.status and run.spec.suspend and not known.spec.suspend


def test_one_that_cannot_be_read_any_more_is_told() -> None:
    before = version(1)
    with pytest.raises(Undecodable, match="spec: unknown"):
        decode(version(2, spec={**before["spec"], "unknown": 1}), (before, decode(before)))


@pytest.mark.parametrize(("phase", "kept"), [("Running", True), ("Succeeded", False)])
def test_beside_the_packed_object_of_a_run_that_ended_nothing_of_it_is_kept(phase: str, kept: bool) -> None:
    controller, body = World().reconciler.controller, version(1, status={"phase": phase})
    assert (controller.decode(body).spec is controller.decode(body).spec) is kept
