"""What the operator says of a run says of which, and of which generation."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from footplate_contracts.logs import formatter
from footplate_contracts.names import LogFormat
from footplate_operator.errors import RequestForbidden
from footplate_operator.runtime.kinds import POD, Json
from tests.support.operator_world import World, running


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(formatter(LogFormat.JSON))
        self.lines: list[Json] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@contextmanager
def _logged() -> Iterator[list[Json]]:
    kept, logger = _Kept(), logging.getLogger("footplate_operator")
    level = logger.level
    logger.addHandler(kept)
    logger.setLevel(logging.INFO)
    yield kept.lines
    logger.removeHandler(kept)
    logger.setLevel(level)


async def test_lines_about_a_run_name_it_and_its_generation() -> None:
    world = World()
    with _logged() as lines:
        uid = world.submit()
        await world.live(30, until=lambda: world.phase == "Running")
    assert lines and {(line["run"], line["uid"]) for line in lines} == {("default/tiny", uid)}
    world = await running()
    with _logged() as lines:
        world.cluster.bury(POD, "tiny-w1-0")
        await world.live(5, until=lambda: "tiny-w1-1" in world.workers("Running"))
    assert {line["message"] for line in lines} >= {"created", "phase"}
    assert {line["generation"] for line in lines} == {"1.1"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RequestForbidden("exceeded quota: gpus", 403, "Forbidden"), "retrying later"),
        (KeyError("x"), "failed"),
    ],
    ids=["refused", "a-mistake"],
)
async def test_what_went_wrong_names_the_run_and_its_generation(error: Exception, said: str) -> None:
    world = await running()
    uid = world.run["metadata"]["uid"]
    world.cluster.refuse["create", POD] = error
    with _logged() as lines, suppress(type(error)):
        world.cluster.bury(POD, "tiny-w1-0")
        await world.live(10)
    wrong = [line for line in lines if line["message"] == said]
    assert wrong and {(line["run"], line["uid"], line["generation"]) for line in wrong} == {
        ("default/tiny", uid, "1.1")
    }
