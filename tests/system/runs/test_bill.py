"""What a run costs is what Kubernetes says of its pods, to the second and to the cent."""

from __future__ import annotations

import pytest

from demo import bill
from tests.support.runs import Runs, changed, tiny

pytestmark = pytest.mark.system


def test_the_bill_of_a_run_with_a_restart_a_suspension_and_nodes_of_two_prices(runs: Runs, name: str) -> None:
    """kubectl, the API and the pods' own times agree; runs and what is idle are the cluster."""
    endless = tiny(name, runs.namespace, steps=100_000, nodes=3, globalBatchSize=12)
    billed = changed(endless, "budget.dollars", bill.BUDGET)
    billed["metadata"]["labels"] = {"team": bill.TEAM}
    bill.play(runs.kube, runs.namespace, billed)
