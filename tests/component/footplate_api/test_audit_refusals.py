"""Whoever may not write does not fill the audit, and so the database, by trying."""

from __future__ import annotations

from typing import Any

from footplate_api.identity.caller import Caller
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.support.clock import Clock
from tests.support.review_server import within


async def noted(api: Api, username: str) -> list[dict[str, Any]]:
    """What the audit says of a user."""
    answer = await api.client.get("/v1/audit", params={"username": username})
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


async def test_of_too_many_refusals_some_are_counted_instead(database_url: str) -> None:
    clock = Clock()
    async with running(database_url, FakeCluster(), clock=clock) as api:
        mallory = api.reviewer.add("m", Caller("mallory"), within("elsewhere"))
        other = api.reviewer.add("o", Caller("other"), within("elsewhere"))
        answers = [await api.client.delete(f"{RUNS}/gpt", headers=mallory) for _ in range(25)]
        assert {answer.status_code for answer in answers} == {403}
        assert len({answer.json()["detail"] for answer in answers}) == 1
        assert len(await noted(api, "mallory")) == 20
        assert "footplate_api_audit_refusals_dropped_total 5.0" in (await api.client.get("/metrics")).text
        await api.client.delete(f"{RUNS}/gpt", headers=other)
        assert len(await noted(api, "other")) == 1
        clock.seconds += 120.0
        for _ in range(5):
            await api.client.delete(f"{RUNS}/gpt", headers=mallory)
        assert len(await noted(api, "mallory")) == 22


async def test_a_refusal_takes_little_whatever_the_groups_are(api: Api) -> None:
    groups = tuple(f"{number}-" + "\N{OX}" * 300 for number in range(70))
    headers = api.reviewer.add("t", Caller("mallory", groups=("people", *groups)), within("elsewhere"))
    await api.client.delete(f"{RUNS}/gpt", headers=headers)
    short = tuple(f"group-{number}" for number in range(70))
    headers = api.reviewer.add("s", Caller("many", groups=short), within("elsewhere"))
    await api.client.delete(f"{RUNS}/gpt", headers=headers)
    [long], [many] = await noted(api, "mallory"), await noted(api, "many")
    assert long["groups"] == ["people", "…70 more"]
    assert many["groups"] == [*short[:64], "…6 more"]


async def test_what_no_object_is_named_is_refused_by_its_beginning(api: Api) -> None:
    headers = api.reviewer.add("t", Caller("mallory"), within("elsewhere"))
    path = f"/v1/namespaces/{'a' * 5000}/runs/{'b' * 5000}"
    deleted = await api.client.delete(path, headers=headers)
    sent = await api.client.post(f"{path}/telemetry", json={}, headers=headers)
    for answer in (deleted, sent):
        assert (answer.status_code, len(answer.json()["detail"]) < 500) == (403, True)
    assert all(len(asked.name) < 255 for asked in api.reviewer.asked if not isinstance(asked, str))
