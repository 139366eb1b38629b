"""The way to the API: where it is, who vouches for it, and what it is shown.

Both who vouches and the token change while a process lives, so each request asks for them anew.
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
    """Of an operator; an empty `url` is no API."""

    url: str = ""
    token_file: Path | None = None  # the kubelet writes a new token well before the old one ends
    # Certificates in PEM that vouch for the API, empty while they are not known; None: those of the system.
    bundle: Callable[[], str | None] = _nobody_of_ours
    _context: tuple[str | None, ssl.SSLContext] | None = field(default=None, init=False, repr=False)

    @property
    def verified(self) -> bool:
        """Whether the API proves who it is."""
        return self.url.startswith("https://")

    def context(self) -> ssl.SSLContext | bool:
        """With which it is asked; raises ApiUnreachable while nobody is known who vouches for it."""
        if not self.verified:
            return True
        bundle = self.bundle()
        if bundle == "":
            raise ApiUnreachable("it is not known yet who vouches for its certificate")
        if self._context is None or self._context[0] != bundle:
            self._context = bundle, ssl.create_default_context(cadata=bundle)
        return self._context[1]

    def headers(self) -> dict[str, str]:
        """Of the next request: the token goes only to an API that proves who it is."""
        token = self.token()
        return {"Authorization": f"Bearer {token}"} if token and self.verified else {}

    def token(self) -> str:
        """That of the file as it is now; empty without one."""
        try:
            return self.token_file.read_text().strip() if self.token_file is not None else ""
        except OSError:
            return ""
