"""Who computes what in which pass, and who gives way when there is no room."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence

import pytest

from footplate_trainer.generation.block_allocator import BlockAllocator
from footplate_trainer.generation.scheduler import ScheduledPass, Scheduler


def scheduler(blocks: int = 100, size: int = 4, at_once: int = 8, prompt_tokens: int = 16) -> Scheduler:
    return Scheduler(BlockAllocator(blocks, size), at_once=at_once, prompt_tokens=prompt_tokens)


def shown(plan: ScheduledPass) -> list[tuple[list[int], int, tuple[int, ...]]]:
    return [(list(piece.tokens), piece.start, piece.draws) for piece in plan.pieces]


def test_a_long_prompt_comes_in_pieces_beside_the_next_tokens_of_others() -> None:
    ours = scheduler(prompt_tokens=3)
    ours.submit(0, [1, 2], most=5)
    ours.submit(1, [1, 3, 5, 7, 9], most=5)

    assert shown(ours.plan()) == [([1, 2], 0, (0,)), ([1], 0, ())]
    ours.append_token(0, 8)
    assert shown(ours.plan()) == [([8], 2, (0,)), ([3, 5, 7], 1, ())]
    ours.append_token(0, 8)
    assert shown(ours.plan()) == [([8], 3, (0,)), ([9], 4, (1,))]


def test_siblings_have_their_prompt_computed_once() -> None:
    ours = scheduler(size=2)
    for number in range(3):
        ours.submit(number, [1, 2, 3], most=5)

    assert shown(ours.plan()) == [([1, 2, 3], 0, (0, 1, 2))]
    for number in range(3):
        ours.append_token(number, 10 + number)
    plan = ours.plan()
    assert shown(plan) == [([10], 3, (0,)), ([11], 3, (1,)), ([12], 3, (2,))]
    assert len(plan.copies) == 2, "the last one writes where the prompt's last token lies"
    assert len({piece.blocks[0] for piece in plan.pieces}) == 1
    assert len({piece.blocks[1] for piece in plan.pieces}) == 3


def test_a_beginning_that_another_prompt_has_too_is_not_computed_again() -> None:
    ours = scheduler(size=2)
    ours.submit(0, [1, 2, 3, 4, 5], most=5)
    ours.submit(1, [1, 2, 3, 4, 6, 7], most=5)

    assert shown(ours.plan()) == [([1, 2, 3, 4, 5], 0, (0,)), ([6, 7], 4, (1,))]
    assert ours.computed == 7


def test_only_so_many_run_at_once() -> None:
    ours = scheduler(at_once=2)
    for number in range(3):
        ours.submit(number, [number], most=5)

    assert [piece.draws for piece in ours.plan().pieces] == [(0,), (1,)]
    ours.finish(0)
    ours.append_token(1, 7)
    assert [piece.draws for piece in ours.plan().pieces] == [(1,), (2,)]


def test_siblings_are_counted_among_those_that_run() -> None:
    ours = scheduler(at_once=2)
    for number in range(3):
        ours.submit(number, [1, 2], most=5)

    assert [piece.draws for piece in ours.plan().pieces] == [(0, 1)]


def test_who_joined_last_gives_way_and_goes_on_later_from_what_it_drew() -> None:
    ours = scheduler(blocks=4, size=2)
    ours.submit(0, [1, 2], most=6)
    ours.submit(1, [3, 4], most=6)
    for token in (5, 6, 7):
        assert [piece.draws for piece in ours.plan().pieces] == [(0,), (1,)]
        ours.append_token(0, token)
        ours.append_token(1, token + 10)

    assert shown(ours.plan()) == [([7], 4, (0,))]
    assert ours.given_up == 1
    ours.append_token(0, 8)
    assert shown(ours.plan()) == [([8], 5, (0,))], "there is still no room for the other one"
    ours.finish(0)
    assert shown(ours.plan()) == [([15, 16, 17], 2, (1,))], "of its blocks, one has been given away"


def test_who_joins_leaves_those_that_run_a_block_each() -> None:
    ours = scheduler(blocks=3, size=2)
    ours.submit(0, [1, 2], most=5)
    ours.submit(1, [3, 4, 5], most=2)

    assert [piece.draws for piece in ours.plan().pieces] == [(0,)]
    ours.finish(0)
    assert [piece.draws for piece in ours.plan().pieces] == [(1,)]


def test_a_prompt_that_gives_way_comes_back_with_its_siblings_behind_it() -> None:
    ours = scheduler(blocks=8, size=2, prompt_tokens=2)
    ours.submit(0, [1, 2], most=9)
    for number in (1, 2, 3):
        ours.submit(number, list(range(10, 19)), most=2)
    ours.plan()
    for token in (3, 4, 5, 6):
        ours.append_token(0, token)
        assert len(ours.plan().pieces) == 2
    ours.append_token(0, 7)

    assert [piece.draws for piece in ours.plan().pieces] == [(0,)]
    assert ours.given_up == 1
    ours.finish(0)
    assert shown(ours.plan()) == [([18], 8, (1, 2, 3))]


@pytest.mark.parametrize(
    ("prompt", "most", "text"),
    [
        pytest.param([1] * 5, 5, "5 tokens and 5 more need 5 blocks of 2; the cache has 4", id="too-long"),
        pytest.param([], 5, "0 tokens, 5 to generate", id="nothing-to-go-on-from"),
        pytest.param([1], 0, "1 tokens, 0 to generate", id="nothing-to-draw"),
    ],
)
def test_what_could_never_be_answered_is_refused(prompt: list[int], most: int, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        scheduler(blocks=4, size=2).submit(3, prompt, most)


def test_a_request_that_nobody_wants_any_more_leaves_its_siblings_the_prompt() -> None:
    ours = scheduler(prompt_tokens=2)
    for number in range(3):
        ours.submit(number, [1, 2, 3], most=5)
    ours.plan()

    ours.finish(0)
    ours.finish(2)

    assert shown(ours.plan()) == [([1, 2], 0, ())]
    assert shown(ours.plan()) == [([3], 2, (1,))]


def _next(tokens: Sequence[int]) -> int:
    """What a model would draw: it follows from all that is before it."""
    return hashlib.blake2b(bytes(token % 256 for token in tokens)).digest()[0] % 5


def _answers(ours: Scheduler, prompts: list[list[int]], most: list[int], size: int) -> list[list[int]]:
    """Play the passes with blocks that remember tokens: what is read must be what was written."""
    for number, prompt in enumerate(prompts):
        ours.submit(number, prompt, most[number])
    answers: list[list[int]] = [[] for _ in prompts]
    memory: dict[tuple[int, int], tuple[int, ...]] = {}
    while pieces := (plan := ours.plan()).pieces:
        for source, target in plan.copies:
            for place in range(size):
                memory[target, place] = memory.get((source, place), ())
        for piece in pieces:
            for place, token in enumerate(piece.tokens, start=piece.start):
                memory[piece.blocks[place // size], place % size] = (place, token)
        drawn = []
        for piece in pieces:
            end = piece.start + len(piece.tokens)
            read = [memory[piece.blocks[place // size], place % size] for place in range(end)]
            assert [place for place, _ in read] == list(range(end))
            drawn += [(number, _next([token for _, token in read])) for number in piece.draws]
        for number, token in drawn:
            answers[number].append(token)
            if len(answers[number]) == most[number]:
                ours.finish(number)
            else:
                ours.append_token(number, token)
    return answers


@pytest.mark.parametrize("seed", range(8))
def test_answers_depend_on_neither_room_nor_neighbours_nor_pieces(seed: int) -> None:
    rng = random.Random(seed)
    prompts = [[rng.randint(0, 2) for _ in range(rng.randint(1, 9))] for _ in range(6)]
    prompts = [prompt for prompt in prompts for _ in range(rng.randint(1, 4))]
    most = [rng.randint(1, 12) for _ in prompts]
    expected = []
    for prompt, count in zip(prompts, most, strict=True):
        tokens = list(prompt)
        for _ in range(count):
            tokens.append(_next(tokens))
        expected.append(tokens[len(prompt) :])

    for total, at_once, prompt_tokens in ((200, 50, 100), (7, 50, 100), (9, 3, 2), (20, 1, 1)):
        blocks = BlockAllocator(total, 3)
        ours = Scheduler(blocks, at_once=at_once, prompt_tokens=prompt_tokens)
        assert _answers(ours, prompts, most, 3) == expected
        assert blocks.free_count == total
    assert ours.given_up == 0, "alone, nobody has to give way"


def test_a_cache_that_holds_one_answer_is_enough() -> None:
    ours = scheduler(blocks=5, size=2, at_once=8)
    prompts = [[number % 3, 1, 2] for number in range(9)]

    answers = _answers(ours, prompts, [8] * 9, 2)

    assert all(len(answer) == 8 for answer in answers)
    assert ours.given_up > 0
