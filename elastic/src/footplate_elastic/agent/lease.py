"""Lease of a generation with one member: until when its ranks may begin steps; pure.

Why there is such a time: docs/decisions/ADR-0021-a-generation-of-one.md.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_elastic.protocol import wire


@dataclass
class GenerationLease:
    """Lease expiry; times are of CLOCK_MONOTONIC, which all processes of a machine share."""

    asked: float  # when the newest question that a coordinator answered was put
    until: float | None = None  # as ranks were told; None: for as long as they run

    def renew(self, asked: float, members: int) -> bool:
        """Return whether `until` has changed, now that a coordinator answered a request sent at `asked`.

        `members`: size of the generation that runs here.
        """
        self.asked = max(self.asked, asked)
        until = self.asked + wire.LEASE_SECONDS if members == 1 else None
        # An agent that has many rows to tell is answered many times a second.
        known = (
            until is not None and self.until is not None and until - self.until < wire.HEARTBEAT_SECONDS / 2
        )
        if known or until == self.until:
            return False
        self.until = until
        return True
