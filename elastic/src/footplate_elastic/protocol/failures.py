"""Which of two failures explains the other."""

from __future__ import annotations

from footplate_contracts.names import Cause
from footplate_contracts.reports import FailureReport


def is_collateral(failure: FailureReport) -> bool:
    """Whether `failure` is most likely the echo of another one.

    A rank that was killed by a signal (negative exit code) has lost more than
    its connection.
    """
    return failure.cause is Cause.COMMUNICATION and (failure.exit_code is None or failure.exit_code >= 0)
