"""The history is that of the weights that exist; the rest is there, too, and what is missing is said."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_api.metrics import repository
from tests.component.footplate_api.builders import batch, checkpoint, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.telemetry import GPT, created, history, sent

GENERATIONS = {"names": "generation"}


def shown(part: Any) -> list[tuple[int, str]]:
    return list(zip(part["step"], part["generation"], strict=True))


async def test_after_a_rollback_history_and_gauge_are_those_of_the_weights_that_exist(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(step, (1, 1), loss=2.0) for step in range(1, 11)]))
    await sent(api, batch(uid, [row(step, (1, 2), loss=3.0) for step in (6, 7)]))
    assert shown(await history(api, **GENERATIONS)) == [
        (step, "1.1" if step < 6 else "1.2") for step in range(1, 8)
    ]
    exposition = (await api.client.get("/metrics")).text
    assert 'footplate_run_step{name="gpt",namespace="research"} 7.0' in exposition
    assert 'footplate_run_loss{name="gpt",namespace="research"} 3.0' in exposition
    rest = await history(api, **GENERATIONS, superseded=True)
    assert shown(rest) == [(step, "1.1") for step in range(6, 11)]
    async with api.context.database.read() as session:
        assert await repository.last_time(session, uid) == row(10)["metrics"]["time"]


async def test_rows_of_a_generation_that_was_given_up_come_late_and_change_nothing(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(step, (1, 2)) for step in (6, 7)]))
    await sent(api, batch(uid, [row(step, (1, 1)) for step in range(1, 11)]))
    assert shown(await history(api, **GENERATIONS)) == [
        (step, "1.1" if step < 6 else "1.2") for step in range(1, 8)
    ]


async def test_superseded_rows_are_read_in_parts(api: Api) -> None:
    uid = await created(api)
    for number in (1, 2, 3):
        await sent(api, batch(uid, [row(step, (1, number)) for step in range(1, 21)]))
    found, page = [], {"from": 0}
    while page:
        part = await history(api, **GENERATIONS, superseded=True, limit=10, **page)
        assert len(part["step"]) <= 10
        found += shown(part)
        page = {"cursor": part["nextCursor"]} if "nextCursor" in part else {}
    assert found == [(step, f"1.{number}") for step in range(1, 21) for number in (1, 2)]


async def test_steps_whose_rows_were_lost_are_a_named_hole(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(step, (1, 1)) for step in (1, 2, 3, 6, 7)]))
    await sent(api, batch(uid, [row(step, (2, 1)) for step in (10, 11)]))
    holes = [{"from": 4, "to": 5}, {"from": 8, "to": 9}]
    assert (await history(api, **GENERATIONS))["holes"] == holes
    assert (await history(api, **GENERATIONS, **{"from": 5, "to": 9}))["holes"] == [
        {"from": 5, "to": 5},
        holes[1],
    ]
    await sent(api, batch(uid, [row(step, (1, 1)) for step in (4, 5, 8, 9)]))
    assert "holes" not in await history(api, **GENERATIONS)


async def test_of_a_run_that_ended_rows_that_miss_at_the_end_are_a_hole(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(step) for step in (1, 2)]))
    assert "holes" not in await history(api, **GENERATIONS)
    status = {"phase": "Succeeded", "progress": {"step": 4, "totalSteps": 4}}
    ended = await api.cluster.put("research", "gpt", status=status)
    await api.mirrored(ended)
    assert (await history(api, **GENERATIONS))["holes"] == [{"from": 3, "to": 4}]


async def test_further_numbers_come_back_by_name(api: Api) -> None:
    uid = await created(api)
    rows = [row(1), row(2), row(3)]
    rows[0]["metrics"]["values"] = {"reward": 1, "kl": 0.25}
    rows[2]["metrics"]["values"] = {"kl": "NaN", "eval/accuracy": 0.5}
    await sent(api, batch(uid, rows))
    part = await history(api, **GENERATIONS)
    assert "values" not in part  # they were not asked for
    everything = (await api.client.get(f"{GPT}/metrics")).json()["values"]
    assert everything == {
        "reward": [1.0, None, None],
        "kl": [0.25, None, "NaN"],
        "eval/accuracy": [None, None, 0.5],
    }
    some = await history(api, names="loss,kl,unheard-of")
    assert some["values"] == {"kl": [0.25, None, "NaN"]}


async def test_a_run_has_at_most_a_thousand_names(api: Api) -> None:
    uid = await created(api)

    def named(step: int, first: int, count: int) -> dict[str, Any]:
        with_values = row(step)
        with_values["metrics"]["values"] = {f"v{place}": 1 for place in range(first, first + count)}
        return with_values

    await sent(api, batch(uid, [named(step, 64 * step, 64) for step in range(15)]))  # 960
    too_many, headers = batch(uid, [named(15, 960, 41)]), await api.coordinator(uid)
    answer = await api.client.post(f"{GPT}/telemetry", json=too_many, headers=headers)
    assert answer.status_code == 422
    assert "1000 further numbers" in answer.json()["detail"]
    await sent(api, batch(uid, [named(16, 960, 40)]))  # nothing of what was refused counts
    assert (await history(api, **GENERATIONS))["step"] == [*range(15), 16]


def record(step: int, generation: tuple[int, int] | None, time: float, place: str) -> dict[str, Any]:
    made = {**checkpoint(step, time=time), "uri": f"/c/{place}"}
    if generation is not None:
        made["generation"] = {"epoch": generation[0], "number": generation[1]}
    return made


def removal(step: int, generation: tuple[int, int], time: float = 500.0) -> dict[str, Any]:
    return {"step": step, "generation": {"epoch": generation[0], "number": generation[1]}, "time": time}


async def listed(api: Api, **parameters: Any) -> list[tuple[int, str, str | None, str | None]]:
    items = (await api.client.get(f"{GPT}/checkpoints", params=parameters)).json()["items"]
    return [(item["step"], item["uri"], item["generation"], item["removedAt"]) for item in items]


@pytest.mark.parametrize("turned", [False, True], ids=["in-order", "late"])
async def test_of_two_checkpoints_of_a_step_the_newer_generations_stands(api: Api, turned: bool) -> None:
    uid = await created(api)
    records = [record(50, (1, 1), 100.0, "old"), record(50, (2, 1), 40.0, "new")]
    for known in records[::-1] if turned else records:
        await sent(api, {**batch(uid, [], [known]), "epoch": 2})
    assert await listed(api) == [(50, "/c/new", "2.1", None)]


async def test_a_checkpoint_that_an_earlier_release_recorded_is_of_the_generation_of_its_folder(
    api: Api,
) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [], [record(50, None, 100.0, "step-50.e1g3")]))
    await sent(api, batch(uid, [], [record(50, (1, 2), 200.0, "step-50.e1g2")]))
    assert await listed(api) == [(50, "/c/step-50.e1g3", "1.3", None)]


@pytest.mark.parametrize("turned", [False, True], ids=["in-order", "the-removal-first"])
async def test_what_retention_removed_is_marked_and_not_listed_as_if_it_were_there(
    api: Api, turned: bool
) -> None:
    uid = await created(api)
    told = [
        batch(uid, [], [record(50, (1, 1), 100.0, "a"), record(60, (1, 1), 110.0, "b")]),
        {**batch(uid), "removals": [removal(50, (1, 1))]},
    ]
    for body in told[::-1] if turned else told:
        await sent(api, body)
    assert await listed(api) == [(60, "/c/b", "1.1", None)]
    assert await listed(api, removed=True) == [
        (60, "/c/b", "1.1", None),
        (50, "/c/a", "1.1", "1970-01-01T00:08:20Z"),
    ]


async def test_a_removal_of_an_older_generations_checkpoint_leaves_the_newer_one(api: Api) -> None:
    uid = await created(api)
    await sent(api, {**batch(uid, [], [record(50, (2, 1), 40.0, "new")]), "epoch": 2})
    await sent(api, {**batch(uid), "epoch": 2, "removals": [removal(50, (1, 1))]})
    assert await listed(api) == [(50, "/c/new", "2.1", None)]
    await sent(api, {**batch(uid), "epoch": 2, "removals": [removal(50, (2, 1))]})
    assert await listed(api) == []


async def test_a_step_that_was_saved_again_after_its_removal_is_there(api: Api) -> None:
    uid = await created(api)
    await sent(api, {**batch(uid, [], [record(50, (1, 1), 10.0, "a")]), "removals": [removal(50, (1, 1))]})
    await sent(api, batch(uid, [], [record(50, (1, 2), 5.0, "b")]))
    assert await listed(api) == [(50, "/c/b", "1.2", None)]


async def test_what_was_given_up_is_summed_over_epochs_and_only_grows(api: Api) -> None:
    uid = await created(api)
    for epoch, refused, overflowed in ((1, 3, 0), (1, 2, 0), (2, 0, 5)):
        given_up = {"refused": refused, "overflowed": overflowed}
        await sent(api, {**batch(uid), "epoch": epoch, "givenUp": given_up})
    async with api.context.database.read() as session:
        assert await repository.dropped_counts(session, [uid]) == {uid: (3, 5)}
    exposition = (await api.client.get("/metrics")).text
    family = "footplate_run_telemetry_dropped_total"
    assert f"# TYPE {family} counter" in exposition
    assert f'{family}{{name="gpt",namespace="research",reason="overflowed"}} 5.0' in exposition
