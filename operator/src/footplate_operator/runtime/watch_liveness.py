"""Liveness of the watches: how long the API server has been silent on each of them.

A watch on which nothing happens is not silent: once a minute the API server sends a bookmark. So silence that
lasts longer, over a connection made anew, means that this replica is blind, by a dead network, a revoked
right or a deleted namespace, though it may still renew its Lease. Another replica may see.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_operator.errors import WatchSilent
from footplate_operator.runtime.kinds import Kind

QUIET_SECONDS: Final = 65.0  # the word of each minute should have come: the connection is made anew
BLIND_SECONDS: Final = 75.0  # nor has that one told anything
LET_GO_SECONDS: Final = 85.0  # whoever asked has been told that this replica is blind
_PAUSE: Final = 1.0


def watch_paths(kinds: Iterable[Kind], namespaces: Iterable[str]) -> dict[str, Kind]:
    """Return the watched `kinds` by URL path in `namespaces`, in all where there are none."""
    names = list(namespaces) or [""]
    return {kind.path(name): kind for kind in kinds for name in (names if kind.namespaced else [""])}


@dataclass(eq=False)
class WatchLiveness:
    """The last answer's time per watch; before `begin` no watch is expected to answer."""

    watches: Mapping[str, Kind]  # by URL path
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    hints: frozenset[Kind] = frozenset()  # whoever does not see these is not blind
    _heard: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        """Start counting: the watches begin now."""
        self._heard = dict.fromkeys(self.watches, self.clock())

    def remove_kind(self, kind: Kind) -> None:
        """Remove a kind without a watch."""
        self.watches = {path: known for path, known in self.watches.items() if known != kind}

    def record_answer(self, path: str) -> None:
        """Record an answer of the API server at `path`, which may have a prefix."""
        for known in self._heard:
            if path.endswith(known):
                self._heard[known] = self.clock()

    def silence_seconds(self) -> dict[str, float]:
        """Return the seconds of silence by kind name, from its most silent watch."""
        now, ages = self.clock(), defaultdict[str, float](float)
        for path, heard in self._heard.items():
            name = self.watches[path].name
            ages[name] = max(ages[name], now - heard)
        return dict(ages)

    def describe_silence(self, seconds: float = BLIND_SECONDS) -> str:
        """Return a message with the kinds silent for `seconds`; empty where no watch is."""
        dispensable = {kind.name for kind in self.hints}
        ages = sorted(
            (name, age)
            for name, age in self.silence_seconds().items()
            if age >= seconds and name not in dispensable
        )
        return ", ".join(f"no event of {name} for {age:.0f} s" for name, age in ages)

    async def check_forever(self) -> None:
        """Check forever; raises Blind once a watch has been silent for too long."""
        while True:
            if silent := self.describe_silence(LET_GO_SECONDS):
                raise WatchSilent(silent)
            await asyncio.sleep(_PAUSE)
