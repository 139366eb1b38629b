"""The page of failures tells the budgets that the policy has."""

from __future__ import annotations

from pathlib import Path

from footplate_contracts.names import Cause
from footplate_operator.trainingrun.policies.failure import DEFAULT_BUDGETS, FRUITLESS_RESTARTS

PAGE = (Path(__file__).parents[3] / "docs/failures.md").read_text()


def test_each_cause_that_there_is_has_its_budget_on_the_page() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {cause.strip(" `"): budget.split()[0].strip(",") for cause, _, budget in rows}
    # Stragglers are not found yet.
    causes = set(Cause) - {Cause.STRAGGLER_SUSPECTED}
    assert told == {
        cause: "none" if DEFAULT_BUDGETS[cause] is None else str(DEFAULT_BUDGETS[cause]) for cause in causes
    }


def test_the_page_says_how_many_restarts_are_too_many() -> None:
    assert FRUITLESS_RESTARTS == 3 and "three restarts in a row" in PAGE
