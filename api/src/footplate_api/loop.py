"""The event loop: uvloop's, which is told how long it waits for peers at both ends of a TLS connection.

Its own patience is a minute for a handshake and half a minute for a goodbye, and the server offers no way to
say less. A client that keeps an idle connection and does not look at it, as many do, would hold up the end
of the process for as long.
"""

from __future__ import annotations

from typing import Any, Final

import uvloop

HANDSHAKE_SECONDS: Final = 15.0
GOODBYE_SECONDS: Final = 1.0


class Loop(uvloop.Loop):
    """A loop whose servers wait so long."""

    async def create_server(self, *arguments: Any, **named: Any) -> Any:
        """As uvloop's, with our patience where there is TLS."""
        if named.get("ssl") is not None:
            named = {
                "ssl_handshake_timeout": HANDSHAKE_SECONDS,
                "ssl_shutdown_timeout": GOODBYE_SECONDS,
                **named,
            }
        return await super().create_server(*arguments, **named)
