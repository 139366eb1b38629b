"""What an alert is, and how it is written; pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from textwrap import dedent
from typing import Any, Final

from tools.monitoring.rules.scope import scoped

RUNBOOKS: Final = "docs/operations/alerts.md"  # the chart may say where else that page is read


class Severity(StrEnum):
    """How soon somebody has to look."""

    CRITICAL = "critical"  # now, at night as well
    WARNING = "warning"  # today
    INFO = "info"  # when it suits


@dataclass(frozen=True)
class Alert:
    """One, with what it tells: `summary` in a line, `description` with what was seen.

    Both are templates of Prometheus: `{{ $labels.name }}` there is a label of what `expression` leaves. That
    has no `instance` where it is of runs: after each change of the replica that exports them it is another
    one, and an alert that was pending would begin anew.
    """

    name: str
    expression: str
    lasting: str  # for so long before it is told, as 5m
    severity: Severity
    summary: str
    description: str

    @property
    def runbook(self) -> str:
        """The section of the page that says what to do, by the anchor of its heading."""
        return f"{RUNBOOKS}#{self.name.lower()}"

    def rule(self) -> dict[str, Any]:
        """As Prometheus reads it."""
        return {
            "alert": self.name,
            "expr": scoped(dedent(self.expression).strip()),
            "for": self.lasting,
            "labels": {"severity": self.severity.value},
            "annotations": {
                "summary": self.summary,
                "description": self.description,
                "runbook_url": self.runbook,
            },
        }
