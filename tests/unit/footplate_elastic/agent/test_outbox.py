"""Nothing leaves the outbox before it is durable, and nothing is sent twice to the same coordinator."""

from __future__ import annotations

from footplate_contracts.reports import GenerationId
from footplate_elastic.agent.outbox import CHUNK, Outbox
from tests.unit.footplate_elastic.coordinator.test_telemetry import row

G1 = GenerationId(epoch=1, number=1)


def filled(rows: int, capacity: int = 10_000) -> Outbox:
    outbox = Outbox(capacity)
    for step in range(1, rows + 1):
        outbox.metrics(G1, row(step))
    return outbox


def sequences(outbox: Outbox, received: int) -> list[int]:
    return [item.sequence for item in outbox.next(received)]


def test_what_is_not_received_is_sent_in_order() -> None:
    assert sequences(filled(3), 1) == [2, 3]


def test_what_is_received_but_not_durable_is_kept_for_the_next_coordinator() -> None:
    outbox = filled(3)
    assert sequences(outbox, 3) == []
    assert sequences(outbox, 0) == [1, 2, 3]


def test_what_is_durable_is_forgotten() -> None:
    outbox = filled(3)
    outbox.forget(2)
    assert sequences(outbox, 0) == [3]


def test_the_oldest_item_is_the_first_that_may_be_asked_for_again() -> None:
    outbox = filled(3)
    seen = [outbox.oldest]
    for acknowledged in (2, 3):
        outbox.forget(acknowledged)
        seen.append(outbox.oldest)
    assert seen == [1, 3, 4]


def test_a_heartbeat_carries_a_chunk() -> None:
    outbox = filled(CHUNK + 20)
    assert sequences(outbox, 0) == list(range(1, CHUNK + 1))
    assert sequences(outbox, CHUNK) == list(range(CHUNK + 1, CHUNK + 21))


def test_a_full_outbox_loses_the_oldest() -> None:
    assert sequences(filled(5, capacity=2), 0) == [4, 5]
