"""What is kept, what may be forgotten, and when it is sent again."""

from __future__ import annotations

import math

import pytest

from footplate_contracts.metrics import StepMetrics
from footplate_contracts.rendezvous import Heartbeat
from footplate_contracts.reports import (
    CheckpointRecord,
    CheckpointRemoval,
    DroppedTelemetry,
    GenerationId,
    GenerationRow,
    TelemetryBatch,
    TelemetryItem,
)
from footplate_elastic.coordinator.telemetry import BATCH_BYTES, ENTRY, TelemetryBuffer
from tests.support.growth import kept
from tests.support.samples import shown
from tests.unit.footplate_elastic.coordinator.story import agent

G1, G2 = GenerationId(epoch=1, number=1), GenerationId(epoch=1, number=2)


def row(step: int) -> StepMetrics:
    return StepMetrics(
        step=step,
        time=float(step),
        loss=1.0,
        gradient_norm=1.0,
        learning_rate=0.1,
        tokens=step,
        tokens_per_second=1.0,
        sample_digest="0" * 16,
    )


def item(sequence: int, generation: GenerationId | None = G1) -> TelemetryItem:
    return TelemetryItem(sequence=sequence, generation=generation, metrics=row(sequence))


def room(rows: int) -> int:
    """Bytes that so many of them take."""
    text = GenerationRow(generation=G1, metrics=row(1)).model_dump_json(by_alias=True, exclude_none=True)
    return rows * (len(text) + ENTRY)


def sent(buffer: TelemetryBuffer) -> tuple[TelemetryBatch, int]:
    """What is sent next, as the API reads it, and how many entries that are."""
    batch = buffer.batch("uid", 1)
    assert batch is not None
    read = TelemetryBatch.model_validate_json(batch.text)
    assert (read.run_uid, read.epoch, read.given_up) == ("uid", 1, batch.given_up)
    return read, batch.count


def items(first: int, last: int) -> list[TelemetryItem]:
    return [item(sequence) for sequence in range(first, last + 1)]


def test_without_an_api_what_is_received_may_be_forgotten() -> None:
    buffer = TelemetryBuffer(keep=False)
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    assert (buffer.received(agent(0)), buffer.acknowledged(agent(0)), len(buffer)) == (3, 3, 0)


def test_with_an_api_only_what_it_stored_may_be_forgotten() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    assert (buffer.received(agent(0)), buffer.acknowledged(agent(0))) == (3, 0)
    batch, count = sent(buffer)
    assert [entry.metrics.step for entry in batch.rows] == [1, 2, 3]
    buffer.mark_stored(count, DroppedTelemetry())
    assert buffer.acknowledged(agent(0)) == 3
    assert buffer.batch("uid", 1) is None


def test_what_is_sent_twice_is_queued_once() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    assert [entry.metrics.step for entry in buffer.add_items(agent(0), items(2, 5), 1, G1)] == [4, 5]
    assert len(buffer) == 5


def test_a_replaced_coordinator_takes_up_where_the_agent_is() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), items(501, 502), 501, G1)
    assert (buffer.received(agent(0)), buffer.acknowledged(agent(0))) == (502, 500)


def test_what_was_sent_to_the_coordinator_before_is_not_taken_for_stored() -> None:
    buffer = TelemetryBuffer(keep=True)
    assert buffer.add_items(agent(0), items(11, 12), 1, G1) == []
    assert (buffer.received(agent(0)), buffer.acknowledged(agent(0))) == (0, 0)
    assert len(buffer.add_items(agent(0), items(1, 12), 1, G1)) == 12


def test_incarnations_count_for_themselves() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0, 0), items(1, 3), 1, G1)
    buffer.add_items(agent(0, 1), items(1, 1), 1, G2)
    assert (buffer.received(agent(0, 0)), buffer.received(agent(0, 1))) == (3, 1)


def test_a_full_queue_takes_nothing_and_the_agent_keeps_it() -> None:
    buffer = TelemetryBuffer(keep=True, capacity=room(2))
    assert len(buffer.add_items(agent(0), items(1, 5), 1, G1)) == 2
    assert (buffer.received(agent(0)), len(buffer)) == (2, 2)
    buffer.mark_stored(2, DroppedTelemetry())
    buffer.add_items(agent(0), items(3, 5), 1, G1)
    assert buffer.received(agent(0)) == 4


