"""Samples come in with their rows and go out by step and prompt; what was given up is not shown."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import pytest
from sqlalchemy import delete, func, select

from footplate_api.metrics import retention_queries
from footplate_api.metrics.retention import RetentionLimits
from footplate_api.models.metric import MetricSegment, StepSample
from footplate_api.tasks.retention import RetentionTask
from footplate_contracts.samples import LoggedSample, truncate_samples
from tests.component.footplate_api.builders import batch, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.telemetry import GPT, created, history, sent
from tests.component.footplate_api.test_retention import NOW, ended, look
from tests.support.samples import longest, shown


def sampled(step: int, *samples: LoggedSample, generation: tuple[int, int] = (1, 1)) -> dict[str, Any]:
    """A row of `step` with samples; with one whose answer says its generation where none are given."""
    some = samples or (shown(step, answer=f"{step} of {generation[1]}"),)
    return {**row(step, generation), "samples": [sample.to_json() for sample in some]}


async def samples(api: Api, **parameters: Any) -> Any:
    answer = await api.client.get(f"{GPT}/samples", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def answers(api: Api, **parameters: Any) -> list[tuple[int, str]]:
    """(step, text) of the answers on a page."""
    return [
        (item["step"], sample["answerText"])
        for item in (await samples(api, **parameters))["items"]
        for sample in item["samples"]
    ]


async def steps(api: Api) -> list[int]:
    """Those that have samples."""
    return [item["step"] for item in (await samples(api, limit=50))["items"]]


async def test_what_was_sent_comes_back(api: Api) -> None:
    uid = await created(api)
    wrong = LoggedSample(prompt=7, sibling=1, prompt_text="2 + 2 =", answer_text="<b>5\x1b[2J", tokens=3)
    await sent(api, batch(uid, [sampled(3, shown(7), wrong), row(4)]))
    right = shown(7).to_json()
    assert await samples(api) == {
        "runUid": uid,
        "items": [
            {
                "step": 3,
                "generation": "1.1",
                "samples": [
                    right,
                    {
                        **right,
                        "sibling": 1,
                        "answerText": "<b>5␛[2J",
                        "tokens": 3,
                        "end": None,
                        "rewards": {},
                        "reward": None,
                        "advantage": None,
                    },
                ],
            }
        ],
        "nextCursor": None,
    }
    assert (await history(api))["step"] == [3, 4]


async def test_numbers_that_are_none_come_back_as_far_as_a_database_has_them(api: Api) -> None:
    uid = await created(api)
    rewards = {"huge": 1e308, "none": float("nan"), "endless": float("-inf")}
    odd = shown(1).model_copy(update={"rewards": rewards, "reward": float("inf"), "advantage": float("nan")})
    await sent(api, batch(uid, [sampled(1, odd)]))
    [sample] = (await samples(api))["items"][0]["samples"]
    assert sample["rewards"] == {"huge": 1e308, "none": "NaN", "endless": "-Infinity"}
    assert (sample["reward"], sample["advantage"]) == ("Infinity", None)


async def test_the_newest_step_is_shown_and_the_others_page_by_page(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [sampled(step) if step % 2 else row(step) for step in range(1, 9)]))
    assert await answers(api) == [(7, "7 of 1")]
    found, cursor = [], None
    while found == [] or cursor is not None:
        page = await samples(api, limit=2, **({} if cursor is None else {"cursor": cursor}))
        found.append([item["step"] for item in page["items"]])
        cursor = page["nextCursor"]
    assert found == [[7, 5], [3, 1]]
    assert await answers(api, step=3) == [(3, "3 of 1")]
    assert await answers(api, step=4) == await answers(api, step=99) == await answers(api, cursor="0") == []


async def test_a_prompt_is_followed_through_the_run(api: Api) -> None:
    uid = await created(api)
    rows = [
        sampled(
            step, shown(step % 3, answer=f"a{step}"), shown(9, answer=f"b{step}"), shown(9, 1, f"c{step}")
        )
        for step in range(1, 7)
    ]
    await sent(api, batch(uid, rows))
    assert await answers(api, prompt=1, limit=50) == [(4, "a4"), (1, "a1")]
    assert await answers(api, prompt=9, step=5) == [(5, "b5"), (5, "c5")]
    page = await samples(api, prompt=9, limit=2)
    assert ([item["step"] for item in page["items"]], page["nextCursor"]) == ([6, 5], "5")
    assert await answers(api, prompt=8) == []


@pytest.mark.parametrize("together", [True, False], ids=["in-one-batch", "in-two"])
async def test_of_a_step_that_was_trained_again_those_of_the_weights_that_exist_are_shown(
    api: Api, together: bool
) -> None:
    uid = await created(api)
    old = [sampled(step) for step in range(1, 6)]
    new = [row(4, (1, 2)), sampled(5, generation=(1, 2))]  # it resumed from step 3, and step 4 showed none
    for part in [[*new, *old]] if together else [new, old, new]:  # the older ones come late, others twice
        await sent(api, batch(uid, part))
    assert await answers(api, limit=50) == [(5, "5 of 2"), (3, "3 of 1"), (2, "2 of 1"), (1, "1 of 1")]
    assert await answers(api, step=4) == []


async def test_what_is_stored_already_stays_and_what_was_missing_is_added(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [row(1), sampled(2)]))  # as a checkpoint carried them: the first without
    await sent(api, batch(uid, [sampled(1), sampled(2, shown(5, answer="other"))]))
    assert await answers(api, limit=50) == [(2, "2 of 1"), (1, "1 of 1")]


@pytest.mark.any_database
@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param("text", id="no-list"),
        pytest.param([{"prompt": 1}], id="no-texts"),
        pytest.param([shown(prompt).to_json() for prompt in range(9)], id="too-many"),
        pytest.param([{**shown(1).to_json(), "prompt": 2**70}], id="no-column-holds-it"),
    ],
)
async def test_samples_that_cannot_be_read_cost_no_row(api: Api, wrong: Any) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [{**row(1), "samples": wrong}, sampled(2)]))
    assert (await history(api))["step"] == [1, 2]
    assert await answers(api, limit=50) == [(2, "2 of 1")]


async def test_texts_are_cut_and_made_fit_whoever_sent_them(api: Api) -> None:
    uid = await created(api)
    raw = {**shown(1).to_json(), "answerText": "\u0000" + "x" * 10_000, "promptText": "\u202ehalf"}
    await sent(api, batch(uid, [{**row(1), "samples": [raw] * 8}, sampled(2, *[longest()] * 8)]))
    first = (await samples(api, step=1))["items"][0]["samples"][0]
    assert len(first["answerText"]) == 2000 and first["answerText"].startswith("␀xx")
    assert first["promptText"] == "\ufffdhalf"
    answer = await api.client.get(f"{GPT}/samples")
    assert len(answer.content) < 60_000 and answer.json()["items"][0]["step"] == 2


@pytest.mark.any_database
async def test_a_step_is_asked_for_or_a_page(api: Api) -> None:
    await created(api)
    answer = await api.client.get(f"{GPT}/samples", params={"step": 1, "cursor": "3"})
    assert answer.status_code == 422 and "cursor=3 must be absent with step=1" in answer.text


@pytest.mark.any_database
async def test_a_run_without_samples_has_none(api: Api) -> None:
    await sent(api, batch(await created(api), [row(1)]))
    assert (await samples(api))["items"] == []
    assert (await api.client.get(f"{GPT[:-3]}other/samples")).status_code == 404


async def rows(api: Api, uid: str, some: Iterable[int], generation: tuple[int, int] = (1, 1)) -> None:
    await sent(api, batch(uid, [sampled(step, generation=generation) for step in some]))


async def test_a_long_run_keeps_samples_of_some_steps_all_along(api: Api) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 2001, 2))
    await look(api, RetentionLimits())
    async with api.context.database.read() as session:
        found = list(await session.scalars(select(StepSample.step).order_by(StepSample.step)))
    assert found == [*range(3, 2000, 4)]
    assert len((await history(api))["step"]) == 1000  # no row goes for that
    await rows(api, uid, range(2001, 2011, 2))
    await look(api, RetentionLimits())
    assert (await steps(api))[:5] == [2009, 2007, 1999, 1991, 1983]


@pytest.mark.parametrize(
    ("days", "left"),
    [
        pytest.param(29, 100, id="whole"),
        pytest.param(31, 50, id="thinned"),
        pytest.param(366, 1, id="as-it-ended"),
    ],
)
async def test_of_a_run_that_ended_fewer_stay(api: Api, days: int, left: int) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 101))
    await ended(api, uid, days)
    await look(api, RetentionLimits())
    async with api.context.database.read() as session:
        found = list(await session.scalars(select(StepSample.step)))
    assert (len(found), max(found)) == (left, 100)


async def test_of_many_generations_what_was_given_up_goes_first(api: Api) -> None:
    uid = await created(api)
    for number in range(1, 14):  # each trains steps 1 to 40 again, and the last one from step 21 on
        await rows(api, uid, range(1 if number < 13 else 21, 41), (1, number))
    assert await count(api) == 500
    await look(api, RetentionLimits())
    assert await count(api) == 500  # as many as a run may keep
    await rows(api, uid, range(41, 43), (1, 13))
    await look(api, RetentionLimits())
    assert await count(api) == 42
    assert await steps(api) == [*range(42, 0, -1)]


async def test_what_is_thin_already_is_left_at_rest(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    uid = await created(api)
    await rows(api, uid, range(1, 5))
    await ended(api, uid, 366)
    caplog.set_level(logging.INFO)
    for _ in range(2):
        await look(api, RetentionLimits())
    assert [text for text in caplog.messages if "samples" in text] == ["samples of 1 runs were thinned"]
    assert await steps(api) == [4]


async def test_all_together_have_a_part_of_the_room(api: Api) -> None:
    uid = await created(api)
    await sent(api, batch(uid, [sampled(step, *truncate_samples([longest()] * 8)) for step in range(1, 201)]))
    await RetentionTask(api.context.database, lambda: NOW, RetentionLimits(), 1 << 30).enforce()
    assert await count(api) == 200
    await RetentionTask(api.context.database, lambda: NOW, RetentionLimits(), 1 << 24).enforce()  # 2 MB for 4
    assert await count(api) == 100


async def count(api: Api) -> int:
    async with api.context.database.read() as session:
        return await session.scalar(select(func.count()).where(StepSample.place == 0)) or 0


async def test_samples_go_with_the_generation_whose_rows_go_whichever_release_deletes_it(api: Api) -> None:
    uid = await created(api)
    for number in range(1, 4):
        await rows(api, uid, [number], (1, number))
    async with api.context.database.write() as session:
        oldest = (await retention_queries.list_segments(session, 0, 1))[0]
        await session.execute(delete(MetricSegment).where(MetricSegment.id == oldest.id))
    assert await answers(api, limit=50) == [(3, "3 of 3"), (2, "2 of 2")]
    assert await count(api) == 2
