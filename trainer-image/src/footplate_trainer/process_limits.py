"""Resource limits of a process that runs the code of others."""

from __future__ import annotations

import resource


def set_rlimit(kind: int, most: int) -> None:
    """Set the soft limit of `kind`, one of resource.RLIMIT_*, to `most` or to a lower hard limit."""
    _, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))
