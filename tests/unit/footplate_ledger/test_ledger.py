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
from footplate_ledger.account import Account, Tariff, accounts
from footplate_ledger.bill import IDLE, Cost, Line, lines
from footplate_ledger.prices import Book, Entry
from footplate_ledger.sharing import held, told_by
from footplate_ledger.time import Span, second, segments
from footplate_ledger.units import Money, Rate, Seconds
from footplate_ledger.usage import (
    LAST_SEEN,
    RUNNING,
    TOLD,
    Evidence,
    Goods,
    NodeUsage,
    Owner,
    PodUsage,
    gathered,
    merged,
)
from tests.support.bills import by_pod, sum_of
from tests.support.properties import given

H100, A100, SPOT = Goods("h100"), Goods("a100"), Goods("h100", Capacity.SPOT, "eu-1")
RUN = Owner("TrainingRun", "research", "gpt", "u1")
NOW = 500
HOURLY = Rate.dollars_per_hour(36)  # a cent a second


def node(uid: str = "n1", start: int = 0, end: int = 100, **changed: Any) -> NodeUsage:
    usual = NodeUsage(uid, uid, H100, start, Evidence(TOLD, end), devices=8)
    return replace(usual, **changed)


def pod(uid: str = "p1", start: int = 0, end: int = 100, known: int = TOLD, **changed: Any) -> PodUsage:
    usual = PodUsage(uid, RUN, Role.WORKER, 1, "n1", H100, start, Evidence(known, end), devices=8)
    return replace(usual, **changed)


def book(*entries: Entry) -> Book:
    return Book(entries or [Entry("e1", H100, HOURLY, 0)])


# -- sharing ---------------------------------------------------------------------------


def test_a_pod_with_all_devices_has_the_node_while_it_is_there() -> None:
    costs = by_pod(lines([node()], [pod(start=10, end=30)], book(), NOW))
    assert costs["p1"].money == Money.dollars("0.20")
    assert costs[IDLE].money == Money.dollars("0.80")


def test_pods_share_by_devices_and_the_rest_is_idle() -> None:
    pods = [pod("a", devices=4), pod("b", start=50, devices=3)]
    costs = by_pod(lines([node()], pods, book(), NOW))
    assert costs["a"].node_seconds == Seconds(Fraction(50))
    assert costs["b"].node_seconds == Seconds(Fraction(50 * 3, 8))
    assert costs[IDLE].node_seconds == Seconds(Fraction(100) - 50 - Fraction(150, 8))


def test_without_devices_pods_share_by_the_cpu_that_they_request() -> None:
    pods = [pod("a", devices=0, cpu=Fraction(3)), pod("b", devices=0, cpu=Fraction(1, 2))]
    [part] = held(node(devices=0, cpu=Fraction(4)), pods, NOW)
    assert part.shares == {"a": Fraction(3, 4), "b": Fraction(1, 8)} and part.idle == Fraction(1, 8)


def test_a_pod_without_devices_has_nothing_of_a_node_with_some() -> None:
    [part] = held(node(), [pod("coordinator", devices=0, cpu=Fraction(1))], NOW)
    assert part.shares == {} and part.idle == 1


def test_who_holds_more_together_than_there_is_shares_the_whole() -> None:
    [part] = held(node(), [pod("a"), pod("b", devices=4)], NOW)
    assert part.shares == {"a": Fraction(2, 3), "b": Fraction(1, 3)} and part.idle == 0


