"""Who names which block, and what is known of beginnings."""

from __future__ import annotations

import random

import pytest

from footplate_trainer.generation.block_allocator import BlockAllocator, BlockTable


def opened(blocks: BlockAllocator, tokens: list[int]) -> BlockTable:
    """A table of tokens that are all computed."""
    table = blocks.allocate(tokens)
    assert table is not None
    blocks.mark_computed(table, tokens, len(tokens))
    return table


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3, 4, 9], 4, id="two-full-blocks"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3, 9, 9], 2, id="as-far-as-it-is-the-same"),
        pytest.param([1, 2, 3, 4], [1, 2, 3, 4], 2, id="one-token-is-computed"),
        pytest.param([1, 2, 3], [1, 9, 3], 0, id="another-beginning"),
        pytest.param([1, 2, 3, 4, 5], [3, 4, 3, 4, 5], 0, id="the-same-behind-another-beginning"),
        pytest.param([1], [1], 0, id="less-than-a-block"),
    ],
)
def test_a_beginning_is_shared_by_whole_blocks(first: list[int], second: list[int], shared: int) -> None:
    blocks = BlockAllocator(total=10, size=2)
    ours, theirs = opened(blocks, first), opened(blocks, second)

    assert theirs.shared == shared
    assert ours.blocks[: shared // 2] == theirs.blocks[: shared // 2]
    assert not set(ours.blocks[shared // 2 :]) & set(theirs.blocks)
    assert blocks.free_count == 10 - len({*ours.blocks, *theirs.blocks})


def test_what_was_not_computed_is_not_known() -> None:
    blocks = BlockAllocator(total=10, size=2)
    table = blocks.allocate([1, 2, 3, 4, 5])
    assert table is not None
    blocks.mark_computed(table, [1, 2, 3, 4, 5], 3)

    other = blocks.allocate([1, 2, 3, 4, 5])
    assert other is not None and other.shared == 2


def test_a_beginning_outlives_its_sequence_until_its_room_is_needed() -> None:
    blocks = BlockAllocator(total=3, size=2)
    blocks.release(opened(blocks, [1, 2, 3, 4, 5]))
    assert blocks.free_count == 3

    again = opened(blocks, [1, 2, 3, 4, 6])
    assert again.shared == 4
    blocks.release(again)

    blocks.release(opened(blocks, [7, 8, 9]))
    left = opened(blocks, [1, 2, 3, 4, 6])
    assert left.shared == 2, "of what was given up, the block behind goes before the one in front of it"


def test_a_block_that_holds_something_else_is_no_beginning_any_more() -> None:
    blocks = BlockAllocator(total=2, size=2)
    blocks.release(opened(blocks, [1, 2, 3, 4]))
    blocks.release(opened(blocks, [5, 6, 7, 8]))

    assert opened(blocks, [1, 2, 3, 4]).shared == 0


def test_siblings_share_a_prompt_and_copy_the_block_that_they_write_into() -> None:
    blocks = BlockAllocator(total=6, size=2)
    first = opened(blocks, [1, 2, 3])
    second, third = blocks.fork(first), blocks.fork(first)
    assert blocks.free_count == 4

    assert blocks.extend(first, 4) == [(second.blocks[1], first.blocks[1])]
    assert blocks.extend(second, 4) == [(third.blocks[1], second.blocks[1])]
    assert blocks.extend(third, 4) == [], "nobody else is left"
    assert first.blocks[0] == second.blocks[0] == third.blocks[0]
    assert len({first.blocks[1], second.blocks[1], third.blocks[1]}) == 3

    assert blocks.extend(first, 5) == [], "a new block has nothing to copy"
    for table in (first, second, third):
        blocks.release(table)
    assert blocks.free_count == 6


def test_what_finds_no_room_changes_nothing() -> None:
    blocks = BlockAllocator(total=2, size=2)
    table = opened(blocks, [1, 2, 3])
    other = blocks.fork(table)

    assert blocks.allocate([9]) is None
    assert blocks.extend(table, 5) is None
    assert blocks.extend(table, 4) is None
    blocks.release(other)
    assert blocks.extend(table, 4) == []


@pytest.mark.parametrize(("spare", "fits"), [(2, True), (3, False)])
def test_room_can_be_spared(spare: int, fits: bool) -> None:
    blocks = BlockAllocator(total=4, size=2)
    assert (blocks.allocate([1, 2, 3], spare) is not None) == fits


def test_a_known_beginning_that_is_revived_is_not_counted_as_free() -> None:
    blocks = BlockAllocator(total=3, size=2)
    blocks.release(opened(blocks, [1, 2, 3]))

    assert blocks.allocate([1, 2, 3], spare=2) is None
    assert blocks.allocate([1, 2, 3], spare=1) is not None


@pytest.mark.parametrize("seed", range(5))
def test_no_block_is_lost_or_written_by_two(seed: int) -> None:
    rng, blocks = random.Random(seed), BlockAllocator(total=12, size=3)
    tables: list[tuple[BlockTable, list[int]]] = []
    held: dict[int, list[int]] = {}  # block -> what lies in its places

    def write(table: BlockTable, tokens: list[int], start: int) -> None:
        for place in range(start, len(tokens)):
            content = held.setdefault(table.blocks[place // 3], [0, 0, 0])
            content[place % 3] = hash(tuple(tokens[: place + 1]))

    for _ in range(400):
        action = rng.random()
        if action < 0.4:
            tokens = [rng.randint(0, 1) for _ in range(rng.randint(1, 10))]
            table = blocks.allocate(tokens)
            if table is not None:
                write(table, tokens, table.shared)
                blocks.mark_computed(table, tokens, len(tokens))
                tables.append((table, tokens))
        elif tables and action < 0.7:
            table, tokens = rng.choice(tables)
            copies = blocks.extend(table, len(tokens) + 1)
            if copies is not None:
                for source, target in copies:
                    held[target] = list(held[source])
                tokens.append(rng.randint(0, 1))
                write(table, tokens, len(tokens) - 1)
                blocks.mark_computed(table, tokens, len(tokens))
        elif tables and action < 0.8:
            table, tokens = rng.choice(tables)
            tables.append((blocks.fork(table), list(tokens)))
        elif tables:
            blocks.release(tables.pop(rng.randrange(len(tables)))[0])
        for table, tokens in tables:
            for place in range(len(tokens)):
                assert held[table.blocks[place // 3]][place % 3] == hash(tuple(tokens[: place + 1]))
        assert blocks.free_count == 12 - len({block for table, _ in tables for block in table.blocks})
