"""Which samples a reward is asked about, call by call."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest

from footplate_trainer.rewards.call_schedule import (
    FAILURES_IN_A_ROW,
    TIMEOUTS_IN_A_ROW,
    CallFailureKind,
    CallSchedule,
)
from footplate_trainer.rewards.reward_samples import Outcome, RolloutSample, SampleKey, Unrewarded
from tests.support.rewards.samples import samples


def play(
    texts: Sequence[str], at_once: int, fails: Callable[[list[str]], CallFailureKind | None]
) -> tuple[list[list[str]], dict[int, Outcome]]:
    """The texts of each call of a function that fails as `fails` says, and the outcome of each prompt."""
    calls, asked, found = CallSchedule("style", samples(*texts), at_once), [], {}
    while batch := calls.next():
        asked.append([sample.answer for sample in batch])
        failure = fails(asked[-1])
        told: Sequence[tuple[RolloutSample, Outcome]]
        if failure is None:
            told = list(zip(batch, calls.record_answer([1.0] * len(batch)), strict=True))
        else:
            told = calls.record_failure(failure, "it failed")
        for sample, outcome in told:
            assert sample.key.prompt not in found
            found[sample.key.prompt] = outcome
    assert found.keys() == set(range(len(texts)))
    return asked, found


def play_groups(
    bad: Callable[[SampleKey], bool],
    failure: CallFailureKind,
    group: int,
    prompts: int = 16,
    at_once: int = 128,
) -> tuple[int, dict[SampleKey, Outcome]]:
    """Calls of a function that fails for answers that are `bad`, and the outcome of each answer."""
    keys = [SampleKey(1, prompt, sibling) for prompt in range(prompts) for sibling in range(group)]
    (alike,) = samples("a")
    asked = [replace(alike, key=key) for key in keys]
    calls, count, found = CallSchedule("style", asked, at_once), 0, dict[SampleKey, Outcome]()
    while batch := calls.next():
        count += 1
        assert len(batch) <= at_once
        if any(bad(sample.key) for sample in batch):
            told = calls.record_failure(failure, "it failed")
        else:
            told = list(zip(batch, calls.record_answer([1.0] * len(batch)), strict=True))
        assert not found.keys() & {sample.key for sample, _ in told}
        found.update((sample.key, outcome) for sample, outcome in told)
    assert sorted(found) == keys
    return count, found


def unrewarded(found: Mapping[SampleKey, Outcome]) -> list[SampleKey]:
    return [key for key, outcome in sorted(found.items()) if isinstance(outcome, Unrewarded)]


def on_bad(failure: CallFailureKind) -> Callable[[list[str]], CallFailureKind | None]:
    return lambda texts: failure if "bad" in texts else None


@pytest.mark.parametrize(
    ("texts", "at_once", "asked"),
    [
        pytest.param("a b c d", 4, ["a b c d"], id="all-at-once"),
        pytest.param("a b c", 1, ["a", "b", "c"], id="one-by-one"),
        pytest.param("a bad c d", 4, ["a bad c d", "a bad", "a", "bad", "c", "d"], id="one-is-bad"),
        pytest.param("bad bad", 2, ["bad bad", "bad", "bad"], id="all-are-bad"),
        pytest.param("a b bad", 3, ["a b bad", "a", "b bad", "b", "bad"], id="an-odd-number"),
        pytest.param("", 1, [], id="none"),
    ],
)
@pytest.mark.parametrize("failure", CallFailureKind)
def test_a_batch_that_fails_is_asked_about_in_halves(
    texts: str, at_once: int, asked: list[str], failure: CallFailureKind
) -> None:
    calls, found = play(texts.split(), at_once, on_bad(failure))
    twice = failure is CallFailureKind.ENDED  # as others may have ended its process
    assert calls == [
        call for batch in asked for call in [batch.split()] * (2 if twice and batch == "bad" else 1)
    ]
    for prompt, text in enumerate(texts.split()):
        bad = Unrewarded(f"reward style: answer 0 to prompt {prompt} at step 1: it failed", False)
        assert found[prompt] == (bad if text == "bad" else 1.0)


def test_a_sample_whose_process_something_else_ended_is_asked_about_again() -> None:
    ends = iter([CallFailureKind.ENDED])
    calls, found = play(["a", "b"], 1, lambda _: next(ends, None))
    assert calls == [["a"], ["a"], ["b"]] and found == {0: 1.0, 1: 1.0}


def test_one_that_stands_still_is_named_among_many() -> None:
    _, found = play([*["a"] * 5, "bad", *["a"] * 122], 128, on_bad(CallFailureKind.TIMEOUT))
    assert [number for number, told in found.items() if isinstance(told, Unrewarded)] == [5]


def test_what_always_stands_still_is_given_up_soon() -> None:
    calls, found = play(["a"] * 512, 128, lambda _: CallFailureKind.TIMEOUT)
    assert len(calls) == TIMEOUTS_IN_A_ROW + 7
    assert all(isinstance(outcome, Unrewarded) for outcome in found.values())


def test_what_stands_still_three_times_is_not_asked_again() -> None:
    calls, found = play(["a", *["bad"] * 5, "b"], 1, on_bad(CallFailureKind.TIMEOUT))
    assert calls == [["a"], *[["bad"]] * TIMEOUTS_IN_A_ROW]
    assert "not called, after 3 failed calls in a row: it failed" in str(found[6])
    assert "not called" not in str(found[3])


def test_an_answer_between_makes_up_for_those_without() -> None:
    calls, found = play(["bad", "bad", "a"] * 3, 1, on_bad(CallFailureKind.TIMEOUT))
    assert len(calls) == 9 and [found[prompt] for prompt in (2, 5, 8)] == [1.0] * 3


def test_what_always_fails_is_not_asked_for_ever() -> None:
    calls, found = play(["a"] * 4096, 4096, lambda _: CallFailureKind.RAISED)
    assert len(calls) == FAILURES_IN_A_ROW
    assert all(isinstance(outcome, Unrewarded) for outcome in found.values())


def test_a_first_sample_that_is_bad_is_found_among_the_most_of_a_rank() -> None:
    _, found = play(["bad", *["a"] * 8191], 8192, on_bad(CallFailureKind.RAISED))
    assert sum(isinstance(outcome, Unrewarded) for outcome in found.values()) == 1


@pytest.mark.parametrize("failure", CallFailureKind)
@pytest.mark.parametrize("at_once", [pytest.param(128, id="own"), pytest.param(1, id="built-in")])
@pytest.mark.parametrize("group", [1, 8, 32, 300])
@pytest.mark.parametrize("bad", [pytest.param({0}, id="first"), pytest.param({3, 15}, id="two")])
def test_a_prompt_that_a_function_stumbles_over_costs_its_own_answers_alone(
    bad: set[int], group: int, at_once: int, failure: CallFailureKind
) -> None:
    calls, found = play_groups(lambda key: key.prompt in bad, failure, group, at_once=at_once)
    assert {key.prompt for key in unrewarded(found)} == bad
    assert len(unrewarded(found)) == len(bad) * group, "each is asked about, or named as not asked"
    assert failure is not CallFailureKind.TIMEOUT or calls <= len(found) + len(bad) * (TIMEOUTS_IN_A_ROW + 7)


@pytest.mark.parametrize("failure", CallFailureKind)
@pytest.mark.parametrize("bad", [(0, 0), (3, 5), (7, 15)])
def test_an_answer_that_a_function_stumbles_over_costs_no_sibling(
    bad: tuple[int, int], failure: CallFailureKind
) -> None:
    calls, found = play_groups(lambda key: key[1:] == bad, failure, group=16)
    assert unrewarded(found) == [SampleKey(1, *bad)]
    assert calls <= 16 + 4, "halves of a call, another call, and few answers alone"


@pytest.mark.parametrize("group", [8, 16, 128])
@pytest.mark.parametrize("prompts", [1, 2, 64])
def test_what_always_fails_is_given_up_soon_however_many_siblings_there_are(prompts: int, group: int) -> None:
    calls, found = play_groups(lambda _: True, CallFailureKind.RAISED, group, prompts)
    assert calls <= FAILURES_IN_A_ROW and len(unrewarded(found)) == len(found)
    calls, _ = play_groups(lambda _: True, CallFailureKind.TIMEOUT, group, prompts)
    assert calls <= TIMEOUTS_IN_A_ROW + 7


def test_what_begins_to_fail_is_given_up_soon() -> None:
    calls, found = play_groups(lambda key: key.prompt >= 8, CallFailureKind.RAISED, group=16, prompts=64)
    assert calls <= 1 + FAILURES_IN_A_ROW and len(unrewarded(found)) == 56 * 16


def test_a_bad_share_of_prompts_side_by_side_ends_no_rollout() -> None:
    _, found = play_groups(lambda key: key.prompt < 10, CallFailureKind.RAISED, group=16, prompts=100)
    assert {key.prompt for key in unrewarded(found)} == set(range(10))


def test_a_number_that_no_function_may_answer_is_none() -> None:
    calls = CallSchedule("style", samples("a", "b"), 2)
    calls.next()
    assert [isinstance(outcome, Unrewarded) for outcome in calls.record_answer([1e300, 1.0])] == [True, False]
