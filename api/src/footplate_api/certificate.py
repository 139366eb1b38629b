"""The certificate that the API proves itself with, taken anew when its files change.

Whoever renews it writes the files; the kubelet does so by one rename for both. New connections get the new
certificate, and those that are open stay so: no request notices. What is loaded is what was tried before,
byte by byte: a live context that was given a certificate and then refused its key would serve nobody.
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
    """A certificate with its chain, and its key, in PEM."""

    certificate: Path
    key: Path

    def read(self) -> bytes:
        """Both, one after the other; raises OSError."""
        return self.key.read_bytes() + b"\n" + self.certificate.read_bytes()


@dataclass(eq=False)
class Certificate:
    """What is served with, from files that may change; `look` is how often they are looked at, in seconds."""

    files: Files
    look: float = LOOK_SECONDS
    context: ssl.SSLContext = field(init=False)
    _loaded: bytes = field(init=False, repr=False)
    _refused: tuple[str, bytes] | None = field(init=False, repr=False, default=None)  # as it was told

    def __post_init__(self) -> None:
        """Raises ValueError where the files are none that can be served with."""
        try:
            self._loaded = self.files.read()
            self.context = _tried(self._loaded)
        except (OSError, ValueError) as error:
            raise ValueError(self._says(error)) from None

    async def keep(self) -> None:
        """Follow the files for ever."""
        while True:
            await asyncio.sleep(self.look)
            self.refresh()

    def refresh(self) -> bool:
        """Whether there was another certificate, which is served with from now on."""
        text = b""
        try:
            text = self.files.read()
            if text != self._loaded:
                _tried(text)
                _load(self.context, text)
        except (OSError, ValueError) as error:
            said = self._says(error)
            if (said, text) != self._refused:
                _log.warning("%s; the certificate before is served with on", said)
            self._refused = (said, text)
            return False
        self._refused = None
        if text == self._loaded:
            return False
        self._loaded = text
        _log.info("serving with the certificate that %s holds now", self.files.certificate)
        return True

    def _says(self, error: Exception) -> str:
        both = f"{self.files.certificate} and {self.files.key}"
        return f"{both} hold no certificate with its key: {error}"


def _tried(text: bytes) -> ssl.SSLContext:
    """A context that serves with `text`; raises ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    _load(context, text)
    return context


def _load(context: ssl.SSLContext, text: bytes) -> None:
    """Raises ValueError where `text` is no certificate with its key."""
    with _as_file(text) as path:
        try:
            context.load_cert_chain(path, password=_nobody_types_one)
        except ssl.SSLError as error:
            raise ValueError(error.reason or str(error)) from None


def _nobody_types_one() -> str:
    raise ValueError("the key is encrypted, and nobody is there to type its password")


@contextmanager
def _as_file(text: bytes) -> Iterator[str]:
    """The path of a file that lies in memory only: OpenSSL takes keys from files, and disks keep them."""
    descriptor = os.memfd_create("certificate")
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(text)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
