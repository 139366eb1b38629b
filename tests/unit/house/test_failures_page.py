"""The page of failures states the restart limits that the policy has."""

from __future__ import annotations

from pathlib import Path

from footplate_contracts.names import Cause
from footplate_operator.trainingrun.policies.failure import DEFAULT_RESTART_LIMITS, FRUITLESS_RESTARTS

PAGE = (Path(__file__).parents[3] / "docs/failures.md").read_text()


def test_each_cause_that_there_is_has_its_limit_on_the_page() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.splitlines() if line.startswith("| `")]
    told = {cause.strip(" `"): limit.split()[0].strip(",") for cause, _, limit in rows}
    # Stragglers are not found yet.
    causes = set(Cause) - {Cause.STRAGGLER_SUSPECTED}
    assert told == {
        cause: "none" if DEFAULT_RESTART_LIMITS[cause] is None else str(DEFAULT_RESTART_LIMITS[cause])
        for cause in causes
    }


def test_the_page_says_how_many_restarts_are_too_many() -> None:
    assert FRUITLESS_RESTARTS == 3 and "three restarts in a row" in PAGE
