"""Scorers, which score answers in a worker: a user's function, or a built-in one.

A scorer's input is the samples of a call, as `to_json` converts them, and it returns what a reward function
does.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.reward_samples import RolloutSample
from footplate_trainer.user_function import import_user_function

SampleJson = Mapping[str, Any]
Scorer = Callable[[Sequence[SampleJson]], object]

_BUILT_IN: Final = {  # imported where they are wanted: they are large
    "mathVerify": "footplate_trainer.rewards.math_equality",
    "jsonSchema": "footplate_trainer.rewards.json_schema",
}
GIVEN: Final = ("prompts", "completions", "prompt_ids", "completion_ids", "texts", "ends")
"""What a function may take beside the columns of the prompts."""


def to_json(sample: RolloutSample) -> dict[str, Any]:
    """Return the JSON of a sample for a worker."""
    return {
        "prompt": sample.original_prompt,
        "prompt_ids": [int(token) for token in sample.prompt_tokens],
        "answer": sample.answer,
        "ids": [int(token) for token in sample.tokens],
        "end": str(sample.end),
        # A conversation may be long: it is told once.
        "columns": {name: value for name, value in sample.columns.items() if name != "prompt"},
    }


def value_of(sample: SampleJson, name: str) -> Any:
    """Return the value of the column `name` in the prompt's row; None if it has no such column."""
    return sample["prompt"] if name == "prompt" else sample["columns"].get(name)


def open_scorer(set_up: Mapping[str, Any]) -> Scorer:
    """Return the scorer that `set_up` describes; UserMistake if there can be none."""
    kind = set_up["kind"]
    if kind == "function":
        return _OwnFunction(set_up["name"], set_up["field"], set_up["columns"])
    if kind == "regularExpression":
        return regular_expression_scorer(set_up)
    scorer: Scorer = importlib.import_module(_BUILT_IN[kind]).build_scorer(set_up)
    return scorer


class _OwnFunction:
    """A user's function, called with lists by name, as TRL does; it may be async."""

    def __init__(self, name: str, field: str, columns: Collection[str]) -> None:
        self._function = import_user_function(name, field)
        self._names = _taken(self._function, f"{field} {name}", [*GIVEN, *columns])
        # One loop for all calls: a client of a service lives in the loop in which it was made.
        self._runner = asyncio.Runner()

    def __call__(self, samples: Sequence[SampleJson]) -> object:
        answer = self._function(**{name: _values(name, samples) for name in self._names})
        return self._runner.run(_awaited(answer)) if inspect.isawaitable(answer) else answer


async def _awaited(answer: Any) -> object:
    return await answer


def _taken(function: Any, said: str, names: Collection[str]) -> list[str]:
    """Return the `names` that `function` accepts; UserMistake if it requires others."""
    if not callable(function):
        raise UserMistake(f"{said} is {type(function).__name__}, not a function")
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise UserMistake(f"{said}: cannot determine its parameters: {error}") from error
    for parameter in parameters:
        named = parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
        required = parameter.default is parameter.empty
        if parameter.kind is parameter.POSITIONAL_ONLY and required:
            raise UserMistake(f"{said} takes {parameter.name} as positional-only; remove the / after it")
        if named and required and parameter.name not in names:
            raise UserMistake(
                f"{said} requires {parameter.name}, which is neither passed by a rollout "
                f"({', '.join(GIVEN)}) nor a column of the prompts ({_listed(names)})"
            )
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return list(dict.fromkeys(names))
    by_name = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [
        parameter.name for parameter in parameters if parameter.kind in by_name and parameter.name in names
    ]


def _listed(names: Collection[str]) -> str:
    columns = [name for name in names if name not in GIVEN]
    return ", ".join(columns) or "they have none"


def _values(name: str, samples: Sequence[SampleJson]) -> list[Any]:
    """Return each sample's value of the argument `name`; None if its row has no such column."""
    match name:
        case "prompts":
            return [s["prompt"] for s in samples]
        case "completions":
            return [
                s["answer"]
                if isinstance(s["prompt"], str)
                else [{"role": "assistant", "content": s["answer"]}]
                for s in samples
            ]
        case "texts":
            return [s["answer"] for s in samples]
        case "prompt_ids":
            return [s["prompt_ids"] for s in samples]
        case "completion_ids":
            return [s["ids"] for s in samples]
        case "ends":
            return [s["end"] for s in samples]
    return [value_of(s, name) for s in samples]


def regular_expression_scorer(set_up: Mapping[str, Any]) -> Scorer:
    """Return a scorer: 1 if `pattern` is found or, with `fullMatch`, matches all, else 0.

    UserMistake if it is no pattern. The caller ends a match that takes too long.
    """
    try:
        pattern = re.compile(set_up["pattern"])
    except (re.error, RecursionError, OverflowError) as error:
        raise UserMistake(
            f"{set_up['field']} {set_up['pattern']} is not a regular expression: {error}"
        ) from error
    find = pattern.fullmatch if set_up["fullMatch"] else pattern.search

    def score(samples: Sequence[SampleJson]) -> list[float]:
        return [float(find(sample["answer"]) is not None) for sample in samples]

    return score
