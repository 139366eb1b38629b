"""Whether the watches see: since when the API server has said nothing on each of them.

A watch on which nothing happens is not silent: once a minute the API server says how far
it is. So silence that lasts longer, over a connection made anew, means that this
replica is blind, by a dead network, a revoked right or a name that is gone, though
it may still renew its Lease. Another replica may see.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from footplate_operator.errors import Blind
from footplate_operator.runtime.kinds import Kind

QUIET_SECONDS: Final = 65.0  # the word of each minute should have come: the connection is made anew
BLIND_SECONDS: Final = 75.0  # nor has that one told anything
LET_GO_SECONDS: Final = 85.0  # whoever asked has been told that this replica is blind
_PAUSE: Final = 1.0


def paths(kinds: Iterable[Kind], namespaces: Iterable[str]) -> dict[str, Kind]:
    """Where `kinds` are watched in `namespaces`, in all where there are none; by URL path."""
    names = list(namespaces) or [""]
    return {kind.path(name): kind for kind in kinds for name in (names if kind.namespaced else [""])}


@dataclass(eq=False)
class Sight:
    """When each watch was answered last; until it is told to begin, nobody expects to see."""

    watches: Mapping[str, Kind]  # by URL path
    clock: Callable[[], float] = field(default_factory=lambda: asyncio.get_running_loop().time)
    hints: frozenset[Kind] = frozenset()  # whoever does not see these is not blind
    _heard: dict[str, float] = field(default_factory=dict)

    def begin(self) -> None:
        """The watches begin now."""
        self._heard = dict.fromkeys(self.watches, self.clock())

    def leave(self, kind: Kind) -> None:
        """There is no watch of this kind."""
        self.watches = {path: known for path, known in self.watches.items() if known != kind}

    def heard(self, path: str) -> None:
        """The API server has said something at this URL path, which may begin with more."""
        for known in self._heard:
            if path.endswith(known):
                self._heard[known] = self.clock()

    def ages(self) -> dict[str, float]:
        """Seconds of silence, by the name of the kind: of its worst watch."""
        now, ages = self.clock(), defaultdict[str, float](float)
        for path, heard in self._heard.items():
            name = self.watches[path].name
            ages[name] = max(ages[name], now - heard)
        return dict(ages)

    def blind(self, seconds: float = BLIND_SECONDS) -> str:
        """What this replica has not seen for so long, in words; empty where it sees everything."""
        dispensable = {kind.name for kind in self.hints}
        ages = sorted(
            (name, age) for name, age in self.ages().items() if age >= seconds and name not in dispensable
        )
        return ", ".join(f"no word of {name} for {age:.0f} s" for name, age in ages)

    async def keep(self) -> None:
        """Look for ever; raises Blind once a watch has been silent for too long."""
        while True:
            if silent := self.blind(LET_GO_SECONDS):
                raise Blind(silent)
            await asyncio.sleep(_PAUSE)