def test_a_node_of_which_nothing_is_known_is_shared_by_what_its_pods_hold() -> None:
    [part] = held(node(devices=0), [pod("a", devices=6), pod("b", devices=2)], NOW)
    assert part.shares == {"a": Fraction(3, 4), "b": Fraction(1, 4)}
    [part] = held(node(devices=0), [pod("a", devices=0), pod("b", devices=0)], NOW)
    assert part.shares == {"a": Fraction(1, 2), "b": Fraction(1, 2)}


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(node(start=240, end=0), id="ends-before-it-begins"),
        pytest.param(node(start=NOW + 240, end=0), id="begins-later-than-now"),
        pytest.param(node(start=NOW + 240, end=NOW + 400), id="is-there-later-than-now"),
        pytest.param(replace(node(start=NOW + 240), end=Evidence(RUNNING, NOW)), id="is-not-over"),
    ],
)
def test_nothing_is_held_of_a_node_that_has_no_time(there: NodeUsage) -> None:
    pods = [pod(start=0, end=240), pod("p2", start=NOW, end=NOW + 900)]
    assert list(held(there, pods, NOW)) == []
    assert list(lines([there], pods, book(), NOW)) == []


# -- prices ----------------------------------------------------------------------------


def test_usage_is_split_at_the_second_of_a_change() -> None:
    dearer = Entry("e2", H100, Rate.dollars_per_hour(72), 40)
    found = list(lines([node()], [pod()], book(Entry("e1", H100, HOURLY, 0), dearer), NOW))
    assert [(line.span, line.cost) for line in found] == [
        (Span(0, 40), Money.dollars("0.40")),
        (Span(40, 100), Money.dollars("1.20")),
    ]


def test_no_price_is_unknown_and_not_nothing() -> None:
    found = list(lines([node()], [pod()], book(Entry("e1", H100, HOURLY, 60)), NOW))
    assert [line.cost for line in found] == [None, Money.dollars("0.40")]
    assert sum_of(found) == Cost(
        Money.dollars("0.40"), Seconds(Fraction(100)), unpriced=Seconds(Fraction(60))
    )


@pytest.mark.parametrize("goods", [SPOT, Goods("a100"), Goods("h100", Capacity.RESERVED)])
def test_a_price_is_that_of_its_goods_alone(goods: Goods) -> None:
    assert book().rate(goods, 50) is None


def test_an_entry_of_no_region_holds_where_a_region_has_none_of_its_own_in_force() -> None:
    here = replace(H100, region="eu-1")
    prices = book(Entry("e1", H100, HOURLY, 0), Entry("e2", here, Rate(Fraction(7)), 40, effective_to=60))
    found = [(part, rate == HOURLY) for part, rate in prices.priced(here, Span(0, 100))]
    assert found == [(Span(0, 40), True), (Span(40, 60), False), (Span(60, 100), True)]
    assert prices.rate(replace(H100, region="us-1"), 50) == prices.rate(H100, 50) == HOURLY


def test_an_entry_ends_where_it_says_or_a_later_one_begins() -> None:
    prices = Book(
        [
            Entry("always", H100, Rate(Fraction(1)), 0),
            Entry("offer", H100, Rate(Fraction(2)), 10, effective_to=20),
            Entry("later", H100, Rate(Fraction(3)), 30),
        ]
    )
    seen = [prices.rate(H100, moment) for moment in (-1, 0, 9, 10, 19, 20, 29, 30)]
    assert [None if rate is None else int(rate.exact) for rate in seen] == [None, 1, 1, 2, 2, 1, 1, 3]


def test_a_correction_takes_the_place_of_what_it_supersedes() -> None:
    wrong = Entry("e1", H100, Rate(Fraction(9)), 0, created_at=5)
    right = Entry("e2", H100, Rate(Fraction(7)), 0, created_at=90, supersedes="e1")
    prices = Book([right, wrong])
    assert prices.rate(H100, 50) == Rate(Fraction(7))
    said = [(4, None), (5, Rate(Fraction(9))), (90, Rate(Fraction(7)))]
    assert prices.said(H100, 50, 4) == said
    assert prices.said(H100, 50, 89) == [(89, Rate(Fraction(9))), said[-1]]


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(Entry("e2", A100, Rate(Fraction(7)), 0, created_at=90, supersedes="e1"), id="profile"),
        pytest.param(Entry("e2", H100, Rate(Fraction(7)), 99, created_at=90, supersedes="e3"), id="nothing"),
    ],
)
def test_what_cannot_be_a_correction_ends_nothing(other: Entry) -> None:
    prices = Book([other, Entry("e1", H100, Rate(Fraction(9)), 0, created_at=5)])
    assert prices.rate(H100, 50) == Rate(Fraction(9)) and prices.corrected_by("e1") is None


