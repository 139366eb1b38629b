"""Reasons for which an agent ends, as exception types.

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
    """Base class of the agent's errors."""


class Unreachable(AgentError):
    """No answer from the coordinator, or an answer from a replaced one."""


class SlotTaken(AgentError):
    """A newer incarnation in this slot."""


class RunOver(AgentError):
    """The end of the run, for all agents."""


class RanksRefused(AgentError):
    """Ranks with the exit code for configuration, without a working import, or with a broken device."""

    def __init__(self, failure: FailureReport) -> None:
        super().__init__(failure.message)
        self.failure = failure


class ZygoteFailed(AgentError):
    """An exception in the imports that all ranks share; the text is its traceback."""


class ZygoteGone(AgentError):
    """An end of the zygote without a reason; `code` as in subprocess, negative for a signal."""

    def __init__(self, code: int) -> None:
        super().__init__(f"killed by signal {-code}" if code < 0 else f"exit code {code}")
        self.code = code


class Terminated(BaseException):
    """Arrival of SIGTERM; a BaseException, so that no handler on the way mistakes it for a failure."""
