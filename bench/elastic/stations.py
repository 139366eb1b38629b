"""Where the time of a recovery went, read off the logs of a coordinator and its agents. Pure.

The same lines come from processes on loopback and from pods (`kubectl logs`):
the coordinator says when it opened and sealed a generation, each agent says
when its ranks were forked, had their process group, were loaded, and stepped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3})Z \S+ \S+ "
_OPENED = re.compile(_TIME + r"opened a new generation after (\S+):")
_SEALED = re.compile(_TIME + r"sealed generation (\S+):")
_TIMELINE = re.compile(r"timeline (\S+) (\{.*\})")

PARTS = ("detect", "rendezvous", "fork", "process group", "load", "first step")


@dataclass(frozen=True)
class Recovery:
    """Seconds of each part, in the order of PARTS."""

    parts: tuple[float, ...]

    @property
    def total(self) -> float:
        """Seconds from the fault until all ranks step."""
        return sum(self.parts)


def recovery(fault: float, coordinator: str, agents: Iterable[str], generation: str) -> Recovery:
    """How `generation` came up after a fault at Unix time `fault`; ValueError if a log does not tell.

    `rendezvous` runs from the opening to the seal, and so contains the start
    of a substitute where there is one.
    """
    opened = _time_of(_OPENED, coordinator, lambda match: _unix(match[1]) >= fault - 0.001)
    sealed = _time_of(_SEALED, coordinator, lambda match: match[2] == generation)
    lines = [
        json.loads(match[2]) for log in agents for match in _TIMELINE.finditer(log) if match[1] == generation
    ]
    if not lines:
        raise ValueError(f"no agent tells the timeline of generation {generation}")
    stations = [max(line[name] for line in lines) for name in ("forked", "grouped", "loaded", "stepping")]
    times = [fault, opened, sealed, *stations]
    return Recovery(tuple(later - earlier for earlier, later in pairwise(times)))


def _time_of(pattern: re.Pattern[str], log: str, wanted: Callable[[re.Match[str]], bool]) -> float:
    for match in pattern.finditer(log):
        if wanted(match):
            return _unix(match[1])
    raise ValueError(f"the coordinator's log has no line like {pattern.pattern!r}")


def _unix(text: str) -> float:
    return datetime.fromisoformat(f"{text}+00:00").timestamp()
