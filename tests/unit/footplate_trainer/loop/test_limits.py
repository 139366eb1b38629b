"""What a rank makes of new limits: the same as a run that is resumed with them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import pytest

from footplate_contracts.directives import NumberedLimits, Since, SpecField, spec_fields
from footplate_contracts.runconfig import RunConfig
from footplate_trainer.checkpoint.training_state import Key, StateBuilder, determinism_key, key_differences
from footplate_trainer.loop.limits import RunLimits, config_with_limits, initial_limits
from tests.support.tiny import tiny_config


def config(*overrides: str) -> RunConfig:
    return tiny_config(Path("/shards"), Path("/run"), overrides)


def told(steps: int, number: int = 1, **more: int) -> NumberedLimits:
    values = {"steps": steps, "every_steps": 1000, "keep_last": 3, "epoch": 1, "number": number, **more}
    return NumberedLimits.model_validate(values)


@pytest.mark.parametrize(
    ("steps", "done", "expected"),
    [
        pytest.param(12, 4, 12, id="more"),
        pytest.param(5, 4, 5, id="fewer"),
        pytest.param(4, 4, 4, id="end-now"),
        pytest.param(3, 4, 6, id="never-in-the-past"),
    ],
)
def test_length(steps: int, done: int, expected: int) -> None:
    limits = RunLimits(config())
    assert limits.apply(told(steps, keep_last=9), done)
    assert (limits.steps, limits.config.training.steps, limits.config.checkpoint.keep_last) == (
        expected,
        expected,
        9,
    )


def test_a_run_that_has_an_end_of_its_own_is_not_made_longer(caplog: pytest.LogCaptureFixture) -> None:
    limits = RunLimits(config())
    limits.apply(told(9), 2)
    limits.set_maximum(7)
    assert limits.steps == limits.config.training.steps == 7
    assert not limits.apply(told(8, number=2), 3) and limits.steps == 7
    assert "ignoring the request for 8 steps; the last step is 7" in caplog.text
    assert limits.apply(told(5, number=3), 3) and limits.steps == 5


@pytest.mark.parametrize("name", ["steps", *spec_fields()])
def test_each_limit_is_a_field_of_the_run(name: str) -> None:
    limits = initial_limits(config()).model_copy(update={name: 5})
    changed = config_with_limits(config(), limits)
    assert changed != config() and initial_limits(changed) == limits


class LaterLimits(NumberedLimits):
    """Limits of a later release: a field that RunConfig needs and operators may not send."""

    log_every: Annotated[int | None, Since("0.2.0"), SpecField("checkpoint", "every_steps")] = None


@pytest.mark.parametrize(
    ("sent", "expected"), [pytest.param(5, 5, id="sent"), pytest.param(None, 1000, id="absent")]
)
def test_a_limit_that_an_operator_does_not_send_leaves_what_the_run_has(
    sent: int | None, expected: int
) -> None:
    limits = LaterLimits(**told(8).model_dump(), log_every=sent)
    changed = config_with_limits(config(), limits)
    assert changed.checkpoint.every_steps == expected
    assert RunConfig.from_json(changed.to_json()) == changed


def test_marks_keep_checkpoints_and_change_no_config() -> None:
    marked = RunLimits(config('checkpoint.promoted=[{"name":"a","step":4},{"name":"b","step":4}]'))
    assert marked.kept_steps == {4}
    assert marked.apply(marked.in_force.model_copy(update={"epoch": 1, "kept_steps": [2, 4]}), 4)
    assert marked.kept_steps == {2, 4} and "keeping 3 and steps 2, 4" in str(marked)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "wsd", "constant"])
def test_the_rate_is_that_of_a_run_resumed_with_the_new_length(schedule: str) -> None:
    name = f"training.schedule.name={schedule}"
    limits, resumed = RunLimits(config(name)), RunLimits(config(name, "training.steps=12"))
    limits.apply(told(12), 4)
    assert [limits.rate(step) for step in range(5, 13)] == [resumed.rate(step) for step in range(5, 13)]


def test_nothing_is_new_in_the_words_of_a_new_coordinator_that_say_the_same() -> None:
    limits = RunLimits(config())
    same = initial_limits(limits.config).model_copy(update={"epoch": 2, "number": 1})
    assert limits.newer_limits(same) == same
    assert not limits.apply(same, 3)
    assert limits.newer_limits(told(12)) == same, "an older coordinator's word"
    assert limits.newer_limits(None) == same


def test_tokens_give_way_to_the_steps_that_hold() -> None:
    by_tokens = config("training.tokens=2048", "training.steps=null")
    assert by_tokens.training.steps == 8
    assert config_with_limits(by_tokens, told(8)).training.tokens == 2048
    assert (
        config_with_limits(by_tokens, told(9)).training.steps,
        config_with_limits(by_tokens, told(9)).training.tokens,
    ) == (9, None)


def key_of(config: RunConfig) -> Key:
    return determinism_key(config, world_size=1, device="cpu", threads=1, data="x", revision="r")


def test_a_checkpoint_under_new_limits_has_the_key_of_the_run_that_resumes_with_them() -> None:
    resumed = key_of(config("training.tokens=3072", "training.steps=null"))
    state_writer = StateBuilder(1, 1, 8, 0, key_of(config()))
    assert key_differences(state_writer.with_steps(12).key, resumed) == []
    assert key_differences(state_writer.key, resumed) == ["training.steps was 6, is 12"]
