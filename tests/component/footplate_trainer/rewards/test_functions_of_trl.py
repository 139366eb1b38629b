"""TRL's own reward functions work here as they are, and agree with what is built in."""

from __future__ import annotations

import os

from footplate_trainer.rewards.reward_functions import RewardFunctions
from tests.support.rewards.samples import outcomes, reward, sample

ASKED = [{"role": "user", "content": "How much?"}]
ROWS = [
    (r"<think>x</think>It is \boxed{\frac{1}{2}}", "$0.5$"),
    (r"\boxed{(x+1)^2}", "$x^2+2x+1$"),
    (r"<think>x</think>\boxed{3}", "$4$"),
    ("no idea", "$4$"),
]

PATTERN = "(?s)<think>(?!.*<think>)(.*?)</think>.*"


def test_they_work_as_they_are_and_agree_with_what_is_built_in() -> None:
    functions = [
        reward("theirs", function={"name": "trl.rewards:accuracy_reward"}),
        reward("thinks", function={"name": "trl.rewards:think_format_reward"}),
        reward("ours", mathVerify={}, column="solution"),
        reward("form", regularExpression={"pattern": PATTERN, "fullMatch": True}),
    ]
    batch = [
        sample(text, prompt, prompt=ASKED, solution=solution) for prompt, (text, solution) in enumerate(ROWS)
    ]
    environment = dict(os.environ)
    with RewardFunctions(functions, columns=["solution"], max_tokens=99, environment=environment) as rewards:
        asked = rewards.submit(batch)
        found = {(told.reward, told.key.prompt): told.outcome for told in outcomes(asked)}
    for name, expected in (("theirs", [1, 1, 0, 0]), ("thinks", [1, 0, 1, 0])):
        assert [found[name, prompt] for prompt in range(4)] == expected
    for prompt in range(4):
        assert found["theirs", prompt] == found["ours", prompt]
        assert found["thinks", prompt] == found["form", prompt]
