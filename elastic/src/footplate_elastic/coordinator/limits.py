"""Limits of a run, its length and checkpoint interval, which may change while it trains.

What the spec wants reaches the ranks through their agents, and they change all after the same step (see
loop/limits.py). A length that lies in the past is refused, since an end cannot be reverted; the other wanted
limits hold.
"""

from __future__ import annotations

from footplate_contracts.directives import Limits, NumberedLimits


def find_length_refusal(asked: Limits, reached: int) -> str:
    """Return why a run at step `reached` cannot have the requested length; empty where it can."""
    if asked.steps >= reached:
        return ""
    return (
        f"a training of {asked.steps} steps would end before step {reached}, which is already trained; "
        "the previous limit holds; raise training.steps or training.tokens"
    )


def find_late_refusal(asked: Limits, last: int) -> str:
    """Return why a run that has ended with step `last` cannot go on; empty where it need not."""
    if asked.steps == last:
        return ""
    return f"the run ended with step {last}, before the request for {asked.steps} steps arrived"


def renew_limits(before: NumberedLimits | None, asked: Limits, steps: int, epoch: int) -> NumberedLimits:
    """Return the ranks' limits for `asked` and `steps`; `before`, where nothing has changed."""
    held = {**asked.model_dump(), "steps": steps}
    if before is not None and before.model_dump(exclude={"epoch", "number"}) == held:
        return before
    return NumberedLimits(**held, epoch=epoch, number=before.number + 1 if before else 1)
