"""Which samples a reward is asked about, call by call."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from footplate_trainer.rewards.calls import FAILURES_IN_A_ROW, TIMEOUTS_IN_A_ROW, Calls, Failure
from footplate_trainer.rewards.samples import Outcome, RolloutSample, Unrewarded
from tests.support.rewards.samples import samples


def play(
    texts: Sequence[str], at_once: int, fails: Callable[[list[str]], Failure | None]
) -> tuple[list[list[str]], dict[int, Outcome]]:
    """The texts of each call of a function that fails as `fails` says, and the outcome of each prompt."""
    calls, asked, found = Calls("style", samples(*texts), at_once), [], {}
    while batch := calls.next():
        asked.append([sample.answer for sample in batch])
        failure = fails(asked[-1])
        told: Sequence[tuple[RolloutSample, Outcome]]
        if failure is None:
            told = list(zip(batch, calls.answered([1.0] * len(batch)), strict=True))
        else:
            told = calls.failed(failure, "it failed")
        for sample, outcome in told:
            assert sample.key.prompt not in found
            found[sample.key.prompt] = outcome
    assert found.keys() == set(range(len(texts)))
    return asked, found


def on_bad(failure: Failure) -> Callable[[list[str]], Failure | None]:
    return lambda texts: failure if "bad" in texts else None


@pytest.mark.parametrize(
    ("texts", "at_once", "asked"),
    [
        pytest.param("a b c d", 4, ["a b c d"], id="all-at-once"),
        pytest.param("a b c", 1, ["a", "b", "c"], id="one-by-one"),
        pytest.param("a bad c d", 4, ["a bad c d", "a bad", "a", "bad", "c d"], id="one-is-bad"),
        pytest.param("bad bad", 2, ["bad bad", "bad", "bad"], id="all-are-bad"),
        pytest.param("a b bad", 3, ["a b bad", "a", "b bad", "b", "bad"], id="an-odd-number"),
        pytest.param("", 1, [], id="none"),
    ],
)
@pytest.mark.parametrize("failure", Failure)
def test_a_batch_that_fails_is_asked_about_in_halves(
    texts: str, at_once: int, asked: list[str], failure: Failure
) -> None:
    calls, found = play(texts.split(), at_once, on_bad(failure))
    twice = failure is Failure.ENDED  # as others may have ended its process
    assert calls == [
        call for batch in asked for call in [batch.split()] * (2 if twice and batch == "bad" else 1)
    ]
    for prompt, text in enumerate(texts.split()):
        bad = Unrewarded(f"reward style: answer 0 to prompt {prompt} at step 1: it failed", False)
        assert found[prompt] == (bad if text == "bad" else 1.0)


def test_a_sample_whose_process_something_else_ended_is_asked_about_again() -> None:
    ends = iter([Failure.ENDED])
    calls, found = play(["a", "b"], 1, lambda _: next(ends, None))
    assert calls == [["a"], ["a"], ["b"]] and found == {0: 1.0, 1: 1.0}


def test_one_that_stands_still_is_named_among_many() -> None:
    _, found = play([*["a"] * 5, "bad", *["a"] * 122], 128, on_bad(Failure.TIMEOUT))
    assert [number for number, told in found.items() if isinstance(told, Unrewarded)] == [5]


def test_what_always_stands_still_is_given_up_soon() -> None:
    calls, found = play(["a"] * 512, 128, lambda _: Failure.TIMEOUT)
    assert len(calls) == TIMEOUTS_IN_A_ROW + 7
    assert all(isinstance(outcome, Unrewarded) for outcome in found.values())


def test_what_stands_still_three_times_is_not_asked_again() -> None:
    calls, found = play(["a", *["bad"] * 5, "b"], 1, on_bad(Failure.TIMEOUT))
    assert calls == [["a"], *[["bad"]] * TIMEOUTS_IN_A_ROW]
    assert "it was not asked, after 3 calls in a row without an answer: it failed" in str(found[6])
    assert "not asked" not in str(found[3])


def test_an_answer_between_makes_up_for_those_without() -> None:
    calls, found = play(["bad", "bad", "a"] * 3, 1, on_bad(Failure.TIMEOUT))
    assert len(calls) == 9 and [found[prompt] for prompt in (2, 5, 8)] == [1.0] * 3


def test_what_always_fails_is_not_asked_for_ever() -> None:
    calls, found = play(["a"] * 4096, 4096, lambda _: Failure.RAISED)
    assert len(calls) == FAILURES_IN_A_ROW
    assert all(isinstance(outcome, Unrewarded) for outcome in found.values())


def test_a_first_sample_that_is_bad_is_found_among_the_most_of_a_rank() -> None:
    _, found = play(["bad", *["a"] * 8191], 8192, on_bad(Failure.RAISED))
    assert sum(isinstance(outcome, Unrewarded) for outcome in found.values()) == 1


def test_a_number_that_no_function_may_answer_is_none() -> None:
    calls = Calls("style", samples("a", "b"), 2)
    calls.next()
    assert [isinstance(outcome, Unrewarded) for outcome in calls.answered([1e300, 1.0])] == [True, False]
