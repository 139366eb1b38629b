"""Connectivity between agents, probed in rounds, and the choice of agents to replace; pure.

A connection that fails once says little: its packets were lost, or the agent at the other end had just opened
another port. So two agents count as cut off from each other when, in two rounds in a row, either of them did
not reach the other. Agents are identified by their pods' names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field

from footplate_contracts.backoff import backoff_seconds
from footplate_contracts.connectivity_probes import ConnectivityProbeResult, Peer
from footplate_elastic.coordinator import timing

Pair = frozenset[str]


@dataclass
class ProbeRound:
    """A probe of all `asked` agents; `began` uses the clock of `now` everywhere in this module."""

    number: int
    began: float
    peers: Mapping[str, Peer]
    asked: frozenset[str]
    unreached: dict[str, frozenset[str]] = field(default_factory=dict)  # by who has answered
    awaited: int = 0  # answers, at least, before all who are here have given theirs


@dataclass
class Connectivity:
    """The results of all probe rounds, and the round under way."""

    doubted: bool = False  # the last generation was broken in a way that two who are cut off would explain
    round: ProbeRound | None = None  # that is under way
    cut: frozenset[Pair] = frozenset()
    complaints: Counter[str] = field(default_factory=Counter)  # times that a pod came to be cut off
    _number: int = 0
    _asked: Mapping[str, Peer] = field(default_factory=dict)  # in the last round
    _failed: frozenset[Pair] = frozenset()  # in the last round
    _failures: int = 0  # rounds in a row in which some pair failed
    _due: float = 0.0

    @property
    def round_number(self) -> int | None:
        """The number of the round under way; None without one."""
        return self.round.number if self.round else None

    def begin(self, peers: Mapping[str, Peer], now: float, asked: Iterable[str] | None = None) -> None:
        """Start a round: all `peers` probe each other, or only the `asked` ones probe all others.

        Does nothing where it is too early: a round has just ended without a result.
        """
        if self.round is None and (now >= self._due or peers != self._asked):
            self._number += 1
            self.round = ProbeRound(self._number, now, peers, frozenset(peers if asked is None else asked))

    def find_pending_round(self, pod: str) -> ProbeRound | None:
        """Return the round that still waits for an answer from `pod`."""
        waits = self.round is not None and pod in self.round.asked and pod not in self.round.unreached
        return self.round if waits else None

    def record_result(self, pod: str, result: ConnectivityProbeResult) -> bool:
        """Record a pod's result; return whether it may have been the last one that was awaited."""
        known = self.find_pending_round(pod)
        if known is None or known.number != result.number:
            return False
        known.unreached[pod] = frozenset(result.unreached)
        known.awaited -= 1
        return known.awaited <= 0

    def conclude(self, here: Collection[str], now: float) -> bool:
        """Return whether the round has just ended: all pods still `here` answered or timed out."""
        known = self.round
        if known is None:
            return False
        waits = known.asked & set(here) - known.unreached.keys()
        known.awaited = len(waits)
        if waits and now - known.began < timing.ROUND:
            return False
        self._take(known, now)
        return True

    def are_connected(self, pods: Set[str]) -> bool:
        """Return whether all `pods` took part in the last round and reach each other."""
        return pods <= self._asked.keys() and not any(pair <= pods for pair in self._failed)

    def may_be_cut_off(self, pod: str, others: Iterable[str]) -> bool:
        """Return whether the last round, or an earlier cut, separates `pod` from one of `others`."""
        return any(frozenset((pod, other)) in self.cut | self._failed for other in others)

    def undecided(self, now: float) -> bool:
        """Return whether a round is under way, or the next one soon decides about a suspected pair."""
        soon = now - self._due < timing.ROUND and self._failures < timing.ROUNDS
        return self.round is not None or (bool(self._failed - self.cut) and soon)

    @property
    def is_inconclusive(self) -> bool:
        """True if many rounds had failures, never of the same pair: nothing follows from that."""
        return not self.cut and self._failures >= timing.ROUNDS

    def reset(self, here: Set[str]) -> None:
        """Reset for a new generation, except for the pairs `here` that are cut off."""
        self.doubted, self.round, self._asked = False, None, {}
        self._failed, self._failures, self._due = frozenset(), 0, 0.0
        self.cut = frozenset(pair for pair in self.cut if pair <= here)

    def _take(self, known: ProbeRound, now: float) -> None:
        failed = frozenset(
            frozenset((pod, other))
            for pod, unreached in known.unreached.items()
            for other in unreached & known.peers.keys() - {pod}
        )
        # A connection takes packets in both directions, so that one of two can tell that it is there again.
        unheard = frozenset(
            pair for pair in self.cut if not pair <= known.peers.keys() or not pair & known.unreached.keys()
        )
        cut = failed & (self._failed | self.cut) | unheard
        self.complaints.update(pod for pair in cut - self.cut for pod in pair)
        self.cut, self._failed, self._asked, self.round = cut, failed, known.peers, None
        self._failures = self._failures + 1 if failed else 0
        pause = backoff_seconds(
            max(1, self._failures - 1), first=timing.BETWEEN, longest=timing.LONGEST_BETWEEN
        )
        self._due = known.began + (pause if failed else timing.LONGEST_BETWEEN)


def choose_displaced(
    cut: Collection[Pair],
    workers: Sequence[str],
    spares: Sequence[str],
    complaints: Mapping[str, int],
    gone: Collection[str],
) -> tuple[str, ...]:
    """Return the `workers` without whom all others reach each other; empty if over half had to go.

    The worker that is cut off from most goes first. Between two that are only cut off from each other, the
    choice is the one that has given up its slot already, then the one with more complaints, then the one that
    a spare can replace, then the one with the higher index: the first member hosts the store of all.

    Args:
        workers: in order of their index.
        spares: that are ready.
        complaints: how often each was cut off from another one before.
        gone: workers that have given up their slots.
    """
    left = {pair for pair in cut if pair <= set(workers)}
    going: list[str] = []

    def replaceable(pod: str) -> bool:
        staying = {worker for worker in workers if worker != pod and worker not in going}
        return any(all(frozenset((spare, worker)) not in cut for worker in staying) for spare in spares)

    while left:
        peers = Counter(pod for pair in left for pod in pair)
        worst = max(
            peers,
            key=lambda pod: (
                peers[pod],
                pod in gone,
                complaints.get(pod, 0),
                replaceable(pod),
                workers.index(pod),
            ),
        )
        going.append(worst)
        left = {pair for pair in left if worst not in pair}
    return tuple(going) if 2 * len(going) <= len(workers) else ()
