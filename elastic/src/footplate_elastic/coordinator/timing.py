"""Timeouts of a coordinator, in seconds.

`Timing` holds the limits by which membership judges agents, and tests vary it. The constants are the pace of
the program itself.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from footplate_elastic.protocol import wire


@dataclass(frozen=True)
class Timing:
    """Intervals in seconds.

    `silence` is 5 s although an agent speaks every second: the end of a dead
    process shows within `connection`, so silence only has to find lost nodes
    and frozen processes, whose substitute needs a new pod anyway, while an
    agent under a CPU quota or behind a page cache that is written back stalls
    for two seconds now and then. A false alarm restarts a healthy generation.
    """

    silence: float = 5.0
    suspect: float = 0.6  # enough once another member has reported a failure: then all speak more often
    connection: float = 0.1  # for a live agent to open its idle connection again
    substitute: float = 15.0  # a lost slot that nobody speaks for is awaited so long; then fewer go on
    joining: float = 60.0  # for one that speaks but has not joined, and for everybody at the start
    lease: float = wire.LEASE_SECONDS  # a generation of one that is not heard may train for so long
    # An operator asks every four seconds. Without an answer for eight it makes a successor of ours elsewhere.
    operator: float = 8.0
    adoption: float = 10.0  # a replaced coordinator waits this long for the last generation
    # Whatever a gap between two ticks has beyond this is our own pause, not the agents' silence.
    own_pause: float = 0.2
    # For a live agent to speak or to connect again where we were late: it waits a second for our answer,
    # and as long before it asks again.
    late_connection: float = 2.5


# -- the pace of the program -----------------------------------------------------------

TICK: Final = 0.05  # half of the shortest interval that is judged
# What ranks are at is news for the operator no more often, a step alone still less: that is written to the
# API server every 2.4 s at most, and what it is told between two writes is work for nothing.
PROGRESS: Final = 1.0
STEPS: Final = 2.0
# Seconds that a checkpoint holds all ranks up before it is told: a shorter one would only flicker.
SAVING: Final = 3.0
# How long a lost connection waits for a failure that explains it: an agent tells why its ranks ended
# once it has stopped them all, which takes a second or more where one does not heed SIGTERM.
SETTLE: Final = 3.0
# Of a standstill it is known at once, and whether two members do not reach each other once all have joined.
EXAMINED: Final = 10.0
ROUND: Final = 6.0  # for agents to try each other, which takes the two seconds of agent/timing.py
ROUNDS: Final = 5  # with failures, of which none came twice: then they are chance
BETWEEN: Final = 1.0  # two rounds, so that one moment's trouble does not fail both; doubles
LONGEST_BETWEEN: Final = 10.0
STACKS: Final = 2.0  # for ranks that stand still to write their stacks, before they are restarted
# The end is told when the last numbers are stored, so that who reads "finished" finds them all.
# Where the API is away, so much later all the same.
LAST_NUMBERS: Final = 8.0
GATHER: Final = 0.5  # rows of a moment travel to the API together, where it does not ask for another pace
SHORTEST_GATHER: Final = 0.1  # that it may ask for
LONGEST_GATHER: Final = 30.0
FIRST_RETRY: Final = 0.5  # of a batch that the API did not take; it may be away for minutes
LONGEST_RETRY: Final = 15.0
LONGER_THAN_TOLD: Final = 0.5  # at most, of what the API asks for: senders shall not return together
LONGEST_TOLD: Final = 60.0  # however long the API asks us to stay away
LAST_TRY: Final = 2.0  # before the time of the rest is up, however long the API asks us to stay away
FLUSH: Final = 600.0  # for the rest of the telemetry after SIGTERM: the API may be away for ten minutes

# Held before the seal after 0, 1, 2, … restarts in a row without a new step: the first is free,
# since most causes are gone by then, and a crash loop must not become a busy loop.
_HOLD_SECONDS: Final = (0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 10.0)


def hold_seconds(fruitless: int) -> float:
    """Return how long to hold the seal after `fruitless` generations in a row without a new step."""
    return _HOLD_SECONDS[min(fruitless, len(_HOLD_SECONDS) - 1)]
