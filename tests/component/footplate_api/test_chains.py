"""What a run stands on and what stands on it, as statuses told of it, on both databases."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import event as events

from footplate_api.db.database import Database
from footplate_api.lineage import record, service
from footplate_api.lineage.schemas import DEPTH, MOST, LineageQuery, RunLineage
from tests.component.footplate_api.builders import RUNS, eventually
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import mirror

DIGEST = "0" * 64


def given(field: str, name: str, step: int | None = 10, **other: Any) -> dict[str, Any]:
    """What the run `name` gave, as a status says it."""
    entry = {"field": field, "run": name, "uid": f"uid-{name}", "uri": f"/c/{name}", "digest": DIGEST}
    return {**entry, **({} if step is None else {"step": step}), **other}


class Runs:
    """Runs of a cluster that a mirror follows."""

    def __init__(self, database: Database) -> None:
        self.database, self.cluster = database, FakeCluster()

    async def put(
        self, name: str, *lineage: dict[str, Any], stage: str = "sft", namespace: str = "research"
    ) -> None:
        spec = {"stage": stage, "data": {"uri": f"/data/{name}"}}
        status = {"phase": "Running", "lineage": list(lineage), "data": {"digest": f"of-{name}"}}
        await self.cluster.put(namespace, name, spec, status, {"uid": f"uid-{name}"})

    async def lineage(self, name: str, listed: bool = True) -> RunLineage:
        if listed:
            await mirror(self.database, self.cluster).list()
        async with self.database.read() as session:
            return await service.read_lineage(session, "research", name, LineageQuery())


@pytest.fixture
def runs(database: Database) -> Runs:
    return Runs(database)


def told(lineage: RunLineage) -> tuple[list[tuple[int, str, str]], list[tuple[int, str, str]]]:
    """(depth, field, named run) upwards; (depth, field, naming run) downwards."""
    up = [(known.depth, known.field, known.name) for known in lineage.ancestors]
    return up, [(known.depth, known.field, known.run_uid[4:]) for known in lineage.descendants]


async def rlhf(runs: Runs) -> None:
    """sft, a reward and ppo from both, and answers of that for another sft."""
    await runs.put("sft", stage="sft")
    await runs.put("reward", given("initFrom", "sft", 20), stage="reward")
    await runs.put(
        "ppo", given("initFrom", "sft"), given("reinforcement.reference", "sft"), given("reward", "reward")
    )
    await runs.put("again", given("data", "ppo", None))


async def test_the_whole_chain_is_told_upwards_and_downwards(runs: Runs) -> None:
    await rlhf(runs)
    shown = await runs.lineage("ppo")
    assert told(shown) == (
        [
            (1, "initFrom", "sft"),
            (1, "reinforcement.reference", "sft"),
            (1, "reward", "reward"),
            (2, "initFrom", "sft"),
        ],
        [(1, "data", "again")],
    )
    assert [(run.name, run.stage, run.data) for run in shown.runs] == [
        ("ppo", "sft", ["/data/ppo"]),
        ("sft", "sft", ["/data/sft"]),
        ("reward", "reward", ["/data/reward"]),
        ("again", "sft", ["/data/again"]),
    ]
    assert [run.data_digest for run in shown.runs] == ["of-ppo", "of-sft", "of-reward", "of-again"]
    assert shown.ancestors[2].model_dump() == {
        "depth": 1,
        "run_uid": "uid-ppo",
        "field": "reward",
        "uid": "uid-reward",
        "name": "reward",
        "step": 10,
        "uri": "/c/reward",
        "digest": DIGEST,
    }
    assert shown.descendants[0].step is None and not shown.truncated


async def test_of_two_ways_to_a_reference_the_shorter_one_counts(runs: Runs) -> None:
    await rlhf(runs)
    _, down = told(await runs.lineage("sft"))
    assert down == [
        (1, "initFrom", "ppo"),
        (1, "reinforcement.reference", "ppo"),
        (1, "initFrom", "reward"),
        (2, "data", "again"),
        (2, "reward", "ppo"),
    ]


async def test_a_run_that_is_gone_stays_in_the_lineage_and_one_that_was_never_seen_has_its_name(
    runs: Runs,
) -> None:
    await runs.put("sft")
    await runs.put("dpo", given("initFrom", "sft"), given("reward", "before-the-mirror"))
    await runs.lineage("dpo")
    await runs.cluster.remove("research", "sft")
    shown = await runs.lineage("dpo")
    known = {run.name: run for run in shown.runs}
    assert known["sft"].deleted_at is not None and known["sft"].phase == "Running"
    unseen = known["before-the-mirror"]
    assert (unseen.uid, unseen.stage, unseen.phase, unseen.data) == ("uid-before-the-mirror", None, None, [])
    assert (unseen.data_digest, unseen.path) == (None, None)
    assert known["sft"].path == "/v1/namespaces/research/runs/sft?uid=uid-sft"


@pytest.mark.any_database
async def test_each_path_leads_to_a_run_also_to_one_of_a_former_namespace(api: Api) -> None:
    async def shown(**query: str) -> list[str]:
        answer = (await api.client.get(f"{RUNS}/dpo/lineage", params=query)).json()
        return [run["path"] for run in answer.get("runs", [])]

    async def found(paths: list[str]) -> list[str]:
        return [(await api.client.get(path)).json().get("uid") for path in paths]

    await api.cluster.make_namespace("research", "2026-11-25T09:00:00Z")
    for name, status in (("sft", {}), ("dpo", {"lineage": [given("initFrom", "sft")]})):
        await api.cluster.put("research", name, status=status, metadata={"uid": f"uid-{name}"})
    paths = await eventually(shown, lambda paths: len(paths) == 2)
    assert await found(paths) == ["uid-dpo", "uid-sft"]
    await api.cluster.make_namespace("research", "2026-11-25T11:00:00Z")
    await eventually(shown, lambda paths: not paths)
    assert await found(await shown(formerNamespaces="true")) == ["uid-dpo", "uid-sft"]


async def test_a_run_by_itself_has_no_lineage(runs: Runs) -> None:
    await runs.put("sft")
    shown = await runs.lineage("sft")
    assert (told(shown), [run.name for run in shown.runs], shown.truncated) == (([], []), ["sft"], False)


async def test_a_status_that_names_runs_of_another_namespace_tells_nothing_of_them(runs: Runs) -> None:
    await runs.put("base", namespace="secret", stage="pretrain")
    await runs.put("theirs", given("initFrom", "sft"), given("reward", "base"), namespace="secret")
    await runs.put("sft", given("initFrom", "theirs"))
    shown = await runs.lineage("sft")
    assert told(shown) == ([(1, "initFrom", "theirs")], [])
    [_, other] = shown.runs
    assert (other.name, other.stage, other.phase, other.data) == ("theirs", None, None, [])


@pytest.mark.parametrize("length", [DEPTH, DEPTH + 1])
async def test_a_long_chain_is_told_as_far_as_that_goes(runs: Runs, length: int) -> None:
    await runs.put("run-0")
    for number in range(1, length + 1):
        await runs.put(f"run-{number}", given("initFrom", f"run-{number - 1}"))
    up, _ = told(shown := await runs.lineage(f"run-{length}"))
    assert up == [(depth, "initFrom", f"run-{length - depth}") for depth in range(1, DEPTH + 1)]
    assert shown.truncated == (length > DEPTH)


async def test_a_ring_has_an_end(runs: Runs) -> None:
    for number in range(3):
        await runs.put(f"run-{number}", given("initFrom", f"run-{(number + 1) % 3}"))
    up, down = told(shown := await runs.lineage("run-0"))
    assert up == [(1, "initFrom", "run-1"), (2, "initFrom", "run-2"), (3, "initFrom", "run-0")]
    assert down == [(1, "initFrom", "run-2"), (2, "initFrom", "run-1"), (3, "initFrom", "run-0")]
    assert [run.name for run in shown.runs] == ["run-0", "run-1", "run-2"]


async def test_a_model_that_many_stand_on_shows_a_thousand(runs: Runs) -> None:
    await runs.put("base")
    for number in range(MOST + 1):
        await runs.put(f"run-{number}", given("initFrom", "base"))
    shown = await runs.lineage("base")
    assert (len(shown.descendants), len(shown.runs), shown.truncated) == (MOST, MOST + 1, True)


async def test_it_is_one_query(runs: Runs) -> None:
    await rlhf(runs)
    await runs.lineage("ppo")
    said: list[str] = []
    engine = runs.database.engine.sync_engine

    def note(*about: Any) -> None:
        said.append(about[2])

    events.listen(engine, "before_cursor_execute", note)
    await runs.lineage("ppo", listed=False)
    events.remove(engine, "before_cursor_execute", note)  # the engine goes on to the next test
    assert len([statement for statement in said if "run_references" in statement]) == 1


async def test_what_was_resolved_once_stays(runs: Runs) -> None:
    await runs.put("dpo", given("initFrom", "sft", 10))
    await runs.lineage("dpo")
    await runs.put("dpo", given("initFrom", "sft", 20))
    assert (await runs.lineage("dpo")).ancestors[0].step == 10


@pytest.mark.any_database
@pytest.mark.parametrize(
    "lineage",
    [
        pytest.param("text", id="no-list"),
        pytest.param([5], id="no-entry"),
        pytest.param([{**given("initFrom", "sft"), "uid": None}], id="no-uid"),
        pytest.param([{**given("initFrom", "sft"), "uid": "uid-dpo"}], id="itself"),
    ],
)
def test_what_an_odd_status_says_is_passed_over(lineage: Any) -> None:
    assert record.rows([{"metadata": {"uid": "uid-dpo"}, "status": {"lineage": lineage}}]) == []
