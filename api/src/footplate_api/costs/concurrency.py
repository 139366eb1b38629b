"""Concurrency limit of cost requests: each takes a connection, memory and a thread for seconds."""

from __future__ import annotations

from typing import Final

from footplate_api.errors import CostsBusy
from footplate_api.http.concurrency_limit import ConcurrencyLimit

AT_ONCE: Final = 2
WAITING: Final = 16
OF_ONE_CALLER: Final = 2  # of these
SECONDS: Final = 20.0  # that one waits for its turn


def cost_limit() -> ConcurrencyLimit:
    """Return the process's concurrency limit; refused requests raise CostsBusy."""
    return ConcurrencyLimit(AT_ONCE, WAITING, SECONDS, _refusal, OF_ONE_CALLER)


def _refusal(waiting: int | None) -> CostsBusy:
    if waiting is None:
        return CostsBusy("Others take long to be told their costs; ask this again later.")
    return CostsBusy(f"{waiting} questions about costs wait already; ask this one again later.")
