"""What a run costs is what Kubernetes says of its pods, to the second and to the cent; all of it is seen."""

from __future__ import annotations

import time
import tomllib
from pathlib import Path
from typing import Final

import pytest

from demo import bill
from tests.support import seen
from tests.support.runs import Runs, changed, tiny

pytestmark = pytest.mark.system

EMPTY: Final = tomllib.loads(Path(__file__).with_name("empty.toml").read_text())
TABLE: Final = "seen.md"


def test_the_bill_of_a_run_with_a_restart_a_suspension_and_nodes_of_two_prices(
    runs: Runs, name: str, tmp_path: Path
) -> None:
    """kubectl, the API and the pods' own times agree; runs and what is idle are the cluster.

    A Prometheus watches meanwhile: no panel, variable or rule is empty but those of which it is said why.
    """
    endless = tiny(name, runs.namespace, steps=100_000, nodes=3, globalBatchSize=12)
    billed = changed(endless, "budget.dollars", bill.BUDGET)
    billed["metadata"]["labels"] = {"team": bill.TEAM}
    asked = seen.asked({"namespace": runs.namespace, "run": name})
    assert set(EMPTY) <= {question.where for question in asked}
    since = time.time()
    with seen.watched(runs.kube, tmp_path) as server:
        bill.play(runs.kube, runs.namespace, billed)
        answers = seen.answers(server, asked, since)
    (tmp_path / TABLE).write_text(seen.table(answers, EMPTY))
    assert [
        answer.question for answer in answers if answer.empty and answer.question.where not in EMPTY
    ] == []
