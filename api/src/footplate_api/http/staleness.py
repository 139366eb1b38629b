"""Header for responses that may be stale: without Kubernetes the API misses changes there.

Histories come from coordinators and are no older for it; that a run was deleted, suspended or finished may
be. One header covers all responses, so that clients need not know which response depends on Kubernetes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from footplate_api.instruments import OF_COSTS, RUNS, MirrorHealth
from footplate_api.kubernetes.namespace_scope import NamespaceScope

HEADER: Final = "Footplate-Stale-Since"
_READ: Final = ("GET", "HEAD")
_OF_RUNS: Final = "/v1/"
_NAMESPACED: Final = re.compile(r"/v1/namespaces/([^/]+)/")
_COSTS: Final = re.compile(r"/v1/(costs|prices|profiles(/[^/]*)?|namespaces/[^/]*/runs/[^/]*/cost)")


class Staleness:
    """ASGI middleware that adds the header to GET and HEAD responses under /v1/."""

    def __init__(
        self, app: ASGIApp, mirror: MirrorHealth, served: NamespaceScope, now: Callable[[], datetime]
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
        return self._mirror.stale_since(self._now(), kinds(path))


def kinds(path: str) -> Collection[str]:
    """Return the Kubernetes kinds that the response to a path depends on.

    >>> kinds("/v1/namespaces/team-a/runs/gpt/metrics")
    ('TrainingRuns',)
    >>> len(kinds("/v1/costs"))
    5
    """
    return (RUNS, *sorted(OF_COSTS)) if _COSTS.fullmatch(path) else (RUNS,)
