"""Samples that a step shows."""

from __future__ import annotations

from footplate_contracts.samples import LoggedSample, SampleEnd


def shown(prompt: int, sibling: int = 0, answer: str = "4", reward: float = 1.0) -> LoggedSample:
    """One whose answer is right or not."""
    return LoggedSample(
        prompt=prompt,
        sibling=sibling,
        prompt_text="2 + 2 =",
        answer_text=answer,
        tokens=2,
        end=SampleEnd.END,
        rewards={"right": reward},
        reward=reward,
        advantage=reward - 0.5,
    )


def longest(prompt: int = 0) -> LoggedSample:
    """With as many characters as there may be, each of which takes as much room as any."""
    return shown(prompt, answer="\N{GRINNING FACE}" * 3000)
