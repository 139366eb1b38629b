"""Where the time of a recovery went, read off the logs of a coordinator and its agents. Pure.

The same lines come from processes on loopback and from pods (`kubectl logs`):
the coordinator says when it opened and sealed a generation, each agent says
when its ranks were forked, had their process group, were loaded, and stepped.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from footplate_contracts.reports import GenerationId

_OPENED = re.compile(r"opened a new generation after (\S+):")
_SEALED = re.compile(r"sealed generation (\S+):")

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
    opened = _time_of(_OPENED, coordinator, lambda match, time: time >= fault - 0.001)
    sealed = _time_of(_SEALED, coordinator, lambda match, time: match[1] == generation)
    timelines = [
        timeline for log in agents for timeline in _timelines(log) if timeline["generation"] == generation
    ]
    if not timelines:
        raise ValueError(f"no agent tells the timeline of generation {generation}")
    stations = [
        max(float(timeline[name]) for timeline in timelines)
        for name in ("forked", "grouped", "loaded", "stepping")
    ]
    times = [fault, opened, sealed, *stations]
    return Recovery(tuple(later - earlier for earlier, later in pairwise(times)))


def tells_timeline(log: str, generation: GenerationId) -> bool:
    """Whether all ranks of the agent that wrote `log` step in `generation`."""
    return any(timeline["generation"] == str(generation) for timeline in _timelines(log))


def _time_of(pattern: re.Pattern[str], log: str, wanted: Callable[[re.Match[str], float], bool]) -> float:
    for line in _lines(log):
        match, time = pattern.match(line["message"]), datetime.fromisoformat(line["time"]).timestamp()
        if match and wanted(match, time):
            return time
    raise ValueError(f"the coordinator's log has no line like {pattern.pattern!r}")


def _timelines(log: str) -> list[dict[str, str]]:
    return [line for line in _lines(log) if line["message"] == "timeline"]


def _lines(log: str) -> Iterator[dict[str, str]]:
    """The members of each line in logfmt; other lines are passed over."""
    for line in log.splitlines():
        if line.startswith("time="):
            yield dict(member.split("=", 1) for member in shlex.split(line))
