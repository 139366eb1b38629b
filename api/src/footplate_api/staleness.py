"""Says of what is read that it may be old: while Kubernetes is away, what changes there is not known here.

Histories come from coordinators and are no older for it; that a run was deleted, suspended or finished
may be. A header says it for all of them, so that nobody has to know which answer rests on what.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from footplate_api.observation import OF_COSTS, RUNS, MirrorHealth
from footplate_api.served import Served

HEADER: Final = "Footplate-Stale-Since"
_READ: Final = ("GET", "HEAD")
_OF_RUNS: Final = "/v1/"
_NAMESPACED: Final = re.compile(r"/v1/namespaces/([^/]+)/")
_COSTS: Final = re.compile(r"/v1/(costs|prices|profiles(/[^/]*)?|namespaces/[^/]*/runs/[^/]*/cost)")


class Staleness:
    """The layer that adds the header to what is read of runs."""

    def __init__(
        self, app: ASGIApp, mirror: MirrorHealth, served: Served, now: Callable[[], datetime]
    ) -> None:
        self._app = app
        self._mirror = mirror
        self._served = served
        self._now = now

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reads = scope["type"] == "http" and scope["method"] in _READ and scope["path"].startswith(_OF_RUNS)
        since = self._since(scope["path"]) if reads else None

        async def saying(message: Message) -> None:
            if since is not None and message["type"] == "http.response.start":
                MutableHeaders(scope=message)[HEADER] = since
            await send(message)

        await self._app(scope, receive, saying)

    def _since(self, path: str) -> str | None:
        namespaced = _NAMESPACED.match(path)
        if namespaced is not None and namespaced[1] not in self._served:
            return "unknown"  # nobody follows the runs there any more
        return self._mirror.stale(self._now(), kinds(path))


def kinds(path: str) -> Collection[str]:
    """Which kinds of Kubernetes the answer to a path rests on.

    >>> kinds("/v1/namespaces/team-a/runs/gpt/metrics")
    ('TrainingRuns',)
    >>> len(kinds("/v1/costs"))
    5
    """
    return (RUNS, *sorted(OF_COSTS)) if _COSTS.fullmatch(path) else (RUNS,)
