"""How long a run trains and how often it saves, where that changes while it trains.

What the spec asks for reaches the ranks through their agents, and they change all
after the same step (see stages/course.py). A length that lies in the past is
refused, since an end cannot be taken back; whatever else was asked for holds.
"""

from __future__ import annotations

from footplate_contracts.reports import Terms, TermsCommand


def refusal(asked: TermsCommand, reached: int) -> str:
    """Why a run at step `reached` cannot have the length that is asked for; empty where it can."""
    if asked.steps >= reached:
        return ""
    return (
        f"a training of {asked.steps} steps would end before step {reached}, which is trained already; "
        "what was asked for before holds; raise training.steps or training.tokens"
    )


def too_late(asked: TermsCommand, last: int) -> str:
    """Why a run that has ended with step `last` cannot go on; empty where it need not."""
    if asked.steps == last:
        return ""
    return f"the run has ended with step {last}, before it was asked for {asked.steps} steps"


def renewed(before: Terms | None, asked: TermsCommand, steps: int, epoch: int) -> Terms:
    """What ranks are told when `asked` holds for a run of `steps`: `before`, where nothing has changed."""
    number = before.number if before else 0
    wanted = {**asked.model_dump(), "steps": steps}
    if before is not None and before.model_dump(include=set(TermsCommand.model_fields)) == wanted:
        return before
    return Terms(**wanted, epoch=epoch, number=number + 1)
