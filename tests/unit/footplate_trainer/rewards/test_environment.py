"""Which variables a function's process has, and where its secrets come from."""

from __future__ import annotations

import pytest

from footplate_trainer.errors import UserMistake
from footplate_trainer.rewards.checks import environment_of, pop_secrets
from tests.support.rewards.samples import reward

JUDGE = reward("judge", function={"name": "a:b", "secrets": ["KEY"]})
OTHER = reward("other", function={"name": "a:c", "secrets": ["KEY", "TOKEN"]})
PLAIN = reward("plain", number={})


@pytest.mark.parametrize(
    ("functions", "environment", "secrets", "left"),
    [
        pytest.param([PLAIN], {"KEY": "k"}, {}, {"KEY": "k"}, id="none-wanted"),
        pytest.param([JUDGE], {"FOOTPLATE_REWARD_SECRET_KEY": "k"}, {"KEY": "k"}, {}, id="in-a-pod"),
        pytest.param([JUDGE], {"KEY": "k", "PATH": "p"}, {"KEY": "k"}, {"PATH": "p"}, id="elsewhere"),
        pytest.param(
            [JUDGE],
            {"FOOTPLATE_REWARD_SECRET_KEY": "k", "KEY": "of the storage"},
            {"KEY": "k"},
            {"KEY": "of the storage"},
            id="another-of-that-name",
        ),
        pytest.param(
            [JUDGE, OTHER], {"KEY": "k", "TOKEN": "t"}, {"KEY": "k", "TOKEN": "t"}, {}, id="one-of-two"
        ),
        pytest.param([JUDGE], {"KEY": ""}, {"KEY": ""}, {}, id="empty"),
    ],
)
def test_secrets_are_taken(
    functions: list[object], environment: dict[str, str], secrets: dict[str, str], left: dict[str, str]
) -> None:
    assert pop_secrets(functions, environment) == secrets
    assert environment == left


def test_a_missing_secret_is_named_and_no_other_is_told() -> None:
    with pytest.raises(UserMistake) as refused:
        pop_secrets([PLAIN, OTHER], {"KEY": "hidden"})
    assert str(refused.value) == (
        "reward.functions[1].function.secrets: variable TOKEN is missing; set it in trainer.env with "
        "valueFrom.secretKeyRef"
    )


def test_a_process_has_what_is_allowed_and_its_own_secrets() -> None:
    environment = {
        "PATH": "/bin",
        "PYTHONPATH": "/mine",
        "MASTER_ADDR": "10.0.0.1",
        "FOOTPLATE_RUN_TOKEN_FILE": "/etc/footplate/run/token",
        "AWS_SECRET_ACCESS_KEY": "hidden",
        "HTTPS_PROXY": "http://user:hidden@proxy",
    }
    secrets = {"KEY": "k", "TOKEN": "t"}
    shared = {"PATH": "/bin", "PYTHONPATH": "/mine", "PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""}
    assert environment_of(JUDGE, environment, secrets) == shared | {"KEY": "k"}
    assert environment_of(OTHER, environment, secrets) == shared | secrets
    assert environment_of(PLAIN, environment, secrets) == shared
