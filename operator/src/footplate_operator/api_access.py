"""Access to the API: URL, CA bundle and token.

The CA bundle and the token change while a process lives, so each request reads them anew.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from footplate_operator.errors import ApiUnreachable


def _nobody_of_ours() -> str | None:
    return None


@dataclass(eq=False)
class ApiAccess:
    """Access of an operator to the API; an empty `url` means no API."""

    url: str = ""
    token_file: Path | None = None  # the kubelet writes a new token well before the old one ends
    # Certificates in PEM that vouch for the API, empty while they are not known; None: those of the system.
    bundle: Callable[[], str | None] = _nobody_of_ours
    _context: tuple[str | None, ssl.SSLContext] | None = field(default=None, init=False, repr=False)

    @property
    def verified(self) -> bool:
        """True if the API proves its identity."""
        return self.url.startswith("https://")

    def context(self) -> ssl.SSLContext | bool:
        """Return the TLS context for requests; raises ApiUnreachable while no CA bundle is known."""
        if not self.verified:
            return True
        bundle = self.bundle()
        if bundle == "":
            raise ApiUnreachable("its CA certificate is not known yet")
        if self._context is None or self._context[0] != bundle:
            self._context = bundle, ssl.create_default_context(cadata=bundle)
        return self._context[1]

    def headers(self) -> dict[str, str]:
        """Return the next request's headers: only an API that proves its identity gets the token."""
        token = self.token()
        return {"Authorization": f"Bearer {token}"} if token and self.verified else {}

    def token(self) -> str:
        """Return the file's token as it is now; empty without one."""
        try:
            return self.token_file.read_text().strip() if self.token_file is not None else ""
        except OSError:
            return ""
