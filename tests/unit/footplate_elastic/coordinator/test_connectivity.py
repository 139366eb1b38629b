"""Who reaches whom: what one round says, what two say, and who of two goes."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from footplate_contracts.connectivity_probes import ConnectivityProbeResult, Peer
from footplate_elastic.coordinator import timing
from footplate_elastic.coordinator.connectivity import Connectivity, choose_displaced


def pairs(*names: str) -> frozenset[frozenset[str]]:
    """Of "ab" that a and b do not reach each other."""
    return frozenset(frozenset(name) for name in names)


def peers(names: str) -> dict[str, Peer]:
    return {name: Peer(pod_name=name, address=f"10.0.0.{ord(name)}", port=1) for name in names}


def play(known: Connectivity, names: str, complaints: Mapping[str, str], now: float) -> None:
    """One round at `now` that all answer: who in `complaints` did not reach these."""
    known.begin(peers(names), now)
    assert known.round is not None
    for name in names:
        number = known.round.number
        known.record_result(
            name, ConnectivityProbeResult(epoch=1, number=number, unreached=list(complaints.get(name, "")))
        )
    assert known.conclude(names, now)


def test_one_failed_connection_proves_nothing() -> None:
    known = Connectivity()
    play(known, "abc", {"a": "b"}, 0.0)
    assert not known.cut and not known.are_connected({"a", "b", "c"})
    assert known.undecided(0.0)
    play(known, "abc", {}, 1.0)
    assert not known.cut and known.are_connected({"a", "b", "c"})


@pytest.mark.parametrize("second", [{"a": "b"}, {"b": "a"}], ids=["the same", "the other way"])
def test_two_rounds_in_a_row_prove_it_whoever_complains(second: Mapping[str, str]) -> None:
    known = Connectivity()
    play(known, "abc", {"a": "b"}, 0.0)
    play(known, "abc", second, 1.0)
    assert (
        known.cut == pairs("ab") and known.are_connected({"a", "c"}) and not known.are_connected({"a", "b"})
    )
    assert known.complaints == {"a": 1, "b": 1}


def test_failures_that_never_repeat_are_chance_and_hold_nobody_up() -> None:
    known = Connectivity()
    for number in range(timing.ROUNDS):
        play(known, "abcd", {"a": "bcd"[number % 3]}, 20.0 * number)
    assert not known.cut and known.is_inconclusive


def test_two_rounds_are_a_second_apart_and_further_ones_more() -> None:
    known, now, waits = Connectivity(), 0.0, []
    for _ in range(8):
        play(known, "ab", {"a": "b"}, now)
        before = now
        while known.round is None:
            now += 0.5
            known.begin(peers("ab"), now)
        waits.append(now - before)
        known.round = None
    assert waits == [1.0, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0]


def test_who_has_come_is_asked_at_once() -> None:
    known = Connectivity()
    play(known, "ab", {"a": "b"}, 0.0)
    known.begin(peers("abc"), 0.1)
    assert known.round is not None


def test_an_agent_that_never_answers_holds_nobody_up_for_long() -> None:
    known = Connectivity()
    known.begin(peers("ab"), 0.0)
    assert not known.conclude("ab", timing.ROUND - 0.1) and known.conclude("ab", timing.ROUND)


def test_nobody_waits_for_an_agent_that_is_gone() -> None:
    known = Connectivity()
    known.begin(peers("ab"), 0.0)
    known.record_result("a", ConnectivityProbeResult(epoch=1, number=1, unreached=["b"]))
    assert known.conclude("a", 0.1)


def test_an_answer_to_an_earlier_round_is_none() -> None:
    known = Connectivity()
    play(known, "ab", {"a": "b"}, 0.0)
    known.begin(peers("ab"), 1.0)
    assert not known.record_result("a", ConnectivityProbeResult(epoch=1, number=1))


def test_whoever_does_not_answer_is_cut_off_as_before() -> None:
    known = Connectivity()
    for now in (0.0, 1.0):
        play(known, "abc", {"a": "b"}, now)
    known.begin(peers("abc"), 2.0)
    assert known.conclude("abc", 2.0 + timing.ROUND) and known.cut == pairs("ab")


@pytest.mark.parametrize(
    ("complaints", "cut"), [pytest.param("a", True, id="still"), pytest.param("", False, id="no longer")]
)
def test_one_of_two_can_tell_alone(complaints: str, cut: bool) -> None:
    known = Connectivity()
    for now in (0.0, 1.0):
        play(known, "abc", {"a": "b"}, now)
    known.begin(peers("abc"), 2.0, "b")
    assert known.find_pending_round("a") is None
    known.record_result("b", ConnectivityProbeResult(epoch=1, number=3, unreached=list(complaints)))
    assert known.conclude("abc", 2.1) and bool(known.cut) is cut


def test_two_of_whom_one_was_not_asked_again_remain_cut_off() -> None:
    known = Connectivity()
    for now in (0.0, 1.0):
        play(known, "abc", {"a": "b"}, now)
    play(known, "ac", {}, 2.0)
    assert known.cut == pairs("ab")
    known.reset({"a", "c"})
    assert not known.cut


@pytest.mark.parametrize(
    ("cut", "spares", "complaints", "gone", "goes"),
    [
        pytest.param("ab", "", {}, "", "b", id="the higher index, as the first hosts the store"),
        pytest.param("ab", "", {"a": 2, "b": 1}, "", "a", id="more complaints"),
        pytest.param("ab", "", {"b": 2}, "a", "a", id="who gave way already"),
        pytest.param("ab", "s", {}, "", "b", id="a spare that replaces either"),
        pytest.param("ab sa", "s", {}, "", "a", id="a spare that reaches the other one only"),
        pytest.param("ab ac ad ae", "", {}, "", "a", id="a star"),
        pytest.param("ab bc bd be", "", {}, "", "b", id="another star"),
        pytest.param("ab cd", "", {}, "", "bd", id="two pairs"),
        pytest.param("ab bc", "", {}, "", "b", id="a chain"),
        pytest.param("ab bc ca", "", {}, "", "bc", id="a triangle: two of five"),
        pytest.param("ad ae bd be cd ce", "", {}, "", "de", id="the smaller side of a partition"),
        pytest.param("ab ac ad bc bd cd", "", {}, "", "", id="more than half: the network"),
        pytest.param("sa", "s", {}, "", "", id="a spare is no worker"),
    ],
)
def test_who_goes(cut: str, spares: str, complaints: dict[str, int], gone: str, goes: str) -> None:
    found = choose_displaced(pairs(*cut.split()), "abcde", spares, complaints, gone)
    assert "".join(sorted(found)) == goes


def test_one_of_a_gang_of_two_is_not_more_than_half() -> None:
    assert choose_displaced(pairs("ab"), "ab", "", {}, "") == ("b",)
