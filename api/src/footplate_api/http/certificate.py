"""TLS certificate of the API, reloaded when its files change.

A renewal writes both files; the kubelet does so by one rename. New connections get the new certificate, and
open ones stay: no request notices. `refresh` loads exactly the bytes that it has tried before: a live context
with a new certificate and a key that it refused could serve no connection.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LOOK_SECONDS: Final = 10.0  # the kubelet takes up to a minute and more itself
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Files:
    """Paths of a certificate with its chain, and of its key, in PEM."""

    certificate: Path
    key: Path

    def read(self) -> bytes:
        """Return the key and the certificate, one after the other; raises OSError."""
        return self.key.read_bytes() + b"\n" + self.certificate.read_bytes()


@dataclass(eq=False)
class Certificate:
    """TLS certificate from files that may change, checked every `look` seconds."""

    files: Files
    look: float = LOOK_SECONDS
    context: ssl.SSLContext = field(init=False)
    _loaded: bytes = field(init=False, repr=False)
    _refused: tuple[str, bytes] | None = field(init=False, repr=False, default=None)  # as it was told

    def __post_init__(self) -> None:
        """Load the files; raises ValueError where they hold no usable certificate and key."""
        try:
            self._loaded = self.files.read()
            self.context = _tried(self._loaded)
        except (OSError, ValueError) as error:
            raise ValueError(self._says(error)) from None

    async def watch_files(self) -> None:
        """Check the files for changes until cancelled."""
        while True:
            await asyncio.sleep(self.look)
            self.refresh()

    def refresh(self) -> bool:
        """Load the files if they changed; return whether a new certificate is in use."""
        text = b""
        try:
            text = self.files.read()
            if text != self._loaded:
                _tried(text)
                _load(self.context, text)
        except (OSError, ValueError) as error:
            said = self._says(error)
            if (said, text) != self._refused:
                _log.warning("%s; the API continues with the previous certificate", said)
            self._refused = (said, text)
            return False
        self._refused = None
        if text == self._loaded:
            return False
        self._loaded = text
        _log.info("the API uses the new certificate in %s", self.files.certificate)
        return True

    def _says(self, error: Exception) -> str:
        both = f"{self.files.certificate} and {self.files.key}"
        return f"{both} hold no certificate with a matching key: {error}"


def _tried(text: bytes) -> ssl.SSLContext:
    """Return a new TLS context with `text`; raises ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, text)
    return context


def _load(context: ssl.SSLContext, text: bytes) -> None:
    """Load `text` into `context`; raises ValueError where it is no certificate with its key."""
    with _as_file(text) as path:
        try:
            context.load_cert_chain(path, password=_nobody_types_one)
        except ssl.SSLError as error:
            raise ValueError(error.reason or str(error)) from None


def _nobody_types_one() -> str:
    raise ValueError("the key is encrypted; it must have no password")


@contextmanager
def _as_file(text: bytes) -> Iterator[str]:
    """Yield the path of an in-memory file: OpenSSL reads keys from files, and a key must not reach a disk."""
    descriptor = os.memfd_create("certificate")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
