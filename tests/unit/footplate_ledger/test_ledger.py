"""The laws of the ledger: nothing is lost, nothing counts twice, and no order of tellings matters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import strategies as st

from footplate_contracts.names import Role
from footplate_contracts.v1alpha1.computeprofile import Capacity
from footplate_ledger.account import Account, Cost, Tariff
from footplate_ledger.intervals import Interval, unix_second
from footplate_ledger.node_shares import infer_nodes, split_node_time_by_pods
from footplate_ledger.prices import PriceBook, PriceBookEntry
from footplate_ledger.units import HourlyRate, Money, Seconds
from footplate_ledger.usage import (
    LAST_SEEN,
    RUNNING,
    TOLD,
    EndTime,
    NodeLifetime,
    Owner,
    PodAllocation,
    Sku,
    merge_pods,
)
from tests.support.ledger_reference import (
    IDLE,
    BillLine,
    bill_lines,
    build_accounts,
    merge_by_uid,
    segments,
    split_by_rate,
)
from tests.support.properties import given
from tests.support.usage_worlds import by_pod, sum_of

H100, A100, SPOT = Sku("h100"), Sku("a100"), Sku("h100", Capacity.SPOT, "eu-1")
RUN = Owner("TrainingRun", "research", "gpt", "u1")
NOW = 500
HOURLY = HourlyRate.dollars_per_hour(36)  # a cent a second


def node(uid: str = "n1", start: int = 0, end: int = 100, **changed: Any) -> NodeLifetime:
    usual = NodeLifetime(uid, uid, H100, start, EndTime(TOLD, end), devices=8)
    return replace(usual, **changed)


def pod(uid: str = "p1", start: int = 0, end: int = 100, known: int = TOLD, **changed: Any) -> PodAllocation:
    usual = PodAllocation(uid, RUN, Role.WORKER, 1, "n1", H100, start, EndTime(known, end), devices=8)
    return replace(usual, **changed)


def book(*entries: PriceBookEntry) -> PriceBook:
    return PriceBook(entries or [PriceBookEntry("e1", H100, HOURLY, 0)])


# -- sharing ---------------------------------------------------------------------------


def test_a_pod_with_all_devices_has_the_node_while_it_is_there() -> None:
    costs = by_pod(bill_lines([node()], [pod(start=10, end=30)], book(), NOW))
    assert costs["p1"].money == Money.dollars("0.20")
    assert costs[IDLE].money == Money.dollars("0.80")


def test_pods_share_by_devices_and_the_rest_is_idle() -> None:
    pods = [pod("a", devices=4), pod("b", start=50, devices=3)]
    costs = by_pod(bill_lines([node()], pods, book(), NOW))
    assert costs["a"].node_seconds == Seconds(Fraction(50))
    assert costs["b"].node_seconds == Seconds(Fraction(50 * 3, 8))
    assert costs[IDLE].node_seconds == Seconds(Fraction(100) - 50 - Fraction(150, 8))


def test_without_devices_pods_share_by_the_cpu_that_they_request() -> None:
    pods = [pod("a", devices=0, cpu=Fraction(3)), pod("b", devices=0, cpu=Fraction(1, 2))]
    [part] = split_node_time_by_pods(node(devices=0, cpu=Fraction(4)), pods, NOW)
    assert part.shares == {"a": Fraction(3, 4), "b": Fraction(1, 8)} and part.idle == Fraction(1, 8)


def test_a_pod_without_devices_has_nothing_of_a_node_with_some() -> None:
    [part] = split_node_time_by_pods(node(), [pod("coordinator", devices=0, cpu=Fraction(1))], NOW)
    assert part.shares == {} and part.idle == 1


def test_who_holds_more_together_than_there_is_shares_the_whole() -> None:
    [part] = split_node_time_by_pods(node(), [pod("a"), pod("b", devices=4)], NOW)
    assert part.shares == {"a": Fraction(2, 3), "b": Fraction(1, 3)} and part.idle == 0


def test_a_node_of_which_nothing_is_known_is_shared_by_what_its_pods_hold() -> None:
    [part] = split_node_time_by_pods(node(devices=0), [pod("a", devices=6), pod("b", devices=2)], NOW)
    assert part.shares == {"a": Fraction(3, 4), "b": Fraction(1, 4)}
    [part] = split_node_time_by_pods(node(devices=0), [pod("a", devices=0), pod("b", devices=0)], NOW)
    assert part.shares == {"a": Fraction(1, 2), "b": Fraction(1, 2)}


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(node(start=240, end=0), id="ends-before-it-begins"),
        pytest.param(node(start=NOW + 240, end=0), id="begins-later-than-now"),
        pytest.param(node(start=NOW + 240, end=NOW + 400), id="is-there-later-than-now"),
        pytest.param(replace(node(start=NOW + 240), end=EndTime(RUNNING, NOW)), id="is-not-over"),
    ],
)
def test_nothing_is_held_of_a_node_that_has_no_time(there: NodeLifetime) -> None:
    pods = [pod(start=0, end=240), pod("p2", start=NOW, end=NOW + 900)]
    assert list(split_node_time_by_pods(there, pods, NOW)) == []
    assert list(bill_lines([there], pods, book(), NOW)) == []


# -- prices ----------------------------------------------------------------------------


def test_usage_is_split_at_the_second_of_a_change() -> None:
    dearer = PriceBookEntry("e2", H100, HourlyRate.dollars_per_hour(72), 40)
    found = list(bill_lines([node()], [pod()], book(PriceBookEntry("e1", H100, HOURLY, 0), dearer), NOW))
    assert [(line.span, line.cost) for line in found] == [
        (Interval(0, 40), Money.dollars("0.40")),
        (Interval(40, 100), Money.dollars("1.20")),
    ]


def test_no_price_is_unknown_and_not_nothing() -> None:
    found = list(bill_lines([node()], [pod()], book(PriceBookEntry("e1", H100, HOURLY, 60)), NOW))
    assert [line.cost for line in found] == [None, Money.dollars("0.40")]
    assert sum_of(found) == Cost(
        Money.dollars("0.40"), Seconds(Fraction(100)), unpriced=Seconds(Fraction(60))
    )


@pytest.mark.parametrize("sku", [SPOT, Sku("a100"), Sku("h100", Capacity.RESERVED)])
def test_a_price_is_that_of_its_sku_alone(sku: Sku) -> None:
    assert book().rate(sku, 50) is None


def test_an_entry_of_no_region_holds_where_a_region_has_none_of_its_own_in_force() -> None:
    here = replace(H100, region="eu-1")
    prices = book(
        PriceBookEntry("e1", H100, HOURLY, 0),
        PriceBookEntry("e2", here, HourlyRate(Fraction(7)), 40, effective_to=60),
    )
    found = [(part, rate == HOURLY) for part, rate in split_by_rate(prices, here, Interval(0, 100))]
    assert found == [(Interval(0, 40), True), (Interval(40, 60), False), (Interval(60, 100), True)]
    assert prices.rate(replace(H100, region="us-1"), 50) == prices.rate(H100, 50) == HOURLY


def test_an_entry_ends_where_it_says_or_a_later_one_begins() -> None:
    prices = PriceBook(
        [
            PriceBookEntry("always", H100, HourlyRate(Fraction(1)), 0),
            PriceBookEntry("offer", H100, HourlyRate(Fraction(2)), 10, effective_to=20),
            PriceBookEntry("later", H100, HourlyRate(Fraction(3)), 30),
        ]
    )
    seen = [prices.rate(H100, moment) for moment in (-1, 0, 9, 10, 19, 20, 29, 30)]
    assert [None if rate is None else int(rate.exact) for rate in seen] == [None, 1, 1, 2, 2, 1, 1, 3]


def test_a_correction_takes_the_place_of_what_it_supersedes() -> None:
    wrong = PriceBookEntry("e1", H100, HourlyRate(Fraction(9)), 0, created_at=5)
    right = PriceBookEntry("e2", H100, HourlyRate(Fraction(7)), 0, created_at=90, supersedes="e1")
    prices = PriceBook([right, wrong])
    assert prices.rate(H100, 50) == HourlyRate(Fraction(7))
    said = [(4, None), (5, HourlyRate(Fraction(9))), (90, HourlyRate(Fraction(7)))]
    assert prices.rate_history(H100, 50, 4) == said
    assert prices.rate_history(H100, 50, 89) == [(89, HourlyRate(Fraction(9))), said[-1]]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(
            PriceBookEntry("e2", A100, HourlyRate(Fraction(7)), 0, created_at=90, supersedes="e1"),
            id="profile",
        ),
        pytest.param(
            PriceBookEntry("e2", H100, HourlyRate(Fraction(7)), 99, created_at=90, supersedes="e3"),
            id="nothing",
        ),
    ],
)
def test_what_cannot_be_a_correction_ends_nothing(other: PriceBookEntry) -> None:
    prices = PriceBook([other, PriceBookEntry("e1", H100, HourlyRate(Fraction(9)), 0, created_at=5)])
    assert prices.rate(H100, 50) == HourlyRate(Fraction(9)) and prices.corrected_by("e1") is None


def test_a_correction_is_one_in_a_restored_cluster_that_made_it_first() -> None:
    wrong = PriceBookEntry("e1", H100, HourlyRate(Fraction(9)), 0, created_at=90)
    right = PriceBookEntry("e2", H100, HourlyRate(Fraction(7)), 0, created_at=89, supersedes="e1")
    for entries in ([wrong, right], [right, wrong]):
        assert PriceBook(entries).rate(H100, 50) == HourlyRate(Fraction(7))


# -- what is known of a pod -------------------------------------------------------------


def test_kubernetes_times_stand_over_the_last_evidence() -> None:
    running, seen, told = (
        replace(pod(), end=end) for end in (EndTime(RUNNING, 90), EndTime(LAST_SEEN, 80), EndTime(TOLD, 70))
    )
    assert merge_pods(told, seen) == merge_pods(running, told) == told
    assert merge_pods(running, seen) == seen
    assert seen.end.estimated and not told.end.estimated


def test_what_its_node_has_is_known_once_anybody_told_it() -> None:
    first = replace(pod(), end=EndTime(RUNNING, 50), node_devices=8)
    then = replace(pod(), end=EndTime(TOLD, 90))
    assert merge_pods(first, then) == merge_pods(then, first) == replace(then, node_devices=8)


@pytest.mark.parametrize("seconds", [-60, 0, 60])
def test_a_spare_that_became_a_worker_is_one_whatever_a_clock_said(seconds: int) -> None:
    spare = replace(pod(), role=Role.SPARE, end=EndTime(RUNNING, 100))
    worker = replace(spare, role=Role.WORKER, end=EndTime(RUNNING, 100 + seconds))
    assert merge_pods(spare, worker).role is merge_pods(worker, spare).role is Role.WORKER


def test_two_pods_are_not_merged() -> None:
    with pytest.raises(ValueError, match="p2"):
        merge_pods(pod(), pod("p2"))


# -- laws ------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Nodes, tellings of their pods, prices."""

    nodes: tuple[NodeLifetime, ...]
    tellings: tuple[PodAllocation, ...]
    book: PriceBook

    def lines(self, window: Interval) -> list[BillLine]:
        return list(bill_lines(self.nodes, merge_by_uid(self.tellings).values(), self.book, NOW, window))


