"""Samples of a rollout, made of texts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from footplate_contracts.v1alpha1.reward import RewardFunction
from footplate_trainer.rewards.reward_functions import PendingRewards
from footplate_trainer.rewards.reward_samples import RewardResult, RolloutSample, SampleKey


def sample(
    text: str,
    prompt: int = 0,
    /,
    *,
    step: int = 1,
    **columns: Any,
) -> RolloutSample:
    """The answer `text` to prompt number `prompt`, which has as many tokens as bytes."""
    tokens = list(text.encode())
    return RolloutSample(
        SampleKey(step, prompt, 0), f"prompt {prompt}", [prompt], text, tokens, "end", columns
    )


def samples(*texts: str, step: int = 1, **columns: Any) -> list[RolloutSample]:
    """An answer to each of prompts 0, 1, …, all with the same columns."""
    return [sample(text, prompt, step=step, **columns) for prompt, text in enumerate(texts)]


def reward(name: str, **kind: Any) -> RewardFunction:
    """A reward function of the spec."""
    return RewardFunction.model_validate({"name": name, **kind})


def own(function: str, **fields: Any) -> RewardFunction:
    """That of `wrong` which is called `function`."""
    return reward(function.replace("_", "-"), function={"name": f"wrong:{function}"}, **fields)


def outcomes(asked: PendingRewards) -> Iterator[RewardResult]:
    """All outcomes, each as soon as it is there."""
    while not asked.is_done:
        yield from asked.poll(60)
