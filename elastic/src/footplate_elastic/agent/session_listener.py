"""Callbacks for changes that the coordinator sends to an agent."""

from __future__ import annotations

from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_elastic.protocol.unstored_rows import RowName


class SessionListener:
    """Callbacks from any thread; the defaults do nothing."""

    def changed(self) -> None:
        """Handle a change that concerns the main thread."""

    def commanded(self, command: Command) -> None:
        """Handle a new standing command."""

    def informed(self, limits: NumberedLimits) -> None:
        """Handle newer limits."""

    def diagnosed(self, diagnosis: Diagnosis) -> None:
        """Handle a diagnosis request to the ranks."""

    def leased(self, until: float | None) -> None:
        """Handle a lease: ranks may begin steps until then (CLOCK_MONOTONIC); None: without an end."""

    def stored(self, row: RowName) -> None:
        """Handle that this row of the history, and all that ranks sent before it, are stored."""