@pytest.mark.parametrize("numbers", [0, 64])
def test_what_waits_takes_no_more_than_its_bytes(numbers: int) -> None:
    buffer, word = TelemetryBuffer(keep=True, capacity=500_000), Heartbeat(agent=agent(0), outbox_oldest=1)
    values = {f"reward-{number}": 0.5 for number in range(numbers)} or None

    def fill() -> None:
        sequence = 1
        while sequence == buffer.received(word.agent) + 1:
            metrics = row(sequence).model_copy(update={"values": values})
            offered = Heartbeat(agent=word.agent, outbox=[TelemetryItem(sequence=sequence, metrics=metrics)])
            read = Heartbeat.model_validate_json(offered.model_dump_json(by_alias=True, exclude_none=True))
            buffer.add_items(read.agent, read.outbox, 1, G1)
            sequence += 1

    assert 400_000 < kept(fill) < 510_000
    assert sent(buffer)[0].rows[0].metrics == row(1).model_copy(update={"values": values})


def test_a_row_keeps_the_generation_that_computed_it() -> None:
    buffer = TelemetryBuffer(keep=True)
    rows = buffer.add_items(agent(0), [item(1, G1), item(2, None)], 1, G2)
    assert [entry.generation for entry in rows] == [G1, G2]


def test_batches_are_bounded_and_keep_their_order() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), items(1, 6000), 1, G1)
    batch, count = sent(buffer)
    assert count == 1000 and batch.rows[-1].metrics.step == 1000


def test_rows_with_many_further_numbers_fill_a_batch_sooner() -> None:
    buffer = TelemetryBuffer(keep=True)
    values = {f"reward-{number}": math.nan for number in range(64)}
    for sequence in range(1, 1001):
        metrics = row(sequence).model_copy(update={"values": values})
        buffer.add_items(agent(0), [TelemetryItem(sequence=sequence, metrics=metrics)], 1, G1)
    found = buffer.batch("uid", 1)
    assert found is not None and BATCH_BYTES - 2000 < len(found.text) < BATCH_BYTES + 2000
    batch, count = sent(buffer)
    assert count == len(batch.rows) and batch.rows[0].metrics.values is not None


def with_samples(sequence: int) -> TelemetryItem:
    return TelemetryItem(sequence=sequence, metrics=row(sequence), samples=[shown(sequence)])


def test_samples_are_sent_with_their_row_until_the_api_has_it() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), [item(1), with_samples(2)], 1, G1)
    for _ in range(2):  # the API may not have answered
        batch, count = sent(buffer)
        assert [entry.samples for entry in batch.rows] == [None, [shown(2)]]
    buffer.mark_stored(count, DroppedTelemetry())
    assert buffer.acknowledged(agent(0)) == 2 and not buffer.has_pending


def test_rows_come_before_samples_where_there_is_little_room() -> None:
    buffer = TelemetryBuffer(keep=True, capacity=room(100))
    taken = buffer.add_items(agent(0), [with_samples(sequence) for sequence in range(1, 71)], 1, G1)
    have = [entry.metrics.step for entry in taken if entry.samples]
    assert 0 < len(have) < 70 and have == list(range(1, len(have) + 1))
    assert [entry.metrics.step for entry in sent(buffer)[0].rows] == list(range(1, 71))


def test_the_newest_checkpoint_is_known() -> None:
    buffer = TelemetryBuffer(keep=True)
    for sequence, step in enumerate((10, 20, 15, 20), start=1):
        record = CheckpointRecord(step=step, uri=f"/c/{step}", time=1.0)
        buffer.add_items(agent(0), [TelemetryItem(sequence=sequence, checkpoint=record)], 1, G1)
    assert buffer.checkpoint is not None and buffer.checkpoint.step == 20
    assert buffer.checkpoint_steps == (10, 15, 20)


@pytest.mark.parametrize(
    ("first", "second", "kept"),
    [
        pytest.param(G1, G2, G2, id="newer-generation-with-an-earlier-clock"),
        pytest.param(G2, G1, G2, id="older-generation-that-is-late"),
        pytest.param(None, G1, G1, id="after-one-of-an-earlier-trainer"),
        pytest.param(G1, None, G1, id="before-one-of-an-earlier-trainer"),
    ],
)
def test_of_two_records_of_one_step_that_of_the_newer_generation_counts(
    first: GenerationId | None, second: GenerationId | None, kept: GenerationId
) -> None:
    buffer = TelemetryBuffer(keep=True)
    for sequence, generation in enumerate((first, second), start=1):
        record = CheckpointRecord(step=50, uri="/c", time=100.0 - sequence, generation=generation)
        buffer.add_items(agent(0), [TelemetryItem(sequence=sequence, checkpoint=record)], 1, G1)
    assert buffer.checkpoint is not None and buffer.checkpoint.generation == kept


