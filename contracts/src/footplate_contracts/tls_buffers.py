"""Buffer size of TLS connections."""

from __future__ import annotations

from asyncio.sslproto import SSLProtocol
from typing import Final

BUFFER_BYTES: Final = 4096  # a read; a larger TLS record takes several


def limit_tls_buffers() -> None:
    """Limit the buffer of each TLS connection that this process opens from now on to BUFFER_BYTES.

    This includes accepted connections. asyncio writes zeros into 256 KiB for each of them, most of which wait
    for messages of some hundred bytes.
    """
    SSLProtocol.max_size = BUFFER_BYTES
