"""Which prompts each rollout of a run asks that answers each prompt once: pure."""

from __future__ import annotations

from collections.abc import Sequence


def most_rollouts(prompts: int, groups: int) -> int:
    """In so many rollouts of `groups` prompts each of the `prompts` is asked once."""
    return -(-prompts // groups)


def rollouts_of(prompts: int, groups: int, steps: int) -> Sequence[range]:
    """The places that each of `steps` rollouts asks, `groups` or what is left of the `prompts` of an epoch.

    ValueError where there are no prompts for as many rollouts.
    """
    most = most_rollouts(prompts, groups)
    if steps > most:
        raise ValueError(
            f"training.steps {steps} asks for more rollouts than the prompts fill: {prompts}, with {groups}"
            f" in each, fill {most}; give at most {most}"
        )
    return [range(first, min(first + groups, prompts)) for first in range(0, steps * groups, groups)]
