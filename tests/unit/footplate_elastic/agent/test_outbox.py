"""Nothing leaves the outbox before it is durable, and nothing is sent twice to the same coordinator."""

from __future__ import annotations

import pytest

from footplate_contracts.reports import CheckpointRecord, CheckpointRemoval, GenerationId, TelemetryItem
from footplate_contracts.samples import truncate_samples
from footplate_elastic.agent.outbox import CHUNK, CHUNK_BYTES, ENTRY, Outbox
from footplate_elastic.protocol.unstored_rows import RowKey
from tests.support.growth import kept
from tests.support.samples import longest, shown
from tests.unit.footplate_elastic.coordinator.test_telemetry import row

G1 = GenerationId(epoch=1, number=1)


def filled(rows: int, room: int = 10_000) -> Outbox:
    """An outbox with room for so many of them."""
    item = TelemetryItem(sequence=1, generation=G1, metrics=row(1))
    outbox = Outbox(room * (len(item.model_dump_json(by_alias=True, exclude_none=True)) + ENTRY))
    for step in range(1, rows + 1):
        outbox.metrics(G1, row(step))
    return outbox


def sequences(outbox: Outbox, received: int) -> list[int]:
    return [item.sequence for item in outbox.pending_items(received)]


def test_what_is_not_received_is_sent_in_order() -> None:
    assert sequences(filled(3), 1) == [2, 3]


def test_what_is_received_but_not_durable_is_kept_for_the_next_coordinator() -> None:
    outbox = filled(3)
    assert sequences(outbox, 3) == []
    assert sequences(outbox, 0) == [1, 2, 3]


def test_what_is_durable_is_forgotten() -> None:
    outbox = filled(3)
    outbox.acknowledge(2)
    assert sequences(outbox, 0) == [3]


def test_the_last_row_that_has_become_durable_is_named_once() -> None:
    outbox = filled(3)
    outbox.checkpoint(G1, CheckpointRecord(step=3, uri="/c", time=1.0))
    outbox.metrics(None, row(4))  # of a rank that does not say which generation it is of
    named = [outbox.acknowledge(acknowledged) for acknowledged in (0, 2, 2, 5)]
    assert named == [None, RowKey(G1, 2), None, RowKey(G1, 3)]


def test_a_removal_waits_behind_the_record_of_what_it_made_room_for() -> None:
    outbox = Outbox()
    record = CheckpointRecord(step=9, uri="/c", time=1.0)
    removal = CheckpointRemoval(step=3, generation=G1, time=2.0)
    outbox.checkpoint(G1, record)
    outbox.removal(G1, removal)
    assert [(item.checkpoint, item.removal) for item in outbox.pending_items(0)] == [
        (record, None),
        (None, removal),
    ]


def test_the_oldest_item_is_the_first_that_may_be_asked_for_again() -> None:
    outbox = filled(3)
    seen = [outbox.oldest]
    for acknowledged in (2, 3):
        outbox.acknowledge(acknowledged)
        seen.append(outbox.oldest)
    assert seen == [1, 3, 4]


def test_a_heartbeat_carries_a_chunk() -> None:
    outbox = filled(CHUNK + 20)
    assert sequences(outbox, 0) == list(range(1, CHUNK + 1))
    assert sequences(outbox, CHUNK) == list(range(CHUNK + 1, CHUNK + 21))


def test_a_full_outbox_loses_the_oldest_and_counts_it() -> None:
    outbox = filled(5, room=2)
    assert (sequences(outbox, 0), outbox.overflowed, outbox.overflowed_told) == ([4, 5], 3, 0)


def test_what_is_dropped_here_and_waits_with_the_coordinator_is_not_lost() -> None:
    outbox = filled(2, room=2)
    outbox.record_answer(received=1, overflowed=0)
    for step in (3, 4):
        outbox.metrics(G1, row(step))
    assert (sequences(outbox, 1), outbox.overflowed) == ([3, 4], 1)


def test_what_another_coordinator_has_received_is_gone_with_it() -> None:
    outbox = filled(2, room=2)
    for received in (2, 0):  # its successor has nothing
        outbox.record_answer(received, overflowed=0)
    outbox.metrics(G1, row(3))
    assert outbox.overflowed == 1


def test_what_a_coordinator_has_answered_to_is_told() -> None:
    outbox = filled(5, room=2)
    for overflowed in (2, 1):  # two threads of an agent may overtake each other
        outbox.record_answer(received=0, overflowed=overflowed)
    assert (outbox.overflowed, outbox.overflowed_told) == (3, 2)


def test_a_large_item_takes_the_place_of_several() -> None:
    outbox = filled(5, room=5)
    outbox.metrics(G1, row(6).model_copy(update={"values": {"reward": 1.0, "kl": 2.0}}))
    assert (sequences(outbox, 0), outbox.overflowed, outbox.oldest) == ([3, 4, 5, 6], 2, 3)


def test_a_heartbeat_has_room_for_the_samples_of_some_steps() -> None:
    outbox = Outbox()
    for step in range(1, 201):
        outbox.metrics(G1, row(step), truncate_samples([longest()] * 8))
    first = outbox.pending_items(0)
    assert [item.sequence for item in first] == list(range(1, len(first) + 1))
    sent = sum(len(item.model_dump_json(by_alias=True, exclude_none=True).encode()) for item in first)
    assert CHUNK_BYTES - 100_000 < sent <= CHUNK_BYTES
    assert [item.samples for item in outbox.pending_items(199)] == [truncate_samples([longest()] * 8)]


def test_rows_come_before_samples_where_there_is_little_room() -> None:
    outbox = filled(0, room=100)
    for step in range(1, 71):
        outbox.metrics(G1, row(step), [shown(step)])
    with_samples = [item.sequence for item in outbox.pending_items(0) if item.samples]
    assert 0 < len(with_samples) < 70 and with_samples == list(range(1, len(with_samples) + 1))
    assert (sequences(outbox, 0), outbox.overflowed) == (list(range(1, 71)), 0)


@pytest.mark.parametrize("numbers", [0, 64])
def test_what_is_kept_takes_no_more_than_its_bytes(numbers: int) -> None:
    outbox = Outbox(500_000)
    values = {f"reward-{number}": 0.5 for number in range(numbers)} or None

    def fill() -> None:
        while not outbox.overflowed:
            outbox.metrics(G1, row(outbox.sequence + 1).model_copy(update={"values": values}))

    assert 400_000 < kept(fill) < 510_000
    assert outbox.pending_items(0)[0].metrics == row(2).model_copy(update={"values": values})
