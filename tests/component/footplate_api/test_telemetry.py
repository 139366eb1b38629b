"""Telemetry in, histories out, on both databases."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from footplate_api.telemetry.telemetry_admission import OF_ONE_SENDER
from tests.component.footplate_api.builders import RUNS, batch, checkpoint, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.telemetry import GPT, created, history, sent


async def test_what_was_sent_comes_back(api: Api) -> None:
    uid = await created(api)
    assert await sent(api, batch(uid, [row(1), row(2, loss=2.25)])) == {
        "rows": 2,
        "checkpoints": 0,
        "gatherSeconds": 0.5,
    }
    assert await history(api) == {
        "runUid": uid,
        "every": 1,
        "step": [1, 2],
        "time": [1_790_000_001.0, 1_790_000_002.0],
        "loss": [2.5, 2.25],
        "gradientNorm": [1.25, 1.25],
        "learningRate": [0.001, 0.001],
        "tokens": [1024, 2048],
        "tokensPerSecond": [512.0, 512.0],
        "sampleDigest": ["0000000000000001", "0000000000000002"],
        "generation": ["1.1", "1.1"],
    }


async def test_what_only_some_steps_measure_comes_back_with_gaps(api: Api) -> None:
    uid = await created(api)
    rows = [row(step) for step in (1, 2, 3)]
    rows[0]["metrics"] |= {"mfu": 0.5, "memoryBytes": 1 << 40}
    rows[2]["metrics"] |= {"mfu": 0.25, "validationLoss": 3.5}
    await sent(api, batch(uid, rows))
    shown = await history(api, names="loss,mfu,memoryBytes,validationLoss,stepSeconds")
    assert {name: shown.get(name) for name in ("mfu", "memoryBytes", "validationLoss", "stepSeconds")} == {
        "mfu": [0.5, None, 0.25],
        "memoryBytes": [1 << 40, None, None],
        "validationLoss": [None, None, 3.5],
        "stepSeconds": None,
    }


async def test_sending_again_changes_nothing(api: Api) -> None:
    body = batch(await created(api), [row(1), row(2)], [checkpoint(2)])
    await sent(api, body)
    before = await history(api), (await api.client.get(f"{GPT}/checkpoints")).json()
    await sent(api, body)
    assert (await history(api), (await api.client.get(f"{GPT}/checkpoints")).json()) == before


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        pytest.param((1, 1), (1, 2), (1, 2), id="newer-number-replaces"),
        pytest.param((1, 9), (2, 1), (2, 1), id="newer-epoch-replaces-whatever-the-number"),
        pytest.param((1, 2), (1, 1), (1, 2), id="older-number-does-not"),
        pytest.param((2, 1), (1, 9), (2, 1), id="older-epoch-does-not"),
    ],
)
@pytest.mark.parametrize("together", [True, False], ids=["in-one-batch", "in-two"])
async def test_the_newest_generation_of_a_step_stays(
    api: Api, first: tuple[int, int], second: tuple[int, int], stays: tuple[int, int], together: bool
) -> None:
    uid = await created(api)
    rows = [row(5, first, loss=1.0), row(5, second, loss=2.0)]
    for part in [rows] if together else [[alone] for alone in rows]:
        await sent(api, batch(uid, part))
    shown = await history(api, names="loss,generation")
    assert shown["generation"] == [f"{stays[0]}.{stays[1]}"]
    assert shown["loss"] == [1.0 if stays == first else 2.0]


async def test_a_resumed_run_ends_with_one_row_a_step(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(step, (1, 1)) for step in range(1, 9)]))
    resumed = [row(step, (1, 2)) for step in range(6, 11)]
    await sent(api, batch(uid, resumed))
    late = [row(step, (1, 1)) for step in range(4, 9)]  # the first generation's agent catches up
    await sent(api, batch(uid, late))
    shown = await history(api)
    assert shown["step"] == list(range(1, 11))
    assert shown["generation"] == ["1.1"] * 5 + ["1.2"] * 5


async def test_overlapping_batches_at_once_lose_nothing(api: Api) -> None:
    uid = await created(api)
    chance = random.Random(7)
    bodies = []
    for number in range(1, 13):
        start = chance.randrange(1, 150)
        bodies.append(batch(uid, [row(step, (1, number)) for step in range(start, start + 100)]))
    chance.shuffle(bodies)
    for first in range(0, len(bodies), OF_ONE_SENDER):
        await asyncio.gather(*(sent(api, body) for body in bodies[first : first + OF_ONE_SENDER]))
    sent_rows = [
        (sent_row["metrics"]["step"], sent_row["generation"]["number"])
        for body in bodies
        for sent_row in body["rows"]
    ]
    counts = sorted(
        (step, number)
        for step, number in sent_rows
        if not any(earlier <= step and newer > number for earlier, newer in sent_rows)
    )
    shown = await history(api)
    assert list(zip(shown["step"], shown["generation"], strict=True)) == [
        (step, f"1.{number}") for step, number in counts
    ]
    rest = await history(api, superseded=True)
    assert sorted([*shown["step"], *rest["step"]]) == sorted(step for step, _ in sent_rows)


async def test_telemetry_may_come_before_the_mirror_has_seen_the_run(api: Api) -> None:
    await sent(api, batch("uid-of-a-new-run", [row(1)]))
    assert (await api.client.get(f"{GPT}/metrics")).status_code == 404
    await api.client.post(RUNS, json={"metadata": {"name": "gpt", "uid": "uid-of-a-new-run"}, "spec": {}})
    assert (await history(api))["step"] == [1]


async def test_a_batch_for_another_run_is_refused(api: Api) -> None:
    uid, headers = await created(api, "other"), await api.coordinator(await created(api))
    answer = await api.client.post(f"{GPT}/telemetry", json=batch(uid, [row(1)]), headers=headers)
    assert answer.status_code == 409
    assert "research/gpt" in answer.json()["detail"]
    assert "other" not in answer.text  # a run that its sender may know nothing of


async def test_losses_that_are_no_numbers_survive(api: Api) -> None:
    uid = await created(api)
    losses: list[float | str] = ["NaN", "Infinity", "-Infinity", 1.0]
    await sent(api, batch(uid, [row(step, loss=loss) for step, loss in enumerate(losses, 1)]))
    assert (await history(api, names="loss"))["loss"] == losses


def _wrong(change: dict[str, Any], place: str = "metrics") -> dict[str, Any]:
    wrong = row(3)
    wrong[place] = {**wrong[place], **change}
    return {**batch("some-uid", [row(1), wrong]), "epoch": 1}


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(_wrong({"loss": "high"}), "body.rows[1].metrics.loss", id="no-number"),
        pytest.param(_wrong({"step": -1}), "body.rows[1].metrics.step", id="negative-step"),
        pytest.param(_wrong({"tokens": 2**63}), "body.rows[1].metrics.tokens", id="number-too-large"),
        pytest.param(_wrong({"memoryBytes": 2**63}), "body.rows[1].metrics.memoryBytes", id="memory"),
        pytest.param(_wrong({"sampleDigest": "a\0b"}), "body.rows[1].metrics.sampleDigest", id="nul"),
        pytest.param(_wrong({"epoch": 2**63}, "generation"), "body.rows[1].generation.epoch", id="epoch"),
        pytest.param(_wrong({"epoch": 2}, "generation"), "body.rows[1].generation.epoch", id="later-epoch"),
        pytest.param(_wrong({"values": {"a b": 1}}), "body.rows[1].metrics.values", id="name-of-a-value"),
        pytest.param(_wrong({"values": {"loss": 1}}), "body.rows[1].metrics.values", id="name-of-a-column"),
        pytest.param(
            _wrong({"values": {f"v{place}": 1 for place in range(65)}}),
            "body.rows[1].metrics.values",
            id="too-many-values",
        ),
        pytest.param(batch("some uid"), "body.runUid", id="uid"),
        pytest.param(batch("uid", [row(1)] * 5001), "body.rows", id="too-many-rows"),
        pytest.param(
            batch("uid", [], [{**checkpoint(1), "time": "NaN"}]), "body.checkpoints[0].time", id="time"
        ),
    ],
)
async def test_what_no_column_holds_is_refused_by_name(api: Api, body: Any, field: str) -> None:
    headers = await api.coordinator("some-uid")
    answer = await api.client.post(f"{GPT}/telemetry", json=body, headers=headers)
    assert answer.status_code == 422, answer.text
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_a_newer_sender_may_say_more(api: Api) -> None:
    body = {**batch(await created(api), [{**row(1), "temperature": 40}]), "hints": {}}
    assert (await sent(api, body))["rows"] == 1


@pytest.mark.parametrize(
    ("parameters", "steps"),
    [
        pytest.param({}, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], id="all"),
        pytest.param({"from": 4, "to": 6}, [4, 5, 6], id="range-inclusive"),
        pytest.param({"every": 4}, [4, 8, 11], id="every-and-the-last"),
        pytest.param({"every": 5, "to": 9}, [5, 9], id="every-within-a-range"),
        pytest.param({"from": 20}, [], id="beyond"),
        pytest.param({"limit": 10}, [2, 4, 6, 8, 10, 11], id="thinned-to-the-limit"),
    ],
)
async def test_parts_of_a_history(api: Api, parameters: dict[str, int], steps: list[int]) -> None:
    await sent(api, batch(await created(api), [row(step) for step in range(1, 12)]))
    shown = await history(api, **parameters)
    assert shown["step"] == steps
    assert len(shown["loss"]) == len(steps)
    assert "nextCursor" not in shown


async def test_a_dense_history_is_read_in_parts(api: Api) -> None:
    await sent(api, batch(await created(api), [row(step) for step in range(1, 26)]))
    steps: list[int] = []
    page: dict[str, str] = {}
    for _ in range(3):
        part = await history(api, every=1, limit=10, names="loss", **page)
        steps += part["step"]
        page = {"cursor": part["nextCursor"]} if "nextCursor" in part else {}
    assert (steps, page) == (list(range(1, 26)), {})


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("parameters", "field"),
    [
        pytest.param({"names": "loss,%d"}, "query.names[1]", id="no-name"),
        pytest.param({"from": 9, "to": 3}, "query", id="backwards"),
        pytest.param({"every": 0}, "query.every", id="every-zero"),
        pytest.param({"from": 2**63}, "query.from", id="too-large"),
        pytest.param({"uid": "\0"}, "query.uid", id="uid"),
    ],
)
async def test_a_wrong_history_query_is_refused_by_name(
    api: Api, parameters: dict[str, Any], field: str
) -> None:
    answer = await api.client.get(f"{GPT}/metrics", params=parameters)
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]


async def test_checkpoints_newest_first_in_pages(api: Api) -> None:
    await sent(api, batch(await created(api), [], [checkpoint(step) for step in (50, 100, 150)]))
    first = (await api.client.get(f"{GPT}/checkpoints", params={"limit": 2})).json()
    assert [item["step"] for item in first["items"]] == [150, 100]
    rest = (await api.client.get(f"{GPT}/checkpoints", params={"cursor": first["nextCursor"]})).json()
    assert [item["step"] for item in rest["items"]] == [50]
    assert rest["nextCursor"] is None
    assert rest["items"][0] == {
        **{name: value for name, value in checkpoint(50).items() if name != "time"},
        "committedAt": "2026-09-21T14:13:20Z",
        "secondsBlocked": 0.0,
        "secondsTotal": 0.0,
        "generation": "1.1",
        "removedAt": None,
    }


async def test_a_later_commit_of_a_step_replaces_an_earlier_one(api: Api) -> None:
    uid = await created(api)
    await sent(
        api, batch(uid, [], [checkpoint(50, time=2.0, uri="/new"), checkpoint(50, time=1.0, uri="/old")])
    )
    await sent(api, batch(uid, [], [checkpoint(50, time=1.0, uri="/old")]))
    shown = (await api.client.get(f"{GPT}/checkpoints")).json()
    assert [item["uri"] for item in shown["items"]] == ["/new/step-50.e1g1"]
