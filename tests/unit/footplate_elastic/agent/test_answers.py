"""What a join, a grant and a refusal are answered."""

from __future__ import annotations

import json

import pytest

from footplate_contracts.rendezvous import AgentIdentity, Grant, Member, SealedGeneration
from footplate_contracts.reports import GenerationId
from footplate_elastic.agent.client import CoordinatorResponse
from footplate_elastic.agent.coordinator_view import (
    get_refusal_reason,
    is_commit_granted,
    own_identity,
    parse_join_response,
)
from footplate_elastic.agent.errors import RunOver, SlotTaken

SPARE = AgentIdentity(index=5, incarnation=0, pod_name="spare", address="10.0.0.5", local_world_size=1)
TAKEN = SPARE.model_copy(update={"index": 2, "incarnation": 3})
OTHER = AgentIdentity(index=1, incarnation=0, pod_name="other", address="10.0.0.1", local_world_size=1)
SEALED = SealedGeneration(
    generation=GenerationId.parse("1.4"),
    members=[
        Member(agent=agent, group_rank=rank, first_rank=rank, store_port=9)
        for rank, agent in enumerate((OTHER, TAKEN))
    ],
    world_size=2,
)


def refusal(status: int, reason: str) -> CoordinatorResponse:
    return CoordinatorResponse(status, json.dumps({"reason": reason}).encode())


def test_a_seal() -> None:
    assert (
        parse_join_response(CoordinatorResponse(200, SEALED.model_dump_json(by_alias=True).encode()), SPARE)
        == SEALED
    )


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(refusal(202, "not yet"), id="not yet"),
        pytest.param(refusal(409, "something"), id="another conflict"),
        pytest.param(CoordinatorResponse(503, b"<html>"), id="somebody else answers"),
    ],
)
def test_ask_again(answer: CoordinatorResponse) -> None:
    assert parse_join_response(answer, SPARE) is None


@pytest.mark.parametrize(
    ("reason", "error"),
    [pytest.param("evicted", SlotTaken, id="evicted"), pytest.param("closed", RunOver, id="closed")],
)
def test_the_end_of_this_agent(reason: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        parse_join_response(refusal(409, reason), SPARE)


def test_a_spare_learns_its_slot() -> None:
    assert own_identity(SEALED, SPARE) == TAKEN


@pytest.mark.parametrize("given", [True, False])
def test_a_grant(given: bool) -> None:
    assert (
        is_commit_granted(CoordinatorResponse(200, Grant(granted=given).model_dump_json().encode()), 7)
        is given
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b'{"reason": "closed"}', "closed", id="in its words"),
        pytest.param(b'["closed"]', '["closed"]', id="no object"),
        pytest.param(b"x" * 300, "x" * 200, id="as it begins"),
        pytest.param(b"\xff", "\ufffd", id="no text"),
    ],
)
def test_the_reason_of_a_refusal(body: bytes, reason: str) -> None:
    assert get_refusal_reason(CoordinatorResponse(500, body)) == reason