def test_a_removal_is_kept_until_the_api_has_it() -> None:
    buffer = TelemetryBuffer(keep=True)
    removal = CheckpointRemoval(step=50, generation=G1, time=1.0)
    buffer.add_items(agent(0), [TelemetryItem(sequence=1, generation=G2, removal=removal), item(2)], 1, G2)
    assert (buffer.received(agent(0)), buffer.acknowledged(agent(0))) == (2, 0)
    batch, count = sent(buffer)
    assert (batch.removals, len(batch.rows), count) == ([removal], 1, 2)


def overflow(index: int, incarnation: int, total: int, told: int = 0) -> Heartbeat:
    return Heartbeat(agent=agent(index, incarnation), overflowed=total, overflowed_told=told)


@pytest.mark.parametrize(
    ("words", "overflowed"),
    [
        pytest.param([overflow(0, 0, 3), overflow(0, 0, 5)], 5, id="a-total-is-no-sum"),
        pytest.param([overflow(0, 0, 5), overflow(0, 0, 3)], 5, id="two-threads-overtake-each-other"),
        pytest.param([overflow(0, 0, 3), overflow(1, 0, 4)], 7, id="of-all-agents"),
        pytest.param([overflow(0, 0, 3), overflow(0, 1, 0), overflow(0, 1, 2)], 5, id="the-next-incarnation"),
        pytest.param([overflow(0, 0, 9, told=7)], 2, id="an-earlier-coordinator-has-counted-some"),
        pytest.param([overflow(0, 0, 9, told=7), overflow(0, 0, 9, told=9)], 2, id="and-goes-on-from-there"),
    ],
)
def test_what_outboxes_had_no_room_for_is_summed_up(words: list[Heartbeat], overflowed: int) -> None:
    buffer = TelemetryBuffer(keep=True)
    for word in words:
        buffer.update_overflow(word)
    assert buffer.given_up == DroppedTelemetry(overflowed=overflowed)


def test_counts_alone_are_sent_once() -> None:
    buffer = TelemetryBuffer(keep=True)
    assert not buffer.has_pending and buffer.batch("uid", 1) is None
    buffer.update_overflow(overflow(0, 0, 3))
    batch, count = sent(buffer)
    assert buffer.has_pending
    assert (batch.given_up, batch.rows, count) == (DroppedTelemetry(overflowed=3), [], 0)
    buffer.update_overflow(overflow(0, 0, 4))  # while that one is on its way
    buffer.mark_stored(count, batch.given_up)
    assert buffer.has_pending
    buffer.mark_stored(0, DroppedTelemetry(overflowed=4))
    assert not buffer.has_pending and buffer.batch("uid", 1) is None


def test_what_the_api_will_never_take_is_counted() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.add_items(agent(0), items(1, 3), 1, G1)
    buffer.drop_refused(2, DroppedTelemetry())
    assert (buffer.given_up, buffer.acknowledged(agent(0)), len(buffer)) == (
        DroppedTelemetry(refused=2),
        2,
        1,
    )


@pytest.mark.parametrize("keep", [True, False])
def test_an_entry_that_cannot_be_read_is_counted_once(keep: bool) -> None:
    buffer, odd = TelemetryBuffer(keep=keep), TelemetryItem(sequence=2, generation=G1)
    for _ in range(2):
        buffer.add_items(agent(0), [item(1), odd, item(3)], 1, G1)
    if keep:
        batch, count = sent(buffer)
        assert ([row.metrics.step for row in batch.rows], count) == ([1, 3], 3)
        buffer.mark_stored(count, batch.given_up)
    assert buffer.given_up == DroppedTelemetry(refused=1)
    assert (buffer.acknowledged(agent(0)), buffer.has_pending) == (3, True)


def test_counts_that_the_api_does_not_take_are_not_told_again() -> None:
    buffer = TelemetryBuffer(keep=True)
    buffer.update_overflow(overflow(0, 0, 3))
    buffer.drop_refused(0, DroppedTelemetry(overflowed=3))
    assert (buffer.given_up, buffer.has_pending) == (DroppedTelemetry(overflowed=3), False)


def test_a_record_that_names_no_generation_is_of_the_ranks_that_gave_it() -> None:
    buffer = TelemetryBuffer(keep=True)
    record = CheckpointRecord(step=50, uri="/c", time=1.0)
    buffer.add_items(agent(0), [TelemetryItem(sequence=1, generation=G1, checkpoint=record)], 1, G2)
    batch, _ = sent(buffer)
    assert [entry.generation for entry in batch.checkpoints] == [G1]
    assert buffer.checkpoint is not None and buffer.checkpoint.generation == G1
