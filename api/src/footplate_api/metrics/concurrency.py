"""Concurrency limit of history requests: a long one takes memory and a thread."""

from __future__ import annotations

from typing import Final

from footplate_api.errors import HistoriesBusy
from footplate_api.http.concurrency_limit import ConcurrencyLimit

AT_ONCE: Final = 2  # the longest takes 80 MB
WAITING: Final = 128  # a page of a dashboard asks for dozens, of milliseconds each
OF_ONE_CALLER: Final = 48  # of these
SECONDS: Final = 20.0  # that one waits for its turn


def history_limit() -> ConcurrencyLimit:
    """Return the process's concurrency limit; refused requests raise HistoriesBusy."""
    return ConcurrencyLimit(AT_ONCE, WAITING, SECONDS, _refusal, OF_ONE_CALLER)


def _refusal(waiting: int | None) -> HistoriesBusy:
    if waiting is None:
        return HistoriesBusy("Others take long to be told their histories; ask for this one again later.")
    return HistoriesBusy(f"{waiting} questions for histories wait already; ask this one again later.")
