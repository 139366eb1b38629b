"""When a run counts as held in its phase."""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, repeat
from typing import cast

from footplate_contracts.coordinator_state import Progress
from footplate_contracts.reports import RankPhase
from tests.support.matrix import FAULTS, Phase
from tests.system.faults.ground import Ground
from tests.system.faults.stand import Stand, stands_still

STAND = Stand(cast(Ground, None), FAULTS["SIGTERM storm"], Phase.SCORING, "held")


def scoring(finished: int) -> Progress:
    return Progress(step=2, phase=RankPhase.SCORING, finished=finished)


def looks(*seen: Progress | None) -> Callable[[], Progress | None]:
    """As they are seen, the last one for ever."""
    answers = chain(seen, repeat(seen[-1]))
    return lambda: next(answers)


def test_a_look_that_nobody_answers_says_nothing_of_the_run() -> None:
    assert stands_still(STAND, looks(None, scoring(16), None, None, scoring(16)))


def test_who_goes_on_to_its_step_was_held_too_late() -> None:
    assert not stands_still(STAND, looks(scoring(16), None, Progress(step=2)))
