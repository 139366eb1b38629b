"""Parses the return value of a reward function.

Any value yields a number for each sample or a reason why there is none: an unreadable value never counts as
0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

LARGEST: Final = 1e12
"""Beyond it neither a reward nor a sum of them is one: its square, which a value model's loss is, and that of
a gradient fit fp32 with what they are multiplied by. It is REWARD_LIMIT of `model.objectives.advantages`,
which torch is needed for."""

Value = TypeVar("Value")
_SHOWN: Final = 60  # characters of a value in a reason


@dataclass(frozen=True)
class NoReward:
    """The reason that a built-in reward returns instead of a number."""

    reason: str


def parse_rewards(answer: object, samples: int) -> list[float | str]:
    """Return for each of `samples` its number in `answer`, or an error text in its place.

    An answer is a list, tuple, array or tensor of numbers, one for each sample in their order; None means no
    reward. Never raises because of `answer`.
    """
    try:
        values = _read(_as_list, answer)
    except _Unreadable as error:
        return [f"cannot read its return value as a list: {error}"] * samples
    if values is None:
        return [f"it returned {_kind(answer)}, not a list of numbers"] * samples
    if len(values) != samples:
        return [f"it returned {len(values)} numbers for {samples} samples"] * samples
    return [parse_reward(value) for value in values]


def parse_reward(value: Any) -> float | str:
    """Return a finite number within LARGEST, or an error text about `value`; true is 1 and false 0."""
    try:
        return _read(_parse, value)
    except _Unreadable as error:
        return f"cannot read its return value as a number: {error}"


class _Unreadable(Exception):
    """A value of a user's code raised an exception when it was read."""


def _read(function: Callable[[Any], Value], value: object) -> Value:
    try:
        return function(value)
    except Exception as error:  # noqa: BLE001 - user code: the methods of a value may raise anything
        raise _Unreadable(truncate(repr(error))) from None


def _parse(value: Any) -> float | str:
    value = _as_scalar(value)
    if value is None:
        return "it returned None"
    if isinstance(value, NoReward):
        return value.reason
    if not isinstance(value, bool | int | float):
        return f"it returned {_kind(value)}, not a number"
    try:
        number = float(value)
    except OverflowError:
        return f"it returned a number beyond ±{LARGEST:g}"
    if math.isnan(number):
        return "it returned NaN"
    if abs(number) > LARGEST:
        return f"it returned {number:g}, beyond ±{LARGEST:g}"
    return number


def _as_list(answer: Any) -> list[Any] | None:
    if isinstance(answer, list | tuple):
        return list(answer)
    # Arrays and tensors, without importing what they are of; those of no dimension become a number.
    listed = answer.tolist() if hasattr(answer, "tolist") else None
    return listed if isinstance(listed, list) else None


def _as_scalar(value: Any) -> Any:
    """Return the number in an array or tensor of one element; anything else unchanged."""
    return value.item() if hasattr(value, "item") else value


def _kind(value: object) -> str:
    return f"{type(value).__name__} {truncate(repr(value))}"


def truncate(text: str) -> str:
    """Truncate `text` for a message."""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
