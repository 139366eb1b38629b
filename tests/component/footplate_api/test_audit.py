"""Every write through the API is noted before Kubernetes is asked, with its result after it, and for good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError

from footplate_api.audit import entries, repository
from footplate_api.audit.schemas import AuditQuery
from footplate_api.db.database import Database
from footplate_api.identity.caller import Caller, Right
from footplate_api.kubernetes.client import Manifest
from footplate_api.models import audit
from footplate_api.settings import with_driver
from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from tests.component.footplate_api.builders import RUNS, batch, row
from tests.component.footplate_api.conftest import Api, running
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.postgres import Server
from tests.support.review_server import within

AUDIT = "/v1/audit"
TABLES = ("audit_entries", "audit_results")
START = datetime(2026, 11, 25, tzinfo=UTC)
ALICE = Caller("oidc:alice@example.org", uid="a-1", groups=("team-a", "people"))


def submission(name: str = "gpt", **metadata: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, **metadata}, "spec": {"stage": "pretrain"}}


async def audited(api: Api, **query: Any) -> list[dict[str, Any]]:
    """What the audit says, oldest first."""
    answer = await api.client.get(AUDIT, params=query)
    assert answer.status_code == 200, answer.text
    return list(reversed(answer.json()["items"]))


async def test_a_write_is_told_with_who_what_and_result(api: Api) -> None:
    headers = api.reviewer.add("t", ALICE, within("research", verbs=("create", "delete")))
    headers["X-Request-Id"] = "r-1"
    uid = (await api.client.post(RUNS, json=submission(), headers=headers)).json()["uid"]
    assert (await api.client.delete(f"{RUNS}/gpt", headers=headers)).status_code == 202
    created, deleted = await audited(api)
    said = {key: created[key] for key in ("username", "userUid", "groups", "requestId", "verb", "resource")}
    assert said == {
        "username": "oidc:alice@example.org",
        "userUid": "a-1",
        "groups": ["team-a", "people"],
        "requestId": "r-1",
        "verb": "create",
        "resource": "trainingruns.footplate.dev",
    }
    for event, verb, status in ((created, "create", 201), (deleted, "delete", 202)):
        known = (event["verb"], event["namespace"], event["name"], event["uid"])
        assert known == (verb, "research", "gpt", uid)
        assert (event["result"]["status"], event["result"]["message"]) == (status, "")
        assert event["at"] <= event["result"]["at"]


async def test_a_refusal_of_kubernetes_is_told(api: Api) -> None:
    await api.client.post(RUNS, json=submission())
    await api.client.post(RUNS, json=submission())
    await api.client.delete(f"{RUNS}/none")
    api.cluster.available = False
    await api.client.delete(f"{RUNS}/gpt")
    results = [(event["name"], event["uid"] != "", event["result"]) for event in await audited(api)]
    assert [(name, known, result["status"]) for name, known, result in results] == [
        ("gpt", True, 201),
        ("gpt", False, 409),
        ("none", False, 404),
        ("gpt", False, 503),
    ]
    assert results[1][2]["message"] == 'trainingruns.footplate.dev "gpt" already exists'


async def test_whoever_may_not_write_is_told_of_and_whoever_may_not_read_is_not(api: Api) -> None:
    headers = api.reviewer.add("t", Caller("mallory"), within("elsewhere"))
    assert (await api.client.get(RUNS, headers=headers)).status_code == 403
    assert (await api.client.post(RUNS, json=submission(), headers=headers)).status_code == 403
    assert (await api.client.delete(f"{RUNS}/gpt", headers=headers)).status_code == 403
    assert (await api.client.delete(f"{RUNS}/gpt", headers={"Authorization": "Bearer no"})).status_code == 401
    create, delete = await audited(api)
    for event, verb, name in ((create, "create", ""), (delete, "delete", "gpt")):
        assert (event["username"], event["verb"], event["name"]) == ("mallory", verb, name)
        assert event["result"]["status"] == 403
        assert event["result"]["message"].startswith(f"mallory may not {verb} trainingruns")


@pytest.mark.parametrize(("said", "noted"), [("true", 0), ("1", 0), ("false", 1), ("nonsense", 1)])
async def test_a_refused_dry_run_is_no_write(api: Api, said: str, noted: int) -> None:
    headers = api.reviewer.add("t", Caller("mallory"), within("elsewhere"))
    answer = await api.client.post(RUNS, params={"dryRun": said}, json=submission(), headers=headers)
    assert answer.status_code == 403
    assert len(await audited(api)) == noted


async def test_telemetry_and_reading_are_no_writes(api: Api) -> None:
    uid = (await api.client.post(RUNS, json=submission())).json()["uid"]
    headers = await api.coordinator(uid)
    sent = await api.client.post(f"{RUNS}/gpt/telemetry", json=batch(uid, [row(1)]), headers=headers)
    assert sent.status_code == 200
    await api.client.get(RUNS)
    assert [event["verb"] for event in await audited(api)] == ["create"]


async def test_a_body_that_is_no_run_is_not_asked_of_anybody(api: Api) -> None:
    assert (await api.client.post(RUNS, json={"metadata": {"name": "a"}})).status_code == 422
    assert await audited(api) == []


async def test_the_name_that_kubernetes_gives_is_found(database_url: str) -> None:
    class Naming(FakeCluster):
        async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
            metadata = dict(manifest["metadata"])
            name = metadata.pop("generateName") + "x7k2p"
            return await super().create_run(namespace, {**manifest, "metadata": {**metadata, "name": name}})

    async with running(database_url, Naming()) as naming:
        given = {"metadata": {"generateName": "gpt-"}, "spec": {}}
        assert (await naming.client.post(RUNS, json=given)).status_code == 201
        [event] = await audited(naming, name="gpt-x7k2p")
    assert (event["name"], event["result"]["status"]) == ("gpt-x7k2p", 201)


# -- with the caller's name on it ------------------------------------------------------


async def test_what_is_created_says_who_asked_for_it(api: Api) -> None:
    headers = api.reviewer.add("t", ALICE, within("research", verbs=("create",)))
    for name, given in (("a", {"team": "x"}), ("b", None)):
        body = submission(name, annotations=given)
        answer = await api.client.post(RUNS, json=body, headers=headers)
        stored = api.cluster.objects["research", name]["metadata"]["annotations"]
        assert stored == {**(given or {}), REQUESTED_BY_ANNOTATION: "oidc:alice@example.org"}
        assert answer.json()["annotations"] == stored


async def test_nobody_says_themselves_who_they_are(api: Api) -> None:
    body = submission(annotations={REQUESTED_BY_ANNOTATION: "somebody-else"})
    answer = await api.client.post(RUNS, json=body)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == f"body.metadata.annotations.{REQUESTED_BY_ANNOTATION}"
    assert (error["value"], "must be absent" in error["message"]) == ("somebody-else", True)
    assert api.cluster.objects == {}


# -- before, after, and without a database -----------------------------------------------


class Looking(FakeCluster):
    """Calls `look` while it is asked for a change, before it does it."""

    def __init__(self) -> None:
        super().__init__()
        self.look: Callable[[], Any] = list

    async def create_run(self, namespace: str, manifest: Manifest) -> Manifest:
        await asyncio.to_thread(self.look)
        return await super().create_run(namespace, manifest)

    async def delete_run(self, namespace: str, name: str, uid: str | None) -> str:
        await asyncio.to_thread(self.look)
        return await super().delete_run(namespace, name, uid)


class Killed(BaseException):
    """The process ended here."""


async def test_an_effect_has_its_entry_though_the_process_ends_at_it(database_url: str) -> None:
    def ends() -> None:
        raise Killed

    cluster = Looking()
    async with running(database_url, cluster) as api:
        cluster.look = ends
        with pytest.raises(Killed):
            await api.client.delete(f"{RUNS}/gpt")
        [event] = await audited(api)
    assert (event["verb"], event["name"], event["result"]) == ("delete", "gpt", None)


async def test_without_a_database_nothing_is_asked_of_kubernetes(postgres: Server) -> None:
    async with running(with_driver(postgres.remembered()), FakeCluster()) as api:
        await api.cluster.put("research", "gpt")
        headers = api.reviewer.add("t", Caller("mallory"), within("elsewhere"))
        with postgres.away():
            answers = [
                await api.client.post(RUNS, json=submission("other")),
                await api.client.delete(f"{RUNS}/gpt"),
                await api.client.delete(f"{RUNS}/gpt", headers=headers),
            ]
        for answer in answers:
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json()["type"] == "urn:footplate:problem:database-unavailable"
        assert list(api.cluster.objects) == [("research", "gpt")]


async def test_a_database_that_goes_meanwhile_leaves_the_entry_without_result(postgres: Server) -> None:
    cluster = Looking()
    async with running(with_driver(postgres.remembered()), cluster) as api:
        await cluster.put("research", "gpt")
        cluster.look = postgres.stop
        answer = await api.client.delete(f"{RUNS}/gpt")
        postgres.start()
        assert (answer.status_code, cluster.objects) == (202, {})
        [event] = await audited(api)
    assert (event["verb"], event["name"], event["result"]) == ("delete", "gpt", None)


# -- for good ------------------------------------------------------------------------------


async def stored(database: Database, *rights: Right, caller: Caller = ALICE, minutes: int = 1) -> list[int]:
    """Ids of entries of one minute after the other, each with a result."""
    ids = []
    async with database.write() as session:
        for number, right in enumerate(rights):
            at = START + timedelta(minutes=minutes * number)
            ids.append(await repository.add_entry(session, entries.entry(caller, right, f"r-{number}", at)))
            await repository.add_result(session, entries.result(ids[-1], 201, at, "", "", "uid"))
    return ids


async def test_rows_are_never_changed_nor_deleted(database: Database) -> None:
    await stored(database, Right("create", namespace="research", name="gpt"))
    tries = [
        f"{change} {table} {rest}"
        for table, column in (("audit_entries", "request_id"), ("audit_results", "message"))
        for change, rest in (("UPDATE", f"SET {column} = 'x'"), ("DELETE FROM", ""))
    ]
    if database.engine.dialect.name == "sqlite":
        tries += [f"REPLACE INTO {table} SELECT * FROM {table}" for table in TABLES]
    else:
        tries += ["TRUNCATE audit_entries CASCADE", "TRUNCATE audit_results"]
    for statement in tries:
        with pytest.raises(DBAPIError, match="is append-only"):
            async with database.write() as session:
                await session.execute(text(statement))
    async with database.read() as session:
        [(entry, result)] = await repository.page(session, AuditQuery(), None)
    assert (entry.request_id, result.message, result.uid) == ("r-0", "", "uid")


async def test_the_owner_of_the_database_shortens_it(postgres: Server) -> None:
    """As docs/api.md says."""
    database = PatientDatabase(with_driver(postgres.remembered()))
    await stored(database, Right("create", name="gpt"))
    async with database.write() as session:
        for change in ("DISABLE", "ENABLE"):
            for table in reversed(TABLES):
                await session.execute(text(f"ALTER TABLE {table} {change} TRIGGER USER"))
                if change == "DISABLE":
                    await session.execute(text(f"DELETE FROM {table}"))
    async with database.read() as session:
        assert await repository.page(session, AuditQuery(), None) == []
    with pytest.raises(DBAPIError, match="is append-only"):
        async with database.write() as session:
            await session.execute(text("DELETE FROM audit_entries"))
    await database.close()


async def test_what_is_too_long_or_no_text_is_cut_and_stays_apart(database: Database) -> None:
    long = "a" * 3000
    for tail in ("b", "c"):
        caller = Caller(f"{long}{tail}", uid=long, groups=(f"g\0{long}",) * 100)
        await stored(database, Right("create", namespace=long, name=f"\ud800{long}"), caller=caller)
    async with database.read() as session:
        rows = [entry for entry, _ in await repository.page(session, AuditQuery(), None)]
    assert {len(entry.username) for entry in rows} == {audit.LONGEST_USER}
    assert len({entry.username for entry in rows}) == 2
    assert {(len(entry.name), len(entry.namespace), len(entry.groups)) for entry in rows} == {(253, 63, 4)}


# -- reading ------------------------------------------------------------------------------


async def test_the_audit_is_for_who_may_list_all_runs(api: Api) -> None:
    headers = api.reviewer.add("t", ALICE, within("research", verbs=("get", "list", "create", "delete")))
    answer = await api.client.get(AUDIT, params={"namespace": "research"}, headers=headers)
    assert answer.status_code == 403
    assert answer.json()["detail"] == (
        "oidc:alice@example.org may not list trainingruns.footplate.dev in all namespaces."
    )
    headers = api.reviewer.add("all", Caller("auditor"), within("", verbs=("list",)))
    assert (await api.client.get(AUDIT, headers=headers)).json() == {"items": [], "nextCursor": None}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param({}, [0, 1, 2, 3], id="all"),
        pytest.param({"namespace": "a"}, [0, 1], id="namespace"),
        pytest.param({"name": "y"}, [1, 3], id="name"),
        pytest.param({"verb": "delete"}, [2, 3], id="verb"),
        pytest.param({"username": "oidc:alice@example.org"}, [0, 1, 2, 3], id="username"),
        pytest.param({"username": "bob"}, [], id="nobody"),
        pytest.param({"from": "2026-11-25T00:01:00Z", "to": "2026-11-25T00:03:00Z"}, [1, 2], id="half-open"),
        pytest.param({"from": "2026-11-25T02:02:00+02:00"}, [2, 3], id="zone"),
        pytest.param({"namespace": "b", "name": "y", "verb": "delete"}, [3], id="together"),
    ],
)
async def test_filters(api: Api, query: dict[str, str], found: list[int]) -> None:
    rights = [
        Right(verb, namespace=namespace, name=name)
        for verb, namespace in (("create", "a"), ("delete", "b"))
        for name in ("x", "y")
    ]
    ids = await stored(api.context.database, *rights)
    assert [event["id"] for event in await audited(api, **query)] == [ids[number] for number in found]


@pytest.mark.parametrize("minutes", [0, 1])
async def test_pages_join_to_the_whole_newest_first_though_one_is_added(api: Api, minutes: int) -> None:
    ids = await stored(api.context.database, *[Right("create", name="x")] * 5, minutes=minutes)
    seen: list[int] = []
    query: dict[str, Any] = {"limit": 2, "name": "x"}
    while len(seen) < 6:
        page = (await api.client.get(AUDIT, params=query)).json()
        seen += [event["id"] for event in page["items"]]
        if page["nextCursor"] is None:
            break
        query["cursor"] = page["nextCursor"]
        await stored(api.context.database, Right("create", name="another"))
    assert seen == list(reversed(ids))


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("query", "field"),
    [
        pytest.param({"cursor": "nonsense"}, "query.cursor", id="cursor"),
        pytest.param({"limit": 0}, "query.limit", id="limit"),
        pytest.param({"from": "2026-11-25T00:00:00"}, "query.from", id="no-zone"),
        pytest.param({"from": "1764028800"}, "query.from", id="number"),
        pytest.param({"to": "9999-12-31T23:59:59-12:00"}, "query.to", id="no-such-instant"),
        pytest.param({"name": "a\0b"}, "query.name", id="no-text"),
        pytest.param({"nmae": "a"}, "query.nmae", id="misspelt"),
    ],
)
async def test_a_wrong_query_is_refused_by_name(api: Api, query: dict[str, Any], field: str) -> None:
    answer = await api.client.get(AUDIT, params=query)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_cursor_is_of_one_query(api: Api) -> None:
    await stored(api.context.database, *[Right("create", name="x")] * 2)
    page = (await api.client.get(AUDIT, params={"limit": 1, "verb": "create"})).json()
    again = {"cursor": page["nextCursor"], "limit": 1}
    assert (await api.client.get(AUDIT, params={**again, "verb": "create"})).status_code == 200
    answer = await api.client.get(AUDIT, params={**again, "verb": "delete"})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == ["query.cursor"]


@pytest.mark.parametrize("name", [None, "namespace", "username", "verb", "name"])
async def test_each_filter_has_its_index(database: Database, name: str | None) -> None:
    if database.engine.dialect.name != "sqlite":
        return  # PostgreSQL reads a table of one page as it is
    query = AuditQuery.model_validate({name: "x"} if name else {})
    statement = repository.statement(query, None).compile(
        dialect=sqlite.dialect(), compile_kwargs={"literal_binds": True}
    )
    async with database.read() as session:
        plan = [step[3] for step in await session.execute(text(f"EXPLAIN QUERY PLAN {statement}"))]
    if name == "name":  # those of a name are sorted: they are few
        assert all(any(f"ix_{table}_name (name=?)" in step for step in plan) for table in TABLES), plan
    else:
        index = f"audit_entries USING INDEX ix_audit_entries_{name or 'at'}"
        assert any(index in step for step in plan), plan
        assert not any("TEMP B-TREE" in step for step in plan)
