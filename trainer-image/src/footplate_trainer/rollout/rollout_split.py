"""Distribution of prompts over the rollouts of a run that answers each prompt once: pure."""

from __future__ import annotations

from collections.abc import Sequence


def most_rollouts(prompts: int, groups: int) -> int:
    """Return the number of rollouts of `groups` prompts in which each of the `prompts` is used once."""
    return -(-prompts // groups)


def split_into_rollouts(prompts: int, groups: int, steps: int) -> Sequence[range]:
    """Return the prompt indices of each of `steps` rollouts, `groups` each, fewer in an epoch's last.

    Raises ValueError if there are too few prompts for as many rollouts.
    """
    most = most_rollouts(prompts, groups)
    if steps > most:
        raise ValueError(
            f"training.steps {steps} asks for more rollouts than the prompts fill: {prompts}, with {groups}"
            f" in each, fill {most}; give at most {most}"
        )
    return [range(first, min(first + groups, prompts)) for first in range(0, steps * groups, groups)]
