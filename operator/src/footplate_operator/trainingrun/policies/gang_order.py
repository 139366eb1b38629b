"""Order in which gangs of one ComputeProfile gather: one at a time, by priority, then age.

Two gangs that create their pods at the same time may each get half of the nodes, and neither trains. A gang
that released its nodes waits for a new Node or the end of another run before its next turn, but not for ever:
other programs free nodes without a sign.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from footplate_operator.runtime.throttle import jitter
from footplate_operator.trainingrun.observation import GangTurn

AGED_TURNS: Final = 10  # lost turns after which no younger gang of the same priority gathers first
RETRY_SECONDS: Final = 600.0  # from a release to the next turn, at the latest
_LARGEST_JITTER: Final = 1.2


@dataclass(frozen=True)
class WaitingGang:
    """Gang with workers that have no node, and that never trained since its pods were created."""

    uid: str
    priority: int
    created: datetime
    turn_time: datetime | None = None  # when its pods were created
    released: datetime | None = None  # when it deleted such pods last
    lost_turns: int = 0


def sort_gangs(candidates: Iterable[WaitingGang]) -> list[WaitingGang]:
    """Return `candidates` by priority, highest first, then age, oldest first."""
    return sorted(candidates, key=lambda known: (-known.priority, known.created, known.uid))


def get_turn(
    uid: str, line: Sequence[WaitingGang], grown: datetime | None, is_short: bool, now: datetime
) -> GangTurn:
    """Return the turn of the gang `uid`.

    Args:
        line: all waiting gangs, in their order; `uid` is among them.
        grown: the last time at which a Node came or a run ended.
        is_short: a gang that has trained waits for a substitute, a spare or growth.
    """
    place, own = next((at, known) for at, known in enumerate(line, 1) if known.uid == uid)
    holder = min(
        (known for known in line if known.turn_time is not None),
        key=lambda known: (known.turn_time or now, known.uid),
        default=None,
    )
    ready = next(
        (known for known in _unblocked(line) if _is_due(known, grown, now) and known != holder), None
    )
    first = holder or ready
    return GangTurn(
        granted=not is_short and first is not None and first.uid == uid,
        place=place,
        waiting=len(line),
        contested=ready is not None and ready.uid != uid,
        yields=is_short,
        retry=_retry(own) if own.turn_time is None and not _is_due(own, grown, now) else None,
    )


def _unblocked(line: Sequence[WaitingGang]) -> Iterable[WaitingGang]:
    """Yield the gangs before which no aged gang of the same priority waits."""
    aged: int | None = None  # the priority of the newest aged gang met so far
    for known in line:
        if known.priority == aged:
            continue
        yield known
        if known.lost_turns >= AGED_TURNS and known.turn_time is None:
            aged = known.priority


def _is_due(known: WaitingGang, grown: datetime | None, now: datetime) -> bool:
    retry = _retry(known)
    if retry is None or known.released is None:
        return True
    return now >= retry or (grown is not None and grown > known.released)


def _retry(known: WaitingGang) -> datetime | None:
    if known.released is None:
        return None
    return known.released + timedelta(seconds=RETRY_SECONDS * jitter(known.uid) / _LARGEST_JITTER)
