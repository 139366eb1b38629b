"""What reward functions want of Secrets is missed before any pod is made."""

from __future__ import annotations

from typing import Any

import pytest

from footplate_operator.runtime.kinds import POD
from tests.support.operator_world import World

SECRET = {"name": "JUDGE", "valueFrom": {"secretKeyRef": {"name": "judge", "key": "token"}}}


@pytest.mark.parametrize(
    ("env", "says"),
    [
        pytest.param([], "in trainer.env it is missing", id="missing"),
        pytest.param([{"name": "JUDGE", "value": "k"}], "in trainer.env it comes from no Secret", id="plain"),
        pytest.param([SECRET], "", id="of-a-secret"),
    ],
)
async def test_a_variable_that_is_no_secrets_is_refused_at_admission(env: list[Any], says: str) -> None:
    world = World()
    function = {"name": "judge", "function": {"name": "house.judge:score", "secrets": ["JUDGE"]}}
    rollout = {"maxTokens": 8}
    world.submit(stage="grpo", reward={"functions": [function]}, rollout=rollout, trainer={"env": env})
    await world.live(4)
    ready = world.condition("Ready")
    assert (ready["reason"] == "ConfigRefused") is bool(says), ready
    assert says in ready["message"] and (not says or not world.cluster.all(POD))