def test_a_correction_is_one_in_a_restored_cluster_that_made_it_first() -> None:
    wrong = Entry("e1", H100, Rate(Fraction(9)), 0, created_at=90)
    right = Entry("e2", H100, Rate(Fraction(7)), 0, created_at=89, supersedes="e1")
    for entries in ([wrong, right], [right, wrong]):
        assert Book(entries).rate(H100, 50) == Rate(Fraction(7))


# -- what is known of a pod -------------------------------------------------------------


def test_kubernetes_times_stand_over_the_last_evidence() -> None:
    running, seen, told = (
        replace(pod(), end=end)
        for end in (Evidence(RUNNING, 90), Evidence(LAST_SEEN, 80), Evidence(TOLD, 70))
    )
    assert merged(told, seen) == merged(running, told) == told
    assert merged(running, seen) == seen
    assert seen.end.estimated and not told.end.estimated


def test_what_its_node_has_is_known_once_anybody_told_it() -> None:
    first = replace(pod(), end=Evidence(RUNNING, 50), node_devices=8)
    then = replace(pod(), end=Evidence(TOLD, 90))
    assert merged(first, then) == merged(then, first) == replace(then, node_devices=8)


@pytest.mark.parametrize("seconds", [-60, 0, 60])
def test_a_spare_that_became_a_worker_is_one_whatever_a_clock_said(seconds: int) -> None:
    spare = replace(pod(), role=Role.SPARE, end=Evidence(RUNNING, 100))
    worker = replace(spare, role=Role.WORKER, end=Evidence(RUNNING, 100 + seconds))
    assert merged(spare, worker).role is merged(worker, spare).role is Role.WORKER


def test_two_pods_are_not_merged() -> None:
    with pytest.raises(ValueError, match="p2"):
        merged(pod(), pod("p2"))


# -- laws ------------------------------------------------------------------------------


@dataclass(frozen=True)
class World:
    """Nodes, tellings of their pods, prices."""

    nodes: tuple[NodeUsage, ...]
    tellings: tuple[PodUsage, ...]
    book: Book

    def lines(self, window: Span) -> list[Line]:
        return list(lines(self.nodes, gathered(self.tellings).values(), self.book, NOW, window))


