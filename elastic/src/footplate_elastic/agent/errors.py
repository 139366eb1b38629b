"""Why an agent ends, as types.

AgentError
├── Unreachable      no answer from a coordinator that counts; always tried again
├── SlotTaken        a newer incarnation has this slot
├── RunOver          the run is finished or suspended
├── RanksRefused     the ranks cannot work here; a restart would not mend it
├── ZygoteFailed     the imports that all ranks share have raised an exception
└── ZygoteGone       the process that ranks are forked from ended without a word
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # the zygote starts before the contracts are imported
    from footplate_contracts.failures import FailureReport


SIGTERM_EXIT: Final = 143  # what a shell says of a process that SIGTERM ended


class AgentError(Exception):
    """The root."""


class Unreachable(AgentError):
    """No answer from the coordinator, or one from a coordinator that was replaced."""


class SlotTaken(AgentError):
    """A newer incarnation has this slot."""


class RunOver(AgentError):
    """The run has ended for all."""


class RanksRefused(AgentError):
    """A rank ended with the exit code for configuration, cannot be imported, or its device is broken."""

    def __init__(self, failure: FailureReport) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ZygoteFailed(AgentError):
    """The imports that all ranks share have raised an exception; the text is its traceback."""


class ZygoteGone(AgentError):
    """The zygote has ended and did not say why; `code` as of a process, negative for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        self.code = code


class Terminated(BaseException):
    """SIGTERM arrived: a BaseException, so that nothing on the way takes it for a failure."""
