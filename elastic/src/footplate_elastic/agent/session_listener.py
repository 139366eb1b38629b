"""Callbacks for changes that the coordinator sends to an agent."""

from __future__ import annotations

from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_elastic.protocol.unstored_rows import RowKey


class SessionListener:
    """Callbacks from any thread; the defaults do nothing."""

    def on_change(self) -> None:
        """Handle a change that concerns the main thread."""

    def on_command(self, command: Command) -> None:
        """Handle a new standing command."""

    def on_limits(self, limits: NumberedLimits) -> None:
        """Handle newer limits."""

    def on_diagnosis(self, diagnosis: Diagnosis) -> None:
        """Handle a diagnosis request to the ranks."""

    def on_lease(self, until: float | None) -> None:
        """Handle a lease: ranks may begin steps until then (CLOCK_MONOTONIC); None: without an end."""

    def on_row_stored(self, row: RowKey) -> None:
        """Handle that this row of the history, and all that ranks sent before it, are stored."""
