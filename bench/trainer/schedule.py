"""How long ranks wait in a pipeline schedule, from the order in which torch really runs it.

Seen, not asked: torch's own description of 1F1B is not what it does.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import CodeType, FrameType
from typing import Any, Final, NamedTuple

from torch.distributed.pipelining import PipelineStage

COSTS: Final = {"F": 1, "I": 1, "W": 1, "B": 2}
"""Forward; gradients of inputs, of weights, of both: the units of `parallel/bubble.py`."""


class Action(NamedTuple):
    """One stage's pass of one micro-batch; `kind` is a key of COSTS."""

    stage: int
    kind: str
    micro_batch: int


@contextmanager
def watched() -> Iterator[list[Action]]:
    """The actions of this rank, in their order, while the context lasts."""
    seen: list[Action] = []
    chunk: dict[CodeType, str] = {
        PipelineStage.forward_one_chunk.__code__: "fwd_chunk_id",
        PipelineStage.backward_one_chunk.__code__: "bwd_chunk_id",
        PipelineStage.backward_weight_one_chunk.__code__: "bwd_chunk_id",
    }

    def look(frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code in chunk:
            given = frame.f_locals
            kind = {"forward_one_chunk": "F", "backward_weight_one_chunk": "W"}.get(frame.f_code.co_name)
            kind = kind or ("B" if given["full_backward"] else "I")
            seen.append(Action(given["self"].stage_index, kind, given[chunk[frame.f_code]]))

    before = sys.getprofile()
    sys.setprofile(look)
    try:
        yield seen
    finally:
        sys.setprofile(before)


def idle(orders: Mapping[int, Sequence[Action]], stages: int) -> int:
    """Units that the busiest rank waits when each begins an action as soon as it can."""
    finished: dict[tuple[int, str, int], int] = {}
    waiting = {rank: list(reversed(order)) for rank, order in orders.items()}
    clocks = dict.fromkeys(orders, 0)
    while any(waiting.values()):
        moved = False
        for rank, order in waiting.items():
            while order and all(need in finished for need in _needs(order[-1], stages)):
                action = order.pop()
                begin = max([clocks[rank], *(finished[need] for need in _needs(action, stages))])
                clocks[rank] = finished[_done(action)] = begin + COSTS[action.kind]
                moved = True
        assert moved, "each waits for another"
    return max(clocks.values()) - max(
        sum(COSTS[action.kind] for action in order) for order in orders.values()
    )


def _done(action: Action) -> tuple[int, str, int]:
    return action.stage, {"B": "I"}.get(action.kind, action.kind), action.micro_batch


def _needs(action: Action, stages: int) -> list[tuple[int, str, int]]:
    """What must be over: of a forward pass the stage before, of a backward one the stage behind."""
    stage, kind, micro_batch = action
    if kind == "F":
        return [(stage - 1, "F", micro_batch)] if stage else []
    if kind == "W":
        return [(stage, "I", micro_batch)]
    behind = [(stage + 1, "I", micro_batch)] if stage + 1 < stages else []
    return [(stage, "F", micro_batch), *behind]
