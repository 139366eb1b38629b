"""What an agent hears from the coordinator, for whoever has to do with it."""

from __future__ import annotations

from footplate_contracts.diagnosis import Diagnosis
from footplate_contracts.directives import Command, NumberedLimits
from footplate_elastic.protocol.unstored_rows import RowName


class SessionListener:
    """Hears what the coordinator tells, from any thread; does nothing with it unless it is overridden."""

    def changed(self) -> None:
        """There is something that the main thread should look at."""

    def commanded(self, command: Command) -> None:
        """The standing command is another one."""

    def informed(self, limits: NumberedLimits) -> None:
        """Newer limits hold."""

    def diagnosed(self, diagnosis: Diagnosis) -> None:
        """Ranks are asked a question."""

    def leased(self, until: float | None) -> None:
        """Ranks may begin steps until then (CLOCK_MONOTONIC); None: for as long as they run."""

    def stored(self, row: RowName) -> None:
        """This row of the history is stored, and all that ranks gave before it."""
