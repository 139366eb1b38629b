"""What a run costs is what Kubernetes says of its pods, to the second and to the cent; all of it is seen."""

from __future__ import annotations

import os
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
WHERE: Final = "FOOTPLATE_SEEN"  # the folder for the table and the pictures; `make seen` names docs/seen
PAGE: Final = """# What was seen of one run

A Prometheus watched the development cluster while a run was restarted, suspended, resumed and stopped by
its budget, as `make bill` plays it. Written by `make seen`; edited by nobody. The pictures are the
dashboards as their own JSON says, drawn without Grafana.

[Fleet](fleet.svg) · [Run](run.svg) · [Cost and carbon](costs.svg) · [Control plane](control-plane.svg)

"""


def test_the_bill_of_a_run_with_a_restart_a_suspension_and_nodes_of_two_prices(
    runs: Runs, name: str, tmp_path: Path
) -> None:
    """kubectl, the API and the pods' own times agree; runs and what is idle are the cluster.

    A Prometheus watches meanwhile: no panel, variable or rule is empty but those of which it is said why.
    """
    endless = tiny(name, runs.namespace, steps=100_000, nodes=3, globalBatchSize=12)
    billed = changed(endless, "budget.dollars", bill.BUDGET)
    billed["metadata"]["labels"] = {"team": bill.TEAM}
    chosen = {"namespace": runs.namespace, "run": name}
    asked = seen.asked(chosen)
    folder = Path(os.environ.get(WHERE) or tmp_path)
    assert set(EMPTY) <= {question.where for question in asked}
    since = time.time()
    with seen.watched(runs.kube, tmp_path) as server:
        bill.play(runs.kube, runs.namespace, billed)
        grown = f'changes(footplate_cost_dollars_total{{namespace="{runs.namespace}"}}[1h]) > 0'
        server.wait(grown)  # a rate is of two counts
        answers = seen.answers(server, asked, since)
        seen.draw(server, chosen, since, folder)
    (folder / "README.md").write_text(PAGE + seen.table(answers, EMPTY))
    assert [
        answer.question for answer in answers if answer.empty and answer.question.where not in EMPTY
    ] == []
