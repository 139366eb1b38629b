"""Create, list, get and delete runs, on both databases, in front of a cluster that behaves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from footplate_contracts.recorded_run import RecordedRun
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api


def submission(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"stage": "pretrain", **spec}}


async def test_a_created_run_stands_in_kubernetes_and_can_be_read_at_once(api: Api) -> None:
    answer = await api.client.post(RUNS, json=submission("gpt", training={"steps": 10}))
    assert answer.status_code == 201
    stored = api.cluster.objects["research", "gpt"]
    assert stored["apiVersion"] == "footplate.dev/v1alpha1"
    assert stored["spec"] == {"stage": "pretrain", "training": {"steps": 10}}
    read = (await api.client.get(f"{RUNS}/gpt")).json()
    assert read["uid"] == stored["metadata"]["uid"] == answer.json()["uid"]
    assert read["spec"] == stored["spec"]


async def test_a_whole_manifest_is_taken_as_well(api: Api) -> None:
    manifest = {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": "gpt", "namespace": "research", "labels": {"team": "a"}},
        "spec": {},
        "status": {},
    }
    assert (await api.client.post(RUNS, json=manifest)).json()["labels"] == {"team": "a"}


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"metadata": {"name": "a"}}, "body.spec", id="no-spec"),
        pytest.param({**submission("a"), "kind": "Pod"}, "body.kind", id="another-kind"),
        pytest.param({**submission("a"), "apiVersion": "v1"}, "body.apiVersion", id="another-group"),
        pytest.param({**submission("a"), "sepc": {}}, "body.sepc", id="misspelt-member"),
        pytest.param(
            {"metadata": {"name": "a", "namespace": "other"}, "spec": {}},
            "body.metadata.namespace",
            id="another-namespace",
        ),
        pytest.param([], "body", id="no-object"),
    ],
)
async def test_a_body_that_is_no_run_is_refused_by_name(api: Api, body: Any, field: str) -> None:
    answer = await api.client.post(RUNS, json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert api.cluster.objects == {}


async def test_the_api_servers_refusal_is_passed_on(api: Api) -> None:
    await api.client.post(RUNS, json=submission("gpt"))
    answer = await api.client.post(RUNS, json=submission("gpt"))
    assert answer.status_code == 409
    assert answer.json()["detail"] == 'trainingruns.footplate.dev "gpt" already exists'
    assert answer.json()["type"] == "urn:footplate:problem:cluster-refused"


async def test_without_kubernetes_history_is_read_and_creating_is_postponed(api: Api) -> None:
    await api.client.post(RUNS, json=submission("gpt"))
    api.cluster.available = False
    refused = await api.client.post(RUNS, json=submission("other"))
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert (await api.client.get(f"{RUNS}/gpt")).status_code == 200
    assert (await api.client.get(RUNS)).status_code == 200


async def test_a_deleted_run_stays_in_the_history(api: Api) -> None:
    uid = (await api.client.post(RUNS, json=submission("gpt"))).json()["uid"]
    assert (await api.client.delete(f"{RUNS}/gpt")).status_code == 202
    assert api.cluster.objects == {}
    gone = await eventually(lambda: get(api.client, "gpt"), lambda run: run["deletedAt"] is not None)
    assert gone["uid"] == uid
    assert await names(api.client) == []
    assert await names(api.client, includeDeleted="true") == ["gpt"]


async def test_the_live_run_of_a_name_comes_before_deleted_ones(api: Api) -> None:
    first = (await api.client.post(RUNS, json=submission("gpt"))).json()["uid"]
    await api.client.delete(f"{RUNS}/gpt")
    second = (await api.client.post(RUNS, json=submission("gpt"))).json()["uid"]
    assert (await get(api.client, "gpt"))["uid"] == second
    assert (await api.client.get(f"{RUNS}/gpt", params={"uid": first})).json()["uid"] == first


async def test_a_name_given_away_within_a_second_is_of_the_later_run(api: Api) -> None:
    """Though the mirror has not heard of the deletion, and whatever the order of the uids."""
    await api.cluster.put("research", "gpt", metadata={"uid": "zz-sorts-after-any-other"})
    await eventually(lambda: get(api.client, "gpt"), lambda run: run.get("uid") is not None)
    api.cluster.silent = True
    await api.cluster.remove("research", "gpt")
    second = (await api.client.post(RUNS, json=submission("gpt"))).json()
    read = await get(api.client, "gpt")
    assert (read["uid"], read["deletedAt"]) == (second["uid"], None)


async def test_deleting_with_a_uid_spares_a_younger_run_of_the_name(api: Api) -> None:
    await api.client.post(RUNS, json=submission("gpt"))
    answer = await api.client.delete(f"{RUNS}/gpt", params={"uid": "of-another-run"})
    assert answer.status_code == 409
    assert ("research", "gpt") in api.cluster.objects


async def test_an_unknown_run_is_not_found(api: Api) -> None:
    answer = await api.client.get(f"{RUNS}/nothing")
    assert answer.status_code == 404
    assert answer.json()["detail"] == "No TrainingRun 'nothing' was seen in namespace 'research'."


async def test_pages_join_to_the_whole_list_newest_first(api: Api) -> None:
    for number in range(7):
        await api.client.post(RUNS, json=submission(f"run-{number}"))
    seen, cursor = [], None
    for length in (3, 3, 1):
        page = (
            await api.client.get(RUNS, params={"limit": 3, **({"cursor": cursor} if cursor else {})})
        ).json()
        assert len(page["items"]) == length
        seen += [item["name"] for item in page["items"]]
        cursor = page["nextCursor"]
    assert cursor is None
    assert seen == [f"run-{number}" for number in reversed(range(7))]


async def test_a_page_goes_on_where_it_ended_though_runs_were_added(api: Api) -> None:
    for number in range(4):
        await api.client.post(RUNS, json=submission(f"run-{number}"))
    first = (await api.client.get(RUNS, params={"limit": 2})).json()
    await api.client.post(RUNS, json=submission("run-4"))
    second = (await api.client.get(RUNS, params={"limit": 2, "cursor": first["nextCursor"]})).json()
    assert [item["name"] for item in second["items"]] == ["run-1", "run-0"]


async def test_filters_by_phase_and_stage(api: Api) -> None:
    await api.cluster.put("research", "a", {"stage": "pretrain"}, {"phase": "Running"})
    await api.cluster.put("research", "b", {"stage": "sft"}, {"phase": "Running"})
    await api.cluster.put("research", "c", {"stage": "sft"}, {"phase": "Failed"})
    await api.cluster.put("elsewhere", "d", {"stage": "sft"}, {"phase": "Running"})
    await eventually(lambda: names(api.client), lambda found: len(found) == 3)
    assert await names(api.client, phase="Running") == ["b", "a"]
    assert await names(api.client, stage="sft") == ["c", "b"]
    assert await names(api.client, stage="sft", phase="Running") == ["b"]


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        pytest.param({"phase": "Sleeping"}, "query.phase", id="phase"),
        pytest.param({"stage": "dream"}, "query.stage", id="stage"),
        pytest.param({"limit": 0}, "query.limit", id="limit-too-small"),
        pytest.param({"limit": 501}, "query.limit", id="limit-too-large"),
        pytest.param({"cursor": "nonsense"}, "query.cursor", id="cursor"),
        pytest.param({"sort": "loss"}, "query.sort", id="sort"),
        pytest.param({"labelSelector": "a in (b"}, "query.labelSelector", id="labels-not-closed"),
        pytest.param({"labelSelector": "-a"}, "query.labelSelector", id="labels-no-key"),
        pytest.param({"profile": "\0"}, "query.profile", id="profile-no-text"),
        pytest.param({"queue": ""}, "query.queue", id="queue-empty"),
        pytest.param({"createdFrom": "yesterday"}, "query.createdFrom", id="no-time"),
        pytest.param({"createdTo": "1790000000"}, "query.createdTo", id="time-as-number"),
        pytest.param({"endedFrom": "2026-11-28T10:00:00"}, "query.endedFrom", id="time-without-zone"),
        pytest.param({"endedTo": "9999-12-31T23:59:59-10:00"}, "query.endedTo", id="time-beyond-all"),
        pytest.param({"pahse": "Running"}, "query.pahse", id="misspelt"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(api: Api, parameters: dict[str, Any], field: str) -> None:
    answer = await api.client.get(RUNS, params=parameters)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == field
    assert error["value"] == str(next(iter(parameters.values())))


@pytest.mark.any_database
@pytest.mark.parametrize("namespace", ["Research", "a_b", "x" * 64, "-a"])
async def test_a_namespace_that_cannot_be_is_refused(api: Api, namespace: str) -> None:
    assert (await api.client.get(f"/v1/namespaces/{namespace}/runs")).status_code == 422


async def get(client: httpx.AsyncClient, name: str) -> Any:
    return (await client.get(f"{RUNS}/{name}")).json()


async def names(client: httpx.AsyncClient, **parameters: str) -> list[str]:
    return [item["name"] for item in (await client.get(RUNS, params=parameters)).json()["items"]]


async def test_whoever_waits_for_a_final_status_can_read_it(api: Api) -> None:
    created = (await api.client.post(RUNS, json=submission("gpt"))).json()
    answer = await api.client.get(f"{RUNS}/gpt", params={"uid": created["uid"]})
    known = RecordedRun.model_validate_json(answer.content)
    version = int(api.cluster.objects["research", "gpt"]["metadata"]["resourceVersion"])
    assert (known.uid, known.phase, known.resource_version) == (created["uid"], None, version)
