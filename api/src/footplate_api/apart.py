"""Work in a thread with an event loop of its own, so that none of it stops this one.

A migration may compute for minutes between two statements; probes are to be answered
meanwhile, or Kubernetes ends the process in the middle of it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Final

LEAVE_SECONDS: Final = 5.0  # for work that was cancelled to end; then the thread is left to the process's end


async def apart(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Do `work` to its end, and raise what it raises; it is cancelled when this is."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="apart", daemon=True)
    thread.start()
    doing = asyncio.run_coroutine_threadsafe(work(), loop)
    try:
        await asyncio.wrap_future(doing)
    finally:
        await asyncio.to_thread(_end, loop, thread)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    with suppress(TimeoutError):
        asyncio.run_coroutine_threadsafe(_settled(), loop).result(LEAVE_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _settled() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others)
