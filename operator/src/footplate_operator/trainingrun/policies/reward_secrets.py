"""Checks that reward functions' Secret variables are in `trainer.env`, before any pod is created.

CEL sees neither what stands within valueFrom, nor so many names at once.
"""

from __future__ import annotations

from footplate_contracts.v1alpha1.reward import secret_names
from footplate_operator.trainingrun.run import Run


def refusal(run: Run) -> str:
    """Return the first variable that `trainer.env` takes from no Secret, with the remedy; empty for none."""
    known = {variable.name: variable for variable in run.spec.trainer.env}
    for name in secret_names(run.spec.reward.functions if run.spec.reward is not None else None):
        variable = known.get(name)
        if variable is None or "secretKeyRef" not in (variable.value_from or {}):
            there = "is missing" if variable is None else "comes from no Secret"
            return (
                f"reward.functions: a function needs {name} from a Secret, but in trainer.env it {there};"
                f" set valueFrom.secretKeyRef of trainer.env {name}, or remove it from secrets"
            )
    return ""
