"""Periodic checks while a replica leads: trouble is logged once and retried."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.logs import log_fields

LOOK_SECONDS: Final = 30.0
BEGIN_SECONDS: Final = 3.0  # well within the life of a Lease
FIRST_RETRY_SECONDS: Final = 0.5  # somebody waits for it
Look = Callable[[], Awaitable[None]]
Sleep = Callable[[float], Awaitable[None]]
_log = logging.getLogger(__name__)


async def try_once(look: Look, troubles: tuple[type[Exception], ...]) -> None:
    """Call `look` once at the start; `run_periodically` logs any of `troubles` later."""
    with suppress(*troubles, TimeoutError):
        async with asyncio.timeout(BEGIN_SECONDS):
            await look()


async def run_periodically(
    look: Look,
    troubles: tuple[type[Exception], ...],
    what: str,
    usual: Callable[[], float] = lambda: LOOK_SECONDS,
    sleep: Sleep = asyncio.sleep,
) -> None:
    """Call `look` forever, every `usual` seconds; logs name `what` where it raises one of `troubles`."""
    failures = 0
    while True:
        try:
            await look()
            if failures:
                _log.info(f"{what} can be maintained again")
            failures = 0
        except troubles as error:
            if not failures:
                _log.warning(f"{what} cannot be maintained", extra=log_fields(error=error))
            failures += 1
        retry = backoff_seconds(failures, first=FIRST_RETRY_SECONDS, longest=LOOK_SECONDS, factor=2.0)
        await sleep(retry if failures else usual())
