"""What the kernel counts of a process that runs the code of others."""

from __future__ import annotations

import resource


def limit(kind: int, most: int) -> None:
    """From now on `most` of `kind`, one of resource.RLIMIT_*; where whoever started us allows less, that."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