MOMENTS = st.integers(0, 200)
GOODS = st.sampled_from([H100, SPOT])
ENDS = st.builds(Evidence, st.sampled_from([RUNNING, LAST_SEEN, TOLD]), MOMENTS)
CPUS = st.fractions(0, 8, max_denominator=10)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    uids = [f"n{number}" for number in range(draw(st.integers(1, 3)))]
    nodes = [
        NodeUsage(uid, uid, draw(GOODS), draw(MOMENTS), draw(ENDS), draw(st.integers(0, 8)), draw(CPUS))
        for uid in uids
    ]
    tellings = [
        PodUsage(
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
        Entry(
            f"e{number}",
            draw(GOODS),
            Rate(Fraction(draw(st.integers(0, 10**12)))),
            draw(MOMENTS),
            draw(MOMENTS),
            draw(MOMENTS),
        )
        for number in range(draw(st.integers(0, 5)))
    ]
    return World(tuple(nodes), tuple(tellings), Book(entries))


WINDOWS = st.builds(lambda start, length: Span(start, start + length), MOMENTS, MOMENTS)


@given(worlds(), WINDOWS, examples=50)
def test_runs_and_idle_together_are_the_nodes(world: World, window: Span) -> None:
    alone = list(lines(world.nodes, [], world.book, NOW, window))
    assert {line.pod for line in alone} <= {IDLE}
    assert _known(sum_of(world.lines(window))) == _known(sum_of(alone))


def _known(cost: Cost) -> tuple[Money, Seconds, Seconds]:
    return cost.money, cost.node_seconds, cost.unpriced


@given(worlds(), WINDOWS, st.lists(MOMENTS, max_size=4), examples=50)
def test_parts_of_a_window_are_the_whole(world: World, window: Span, cuts: list[int]) -> None:
    parts = [by_pod(world.lines(part)) for part in window.cut(cuts)]
    whole = by_pod(world.lines(window))
    for uid in whole:
        assert sum((part[uid] for part in parts if uid in part), Cost()) == whole[uid]


@st.composite
def unseen(draw: st.DrawFn) -> list[PodUsage]:
    """Pods of several profiles on a node of which nobody else tells."""
    pods = []
    for number in range(draw(st.integers(0, 6))):
        start, length = draw(MOMENTS), draw(st.integers(1, 100))
        pods.append(
            pod(
                f"p{number}",
                goods=draw(st.sampled_from([H100, SPOT, A100])),
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
        Entry("e1", H100, HOURLY, 0),
        Entry("e2", SPOT, Rate.dollars_per_hour(7), 0),
        Entry("e3", A100, Rate.dollars_per_hour(11), 0),
        Entry("e4", A100, Rate.dollars_per_hour(13), 90, effective_to=150),
    )
)


def read(pods: list[PodUsage], window: Span) -> list[PodUsage]:
    """Those who are there in a window: nobody who is asked about it reads any others."""
    return [known for known in pods if known.span(NOW).within(window)]


@given(unseen(), WINDOWS, st.lists(MOMENTS, max_size=4), examples=100)
def test_parts_of_a_window_are_the_whole_where_only_pods_tell_of_nodes(
    pods: list[PodUsage], window: Span, cuts: list[int]
) -> None:
    whole = accounts([], read(pods, window), PRICED, NOW, window)
    parts = [accounts([], read(pods, part), PRICED, NOW, part) for part in window.cut(cuts)]
    for uid in whole.keys() | {uid for part in parts for uid in part}:
        found = sum((part[uid].cost for part in parts if uid in part), Cost())
        assert found == whole.get(uid, Account()).cost, uid
    nodes = [known for known, _ in told_by(pods, NOW)]
    alone = sum_of(lines(nodes, [], PRICED.book, NOW, window))
    assert _known(sum((account.cost for account in whole.values()), Cost())) == _known(alone)


@given(worlds(), st.randoms(use_true_random=False), st.lists(st.integers(0, 9), max_size=6), examples=50)
def test_any_order_and_any_repetition_is_the_same_ledger(world: World, chance: Any, again: list[int]) -> None:
    tellings = [*world.tellings, *(world.tellings[at] for at in again if at < len(world.tellings))]
    chance.shuffle(tellings)
    nodes = list(world.nodes)
    chance.shuffle(nodes)
    entries = list(world.book.entries)
    chance.shuffle(entries)
    other = World(tuple(nodes), tuple(tellings), Book(entries))
    window = Span(0, NOW)
    assert sorted(other.lines(window), key=_order) == sorted(world.lines(window), key=_order)


def _order(line: Line) -> tuple[object, ...]:
    return line.node, line.span, line.pod


@given(worlds(), st.integers(0, 10), examples=50)
def test_any_split_of_deliveries_is_the_same_ledger(world: World, at: int) -> None:
    first, rest = gathered(world.tellings[:at]), gathered(world.tellings[at:])
    assert gathered([*first.values(), *rest.values()]) == gathered(world.tellings)
    assert gathered([*rest.values(), *first.values()]) == gathered(world.tellings)


@given(worlds(), examples=50)
def test_no_second_counts_twice(world: World) -> None:
    for node_usage in world.nodes:
        parts = list(held(node_usage, gathered(world.tellings).values(), NOW))
        assert [part.span for part in parts] == segments([part.span for part in parts])
        for part in parts:
            assert sum(part.shares.values()) + part.idle == 1 and 0 <= part.idle <= 1
            assert all(share > 0 for share in part.shares.values())


def test_a_second_is_the_one_that_a_moment_lies_in() -> None:
    assert second(datetime(1970, 1, 1, 0, 0, 5, 999_999, UTC)) == 5
