"""Answers to many prompts at once, on one device or on all ranks that hold one copy of a network.

A loop of passes: the scheduler chooses tokens of sequences, the model
computes them in one row against keys in blocks, the sampler samples the next tokens.
Answers come as they end, and the caller may do anything between two of
them: no computation is in flight then.

Several ranks run this loop alike: each pass follows from the tokens sampled before,
which all of them receive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import torch

from footplate_trainer.data.order import Float64s
from footplate_trainer.generation.block_allocator import BlockAllocator
from footplate_trainer.generation.forward_passes import EngineLimits, SamplingInputs, open_forward_passes
from footplate_trainer.generation.requests import GeneratedAnswer, GenerationRequest, StopRule
from footplate_trainer.generation.sampler import SampledTokens, SamplingRule, sampling_uniforms
from footplate_trainer.generation.scheduler import ScheduledPass, Scheduler
from footplate_trainer.model.decoder import Decoder
from footplate_trainer.parallel.rollout_model import RolloutModel


def _never() -> bool:
    return False


@dataclass
class _Open:
    """A request without its answer yet."""

    request: GenerationRequest
    most: int  # tokens of the answer
    chances: Float64s | None = None  # [most], from its first draw on: many may wait for theirs
    tokens: list[int] = field(default_factory=list)
    sampled: list[float] = field(default_factory=list)
    full: list[float] = field(default_factory=list)


class Engine:
    """An engine that samples from `model`, with its current weights, by one rule."""

    def __init__(
        self,
        model: Decoder | RolloutModel,
        room: EngineLimits,
        rule: SamplingRule,
        stop: StopRule,
        *,
        seed: int,
        step: int = 0,
    ) -> None:
        """Allocate the cache. An answer is a function of weights, `seed`, `step`, prompt and sibling."""
        self._shape, self._rule, self._stop = model.shape, rule, stop
        self._passes = open_forward_passes(model, room)
        self._seed, self._step = seed, step
        self._scheduler = Scheduler(
            BlockAllocator(room.blocks, room.block_size),
            at_once=room.at_once,
            prompt_tokens=room.prompt_tokens,
        )
        self._open: dict[int, _Open] = {}
        self._asked = 0
        self.drawn = 0  # tokens of answers so far
        self.stopped = False  # because somebody asked for it

    @property
    def computed(self) -> int:
        """Number of tokens that went through the model; excludes those with existing keys."""
        return self._scheduler.computed

    @property
    def preemption_count(self) -> int:
        """Number of preemptions: a sequence's blocks were released for another one."""
        return self._scheduler.given_up

    def submit(self, request: GenerationRequest) -> None:
        """Queue a request.

        Raises ValueError for a prompt that fills the context, and for a request whose
        answer does not fit in the cache.
        """
        room = self._shape.context - len(request.tokens)
        if room < 1:
            raise ValueError(
                f"prompt {request.prompt} has {len(request.tokens)} tokens; prompt and answer may have at "
                f"most {self._shape.context}"
            )
        most = min(request.most, room)
        self._scheduler.submit(self._asked, request.tokens, most)
        self._open[self._asked] = _Open(request, most)
        self._asked += 1

    def answers(
        self, requests: Iterable[GenerationRequest] = (), stopping: Callable[[], bool] = _never
    ) -> Iterator[GeneratedAnswer]:
        """Yield answers to `requests` and to all others that were submitted, each as it ends.

        `stopping` is called once a pass, with several ranks on the one that samples; after the pass in which
        it returns True, answers end on all of them, and `stopped` is True. Another call continues.
        """
        for request in requests:
            self.submit(request)
        self.stopped = False
        while not self.stopped and (plan := self._scheduler.plan()).pieces:
            yield from self._pass(plan, stopping)

    @torch.inference_mode()
    def _pass(self, plan: ScheduledPass, stopping: Callable[[], bool]) -> list[GeneratedAnswer]:
        """Compute one token of each request that samples; return the answers that end with it."""
        rows: list[int] = []
        numbers: list[int] = []
        end = 0
        for piece in plan.pieces:
            end += len(piece.tokens)
            rows += [end - 1] * len(piece.draws)
            numbers += piece.draws
        asked = [self._open[number] for number in numbers]
        # Nothing else looks at them, and they are long.
        looks = self._rule.repetition_penalty != 1
        before = [[*row.request.tokens, *row.tokens] if looks else () for row in asked]
        draws = SamplingInputs(rows, before, [self._chance(row) for row in asked], self._rule)
        drawn, self.stopped = self._passes.run(plan, draws, stopping)
        return list(self._take(numbers, drawn))

    def _chance(self, row: _Open) -> float:
        """Return the number that decides the next token of an answer."""
        if row.chances is None:
            request = row.request
            row.chances = sampling_uniforms(self._seed, self._step, request.prompt, request.sibling, row.most)
        return float(row.chances[len(row.tokens)])

    def _take(self, numbers: list[int], drawn: SampledTokens) -> Iterator[GeneratedAnswer]:
        """Append sampled tokens to the answers; yield the answers that end with them."""
        columns = (drawn.tokens.tolist(), drawn.sampled.tolist(), drawn.full.tolist())
        for number, token, sampled, full in zip(numbers, *columns, strict=True):
            row = self._open[number]
            row.tokens.append(token)
            row.sampled.append(sampled)
            row.full.append(full)
            self.drawn += 1
            reason = self._stop.end_reason(row.tokens, row.most)
            if reason is None:
                self._scheduler.append_token(number, token)
                continue
            self._scheduler.finish(number)
            del self._open[number]
            yield GeneratedAnswer(row.request, row.tokens, row.sampled, row.full, reason)
