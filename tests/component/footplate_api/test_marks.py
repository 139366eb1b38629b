"""Whose run answers an `Idempotency-Key`: one that was made for it, and no other that says so."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

import pytest
from sqlalchemy import select

from footplate_api.app_context import utc_now
from footplate_api.creation import idempotency, idempotency_keys
from footplate_api.db.database import Database
from footplate_api.labels.run_labels import ASKED_UNDER
from footplate_api.models.installation import IdempotencyKey
from footplate_api.runs import service
from footplate_api.runs.schemas import RunSubmission
from footplate_contracts.names import REQUESTED_BY_ANNOTATION
from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api

KEY: Final = {"Idempotency-Key": "nightly"}
GPT: Final[dict[str, Any]] = {"metadata": {"name": "gpt"}, "spec": {"stage": "pretrain"}}


def noted(caller: str) -> dict[str, str]:
    """Annotations of a run that `caller` asked for, with the mark of GPT asked for under KEY by the admin."""
    manifest = service.manifest("research", RunSubmission(**GPT))
    mark = idempotency.build_request("admin", KEY["Idempotency-Key"], manifest).annotation_value
    return {ASKED_UNDER: mark, REQUESTED_BY_ANNOTATION: caller}


@pytest.mark.parametrize(
    ("namespace", "caller"),
    [
        pytest.param("elsewhere", "admin", id="in-another-namespace"),
        pytest.param("research", "mallory", id="of-somebody-else"),
    ],
)
async def test_a_mark_that_was_planted_answers_nobody(api: Api, namespace: str, caller: str) -> None:
    about = {"annotations": noted(caller), "creationTimestamp": utc_now().isoformat()}
    planted = await api.cluster.put(namespace, "bait", metadata=about)
    await api.mirrored(planted)
    answer = await api.client.post(RUNS, json=GPT, headers=KEY)
    assert (answer.status_code, answer.json()["name"]) == (201, "gpt")
    assert answer.json()["uid"] == api.cluster.objects["research", "gpt"]["metadata"]["uid"]


@pytest.mark.parametrize(
    ("caller", "days", "status"),
    [
        pytest.param("admin", 0, 201, id="their-own-of-today"),
        pytest.param("admin", 2, 409, id="their-own-of-long-ago"),
        pytest.param("mallory", 0, 409, id="of-somebody-else"),
    ],
)
async def test_a_run_of_the_same_name_is_the_answer_if_it_was_made_for_the_key(
    api: Api, caller: str, days: int, status: int
) -> None:
    api.cluster.silent = True  # the mirror does not know it
    made = (utc_now() - timedelta(days=days)).isoformat()
    about = {"annotations": noted(caller), "creationTimestamp": made}
    await api.cluster.put("research", "gpt", metadata=about)
    answer = await api.client.post(RUNS, json=GPT, headers=KEY)
    assert answer.status_code == status


async def test_nobody_gives_a_key_back_while_another_attempt_reads_it(database: Database) -> None:
    if database.engine.dialect.name != "postgresql":
        pytest.skip("writers of SQLite come one after the other")
    asking = idempotency.build_request("admin", "key", service.manifest("research", RunSubmission(**GPT)))
    free = select(IdempotencyKey.id).with_for_update(skip_locked=True)
    now = utc_now()
    async with database.write() as first:
        await idempotency_keys.reserve(first, asking, now)
    async with database.write() as other:
        assert await other.scalar(free) == asking.key
    async with database.write() as again, database.write() as other:
        found = await idempotency_keys.reserve(again, asking, now + timedelta(hours=1))
        assert (found.request, found.created_at) == (asking.request, now)
        assert await other.scalar(free) is None


async def test_nobody_marks_a_run_themselves(api: Api) -> None:
    body = {**GPT, "metadata": {"name": "gpt", "annotations": {ASKED_UNDER: "x"}}}
    answer = await api.client.post(RUNS, json=body)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert (error["field"], error["value"]) == (f"body.metadata.annotations.{ASKED_UNDER}", "x")
    assert api.cluster.objects == {}
