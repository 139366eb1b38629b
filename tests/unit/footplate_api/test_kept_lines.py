"""Lines of a run that are kept from scrape to scrape: the text is what it would be without them."""

from __future__ import annotations

import math
import random
from dataclasses import fields, replace
from typing import Any

import pytest

from footplate_api.system.gauges import MEASURED, RUNS, Fingerprint, RunLines, RunSnapshot, format_run
from footplate_api.system.status_numbers import METHODS, RunTotals, StatusNumbers

# Equal values that are written alike and such as are not, and those that are not equal to themselves.
ODD = (None, 0, 0.0, -0.0, 1, 1.0, True, 2.5, math.nan, math.inf, -math.inf, 2**53 + 1, float(2**53), 1e-300)


def new(newest: tuple[float | None, ...] | None = None) -> RunSnapshot:
    return RunSnapshot(
        Fingerprint(1, None, (0, 0)), "research", "gpt", "Running", 5, 3.0, StatusNumbers(), newest
    )


def changed(run: RunSnapshot, chance: random.Random) -> RunSnapshot:
    """One thing of it is another, or is said anew."""
    odd = chance.choice(ODD)
    numbers, spent = run.numbers, run.numbers.spent
    what = chance.randrange(9)
    if what == 0:
        return run._replace(phase=chance.choice(("Running", "Restarting", 'of"another\\release', None)))
    if what == 1:
        return run._replace(step=chance.choice((5, 6, -0)), loss=odd)
    if what == 2:
        given_up = chance.randrange(2), chance.randrange(2)
        return run._replace(fingerprint=run.fingerprint._replace(given_up=given_up))
    if what == 3:
        single = [
            field.name for field in fields(StatusNumbers) if field.name not in ("spent", "last_failures")
        ]
        name = chance.choice(single)
        return run._replace(numbers=replace(numbers, **{name: odd}))
    if what == 4:
        joules = tuple(chance.choice((None, -0.0, 0.0, 1.0, 7.5)) for _ in METHODS)
        return run._replace(numbers=replace(numbers, spent=spent._replace(joules=joules)))
    if what == 5:
        some = {"dollars": chance.choice((None, 0.0, 1.0, 7.5)), "grams": chance.choice((None, 2.0, 9.0))}
        return run._replace(numbers=replace(numbers, spent=spent._replace(**some)))
    if what == 8:
        failures = chance.choice(((), (("Hang", 7.0),), (("Hang", 8.0), ("NodeLost", 7.0))))
        return run._replace(numbers=replace(numbers, last_failures=failures))
    row: list[Any] = list(run.newest or [None] * len(MEASURED))
    row[MEASURED.index("step")] = chance.choice((7, 8))
    for place in chance.sample(range(1, len(MEASURED)), what - 5):
        row[place] = odd
    return run._replace(newest=chance.choice((None, *[tuple(row)] * 9)))


@pytest.mark.parametrize("seed", range(20))
def test_after_any_changes_the_lines_are_those_that_are_written_afresh(seed: int) -> None:
    chance = random.Random(seed)
    run = new()
    kept: RunLines | None = None
    for _ in range(200):
        run = changed(run, chance)
        kept = format_run(run, kept)
        shown = run._replace(numbers=replace(run.numbers, spent=kept.spent))  # which may never become less
        assert kept.lines == format_run(shown).lines
        assert kept.fingerprint == run.fingerprint


def test_what_is_spent_never_becomes_less_whatever_is_kept() -> None:
    chance = random.Random(7)
    run, most, kept = new(), RunTotals(0.0, (0.0,) * len(METHODS), 0.0), None
    for _ in range(500):
        run = changed(run, chance)
        kept = format_run(run, kept)
        most = run.numbers.spent.least(most)
        assert kept.spent == most


def test_lines_whose_values_are_the_same_are_not_written_again() -> None:
    row = dict.fromkeys(MEASURED, 1.5) | {"step": 7, "loss": 2.5}
    first = format_run(new(tuple(row.values())))
    row = {name: float("1.5") for name in MEASURED} | {"step": 8, "loss": 2.25, "mfu_causal": 0.5}
    later = format_run(new(tuple(row.values())), first)
    again = {
        family.name
        for family, line, former in zip(RUNS, later.lines, first.lines, strict=True)
        if line is not former
    }
    assert again == {"footplate_run_step", "footplate_run_loss", "footplate_run_mfu_ratio"}
