"""Scheduling of the tokens that the next pass computes.

Sequences join and leave between any two passes. Running sequences continue
by a token each; the rest of a pass's budget goes to prompts, in chunks if they
are long, so that no sequence waits for a long one. Requests with the same
tokens (siblings) have their prompt computed once: when its last token is, each
of them shares its blocks.

When blocks run out, the sequence that joined last is preempted and waits
in front. It keeps its tokens, computes their keys anew (unless their blocks
still have them), and goes on. The sequence that joined first is never preempted, and a
request whose tokens could not all fit in the cache is rejected at once: so every
request is answered, however small the cache.

This module only plans; nothing is computed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain

from footplate_trainer.generation.block_allocator import BlockAllocator, BlockTable


@dataclass(frozen=True)
class TokenChunk:
    """Consecutive tokens of one sequence, to be computed after those before them."""

    tokens: Sequence[int]
    start: int  # the place of the first
    blocks: Sequence[int]  # of all of the sequence's places so far
    draws: tuple[int, ...]  # the requests whose next token follows from the last of these


@dataclass(frozen=True)
class ScheduledPass:
    """A pass: first the copies of blocks, (from, to), then all pieces at once."""

    copies: list[tuple[int, int]]
    pieces: list[TokenChunk]


@dataclass(eq=False)
class _Running:
    """A request in progress."""

    number: int
    tokens: list[int]  # of the prompt, and drawn
    done: int = 0  # so many of them have keys
    table: BlockTable | None = None  # None: it waits, for room or for the prompt that a sibling computes
    siblings: list[_Running] = field(default_factory=list)  # who wait for this one's prompt

    @property
    def missing(self) -> int:
        """Number of its tokens without keys."""
        return len(self.tokens) - self.done


class Scheduler:
    """The requests of one engine, over `blocks`."""

    def __init__(self, blocks: BlockAllocator, *, at_once: int, prompt_tokens: int) -> None:
        """Schedule at most `at_once` sequences in a pass, and `prompt_tokens` tokens of prompts."""
        assert at_once > 0 and prompt_tokens > 0
        self._blocks = blocks
        self._at_once, self._prompt_tokens = at_once, prompt_tokens
        self._waiting: deque[_Running] = deque()
        self._running: list[_Running] = []  # as they joined
        self._of: dict[int, _Running] = {}
        self.computed = 0  # tokens whose keys were computed
        self.given_up = 0  # how often a sequence gave its room up

    def submit(self, number: int, prompt: Sequence[int], most: int) -> None:
        """Queue a request for up to `most` tokens after `prompt`.

        Raises ValueError if it could not be answered even if it were alone.
        """
        if not prompt or most < 1:
            raise ValueError(f"request {number}: {len(prompt)} tokens, {most} to generate; need at least 1")
        needed = self._blocks.needed(len(prompt) + most - 1)  # the last one's keys are never read
        if needed > self._blocks.total:
            raise ValueError(
                f"request {number}: {len(prompt)} tokens and {most} more need {needed} blocks of "
                f"{self._blocks.size}; the cache has {self._blocks.total}"
            )
        self._of[number] = running = _Running(number, list(prompt))
        self._waiting.append(running)

    def plan(self) -> ScheduledPass:
        """Return the next pass; without pieces if there is nothing left to do."""
        copies: list[tuple[int, int]] = []
        pieces = list(self._next_tokens(copies))
        pieces += self._prompts()
        self.computed += sum(len(piece.tokens) for piece in pieces)
        return ScheduledPass(copies, pieces)

    def append_token(self, number: int, token: int) -> None:
        """Append the sampled `token` to a request."""
        self._of[number].tokens.append(token)

    def finish(self, number: int) -> None:
        """Remove a request that is answered or cancelled."""
        gone = self._of.pop(number)
        if gone not in self._running:  # at most as many as a pass holds; many more may wait
            self._waiting.remove(gone)
            return
        siblings = self._leave(gone)
        for first in self._running:
            first.siblings = [sibling for sibling in first.siblings if sibling is not gone]
        self._waiting.extendleft(reversed(siblings))

    def _next_tokens(self, copies: list[tuple[int, int]]) -> Iterator[TokenChunk]:
        """Yield one token of each sequence that lacks no more, in the order of joining."""
        for running in list(self._running):
            if running.table is not None and running.missing == 1 and self._has_room(running, copies):
                yield self._piece(running, 1)

    def _has_room(self, running: _Running, copies: list[tuple[int, int]]) -> bool:
        """Make room for the next position by preempting the latest sequences, possibly this one itself."""
        while running.table is not None:
            copied = self._blocks.extend(running.table, len(running.tokens))
            if copied is not None:
                copies += copied
                return True
            self._give_up(next(last for last in reversed(self._running) if last.table is not None))
        return False

    def _prompts(self) -> Iterator[TokenChunk]:
        """Yield chunks of sequences with several tokens to compute: running ones first, then joining ones."""
        left = self._prompt_tokens
        begun = [running for running in self._running if running.table is not None and running.missing > 1]
        for running in chain(begun, iter(self._join, None)):
            count = min(left, running.missing)
            yield self._piece(running, count)
            left -= count
            if not left:
                return

    def _join(self) -> _Running | None:
        """Start the first waiting request, with those directly behind it that have the same tokens."""
        if not self._waiting or len(self._running) >= self._at_once:
            return None
        first = self._waiting[0]
        # Each that runs is going to need a block; who joins must not take it.
        table = self._blocks.allocate(first.tokens, spare=len(self._running))
        if table is None:
            return None
        first.table, first.done = table, table.shared
        self._running.append(self._waiting.popleft())
        while (
            self._waiting and len(self._running) < self._at_once and self._waiting[0].tokens == first.tokens
        ):
            first.siblings.append(self._waiting[0])
            self._running.append(self._waiting.popleft())
        return first

    def _piece(self, running: _Running, count: int) -> TokenChunk:
        table, start = running.table, running.done
        assert table is not None
        running.done += count
        self._blocks.mark_computed(table, running.tokens, running.done)
        draws = [running.number] if running.missing == 0 else []
        if draws:
            for sibling in running.siblings:
                sibling.table, sibling.done = self._blocks.fork(table), running.done
                draws.append(sibling.number)
            running.siblings = []
        return TokenChunk(running.tokens[start : running.done], start, tuple(table.blocks), tuple(draws))

    def _give_up(self, running: _Running) -> None:
        """Preempt it and the siblings that wait for its prompt; they wait in front of all others."""
        siblings = self._leave(running)
        self._waiting.extendleft(reversed([running, *siblings]))
        self.given_up += 1

    def _leave(self, running: _Running) -> list[_Running]:
        """Release its blocks; return the siblings that waited for its prompt, which stop running, too."""
        siblings, running.siblings = running.siblings, []
        self._running = [other for other in self._running if other is not running and other not in siblings]
        if running.table is not None:
            self._blocks.release(running.table)
        running.table = None
        return siblings
