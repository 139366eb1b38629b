"""`spec.budget`: limits of a run's cost, and the action once one is spent."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import Rule, required_rule
from footplate_contracts.v1alpha1.types import ApiModel

Allowed = Annotated[float, Field(ge=0.0, le=1e12)]


class OnExceeded(StrEnum):
    """Action on a run that has spent its budget."""

    SUSPEND = "Suspend"
    WARN = "Warn"


class Budget(ApiModel):
    """Limits of a run's cost: the first one spent counts; an absent amount is not limited."""

    dollars: Allowed | None = Field(None, description="limit of status.cost.dollars")
    carbon_kilograms: Allowed | None = Field(
        None, description="limit of status.cost.carbonKilograms, CO2 equivalent"
    )
    on_exceeded: OnExceeded = Field(
        OnExceeded.SUSPEND,
        description="Suspend: save a checkpoint and release all pods until the budget is raised; Warn: only"
        " set a condition and emit an Event",
    )

    rules: ClassVar = (
        required_rule(
            "has(self.dollars) || has(self.carbonKilograms)",
            "a budget limits dollars or carbonKilograms; set one of them",
            field="dollars",
        ),
        *(
            Rule(
                f"!has(self.{amount}) || self.{amount} > 0.0",
                f"{amount} must be above 0, not {{self.{amount}}}",
                field=amount,
            )
            for amount in ("dollars", "carbonKilograms")
        ),
    )


def _not_below_what_is_spent(amount: str) -> Rule:
    """Return the rule that a changed budget does not lie below the amount spent.

    Spending passes an unchanged budget by itself, and the status must still be able to report it.
    """
    budget, spent = f"self.spec.budget.{amount}", f"self.status.cost.{amount}"
    stated = f"has(self.spec.budget) && has({budget})"
    before = f"oldSelf.spec.budget.{amount}"
    same = f"(has(oldSelf.spec.budget) && has({before}) && {before} == {budget})"
    unknown = f"!has(self.status) || !has(self.status.cost) || !has({spent})"
    return Rule(
        f"!({stated}) || {same} || {unknown} || {budget} >= {spent}",
        f"budget.{amount} {{{budget}}} is below the amount spent, {{{spent}}}; raise it, or remove it",
        field=f"spec.budget.{amount}",
    )


BUDGET_RULES: Final = tuple(map(_not_below_what_is_spent, ("dollars", "carbonKilograms")))
