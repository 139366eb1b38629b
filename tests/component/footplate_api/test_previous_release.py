"""An API and an operator of two releases: what either writes, the other reads."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest
from tools.released import GOLDEN

from footplate_api.db.database import Database
from footplate_api.runs import service
from footplate_contracts.names import Phase
from footplate_contracts.recorded_run import RecordedRun
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.mirrors import mirror
from tests.support.contracts import extended
from tests.support.released.tree import previous_tree, said_by

pytestmark = pytest.mark.any_database
READ: Final = """
import json, sys
from footplate_contracts.recorded_run import RecordedRun
for line in sys.stdin:
    known = RecordedRun.model_validate_json(line)
    print(json.dumps([known.uid, known.phase]))
"""


def statuses() -> dict[str, dict[str, Any]]:
    """Of each story, what the operator of the previous release wrote last."""
    found = {}
    for path in sorted(GOLDEN.glob("*.json")):
        objects = json.loads(path.read_text())["objects"]
        runs = [body for body in objects if body["kind"] == "TrainingRun" and body.get("status")]
        if runs:
            found[path.stem[:63]] = runs[0]
    assert len(found) >= 20
    return found


async def shown(database: Database, runs: dict[str, dict[str, Any]]) -> dict[str, str]:
    """What the API answers about each of `runs`, as JSON, once it has seen them."""
    kubernetes = FakeCluster()
    for name, run in runs.items():
        await kubernetes.put("default", name, run["spec"], run["status"])
    await mirror(database, kubernetes).list()
    async with database.read() as session:
        details = {
            name: await service.detail(session, "default", name, None, former_namespaces=False)
            for name in runs
        }
    return {name: detail.model_dump_json(by_alias=True) for name, detail in details.items()}


async def test_what_the_operator_of_the_previous_release_wrote_is_shown(database: Database) -> None:
    runs = statuses()
    answers = {name: json.loads(text) for name, text in (await shown(database, runs)).items()}
    for name, answer in answers.items():
        status = runs[name]["status"]
        assert answer["phase"] == status["phase"], name
        assert answer["status"].get("attempts") == status.get("attempts"), name


async def test_what_an_operator_of_a_newer_release_says_more_hides_no_run(database: Database) -> None:
    runs = statuses()
    for run in runs.values():
        run["status"] = extended(TrainingRunStatus, run["status"], enums=True)
    answers = await shown(database, runs)
    assert set(answers) == set(runs)


async def test_operators_of_both_releases_read_in_the_answer_whether_the_end_of_a_run_is_known(
    database: Database,
) -> None:
    answers = await shown(database, statuses())
    here = [RecordedRun.model_validate_json(text) for text in answers.values()]
    there = said_by(previous_tree(), READ, "\n".join(answers.values()))
    assert [json.loads(line) for line in there.splitlines()] == [[known.uid, known.phase] for known in here]
    assert {Phase.SUCCEEDED, Phase.FAILED} <= {known.phase for known in here}