MOMENTS = st.integers(0, 200)
GOODS = st.sampled_from([H100, SPOT])
ENDS = st.builds(EndTime, st.sampled_from([RUNNING, LAST_SEEN, TOLD]), MOMENTS)
CPUS = st.fractions(0, 8, max_denominator=10)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    uids = [f"n{number}" for number in range(draw(st.integers(1, 3)))]
    nodes = [
        NodeLifetime(uid, uid, draw(GOODS), draw(MOMENTS), draw(ENDS), draw(st.integers(0, 8)), draw(CPUS))
        for uid in uids
    ]
    tellings = [
        PodAllocation(
            f"p{draw(st.integers(0, 5))}",
            RUN,
            draw(st.sampled_from(Role)),
            draw(st.integers(1, 3)),
            draw(st.sampled_from(uids)),
            H100,
            draw(MOMENTS),
            draw(ENDS),
            draw(st.integers(0, 8)),
            draw(CPUS),
            node_devices=draw(st.integers(0, 8)),
        )
        for _ in range(draw(st.integers(0, 10)))
    ]
    entries = [
        PriceBookEntry(
            f"e{number}",
            draw(GOODS),
            HourlyRate(Fraction(draw(st.integers(0, 10**12)))),
            draw(MOMENTS),
            draw(MOMENTS),
            draw(MOMENTS),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    return World(tuple(nodes), tuple(tellings), PriceBook(entries))


WINDOWS = st.builds(lambda start, length: Interval(start, start + length), MOMENTS, MOMENTS)


@given(worlds(), WINDOWS, examples=50)
def test_runs_and_idle_together_are_the_nodes(world: World, window: Interval) -> None:
    alone = list(bill_lines(world.nodes, [], world.book, NOW, window))
    assert {line.pod for line in alone} <= {IDLE}
    assert _known(sum_of(world.lines(window))) == _known(sum_of(alone))


def _known(cost: Cost) -> tuple[Money, Seconds, Seconds]:
    return cost.money, cost.node_seconds, cost.unpriced


@given(worlds(), WINDOWS, st.lists(MOMENTS, max_size=4), examples=50)
def test_parts_of_a_window_are_the_whole(world: World, window: Interval, cuts: list[int]) -> None:
    parts = [by_pod(world.lines(part)) for part in window.cut(cuts)]
    whole = by_pod(world.lines(window))
    for uid in whole:
        assert sum((part[uid] for part in parts if uid in part), Cost()) == whole[uid]


@st.composite
def unseen(draw: st.DrawFn) -> list[PodAllocation]:
    """Pods of several profiles on a node of which nobody else tells."""
    pods = []
    for number in range(draw(st.integers(0, 6))):
        start, length = draw(MOMENTS), draw(st.integers(1, 100))
        pods.append(
            pod(
                f"p{number}",
                sku=draw(st.sampled_from([H100, SPOT, A100])),
                start=start,
                end=start + length,
                known=draw(st.sampled_from([RUNNING, LAST_SEEN, TOLD])),
                devices=draw(st.sampled_from([0, 1, 4])),
                node_devices=draw(st.sampled_from([0, 4, 8])),
            )
        )
    return pods


PRICED = Tariff(
    book(
        PriceBookEntry("e1", H100, HOURLY, 0),
        PriceBookEntry("e2", SPOT, HourlyRate.dollars_per_hour(7), 0),
        PriceBookEntry("e3", A100, HourlyRate.dollars_per_hour(11), 0),
        PriceBookEntry("e4", A100, HourlyRate.dollars_per_hour(13), 90, effective_to=150),
    )
)


def read(pods: list[PodAllocation], window: Interval) -> list[PodAllocation]:
    """Those who are there in a window: nobody who is asked about it reads any others."""
    return [known for known in pods if known.span(NOW).within(window)]


@given(unseen(), WINDOWS, st.lists(MOMENTS, max_size=4), examples=100)
def test_parts_of_a_window_are_the_whole_where_only_pods_tell_of_nodes(
    pods: list[PodAllocation], window: Interval, cuts: list[int]
) -> None:
    whole = build_accounts([], read(pods, window), PRICED, NOW, window)
    parts = [build_accounts([], read(pods, part), PRICED, NOW, part) for part in window.cut(cuts)]
    for uid in whole.keys() | {uid for part in parts for uid in part}:
        found = sum((part[uid].cost for part in parts if uid in part), Cost())
        assert found == whole.get(uid, Account()).cost, uid
    nodes = [known for known, _ in infer_nodes(pods, NOW)]
    alone = sum_of(bill_lines(nodes, [], PRICED.book, NOW, window))
    assert _known(sum((account.cost for account in whole.values()), Cost())) == _known(alone)


@given(worlds(), st.randoms(use_true_random=False), st.lists(st.integers(0, 9), max_size=6), examples=50)
def test_any_order_and_any_repetition_is_the_same_ledger(world: World, chance: Any, again: list[int]) -> None:
    tellings = [*world.tellings, *(world.tellings[at] for at in again if at < len(world.tellings))]
    chance.shuffle(tellings)
    nodes = list(world.nodes)
    chance.shuffle(nodes)
    entries = list(world.book.entries)
    chance.shuffle(entries)
    other = World(tuple(nodes), tuple(tellings), PriceBook(entries))
    window = Interval(0, NOW)
    assert sorted(other.lines(window), key=_order) == sorted(world.lines(window), key=_order)


def _order(line: BillLine) -> tuple[object, ...]:
    return line.node, line.span, line.pod


@given(worlds(), st.integers(0, 10), examples=50)
def test_any_split_of_deliveries_is_the_same_ledger(world: World, at: int) -> None:
    first, rest = merge_by_uid(world.tellings[:at]), merge_by_uid(world.tellings[at:])
    assert merge_by_uid([*first.values(), *rest.values()]) == merge_by_uid(world.tellings)
    assert merge_by_uid([*rest.values(), *first.values()]) == merge_by_uid(world.tellings)


@given(worlds(), examples=50)
def test_no_second_counts_twice(world: World) -> None:
    for node_usage in world.nodes:
        parts = list(split_node_time_by_pods(node_usage, merge_by_uid(world.tellings).values(), NOW))
        assert [part.span for part in parts] == segments([part.span for part in parts])
        for part in parts:
            assert sum(part.shares.values()) + part.idle == 1 and 0 <= part.idle <= 1
            assert all(share > 0 for share in part.shares.values())


def test_a_second_is_the_one_that_a_moment_lies_in() -> None:
    assert unix_second(datetime(1970, 1, 1, 0, 0, 5, 999_999, UTC)) == 5
