"""Middleware that refuses requests without a valid token, before the router or anything else reads on."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from footplate_api.errors import Unauthenticated
from footplate_api.http.public_paths import OPEN, SCRAPED
from footplate_api.identity.authentication import Authentication

CALLER: Final = "footplate.caller"  # in the scope of a request


class AuthenticationMiddleware:
    """Middleware that stores the caller in the scope; `public` are further paths that need no token."""

    def __init__(self, app: ASGIApp, authentication: Authentication, public: Collection[str] = ()) -> None:
        self._app = app
        self._authentication = authentication
        self._open = OPEN | set(public)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            scraped = scope["path"] == SCRAPED
            scope[CALLER] = await self._authentication.authenticate(_header(scope), of_a_component=scraped)
        await self._app(scope, receive, send)

    def _is_open(self, path: str) -> bool:
        return path in self._open or (path.startswith("/docs/") and "/docs" in self._open)


def _header(scope: Scope) -> str | None:
    """Return the header Authorization; raises Unauthenticated for several, as none is the right one."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise Unauthenticated("The request has several Authorization headers: send one.")
    return found[0].decode("latin-1") if found else None
