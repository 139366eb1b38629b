"""What a reward function's process is told by its environment, and how keys reach it."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from footplate_contracts.names import REWARD_SECRET_PREFIX
from footplate_contracts.v1alpha1.reward import RewardFunction, secret_names
from footplate_trainer.errors import UserMistake

_ALLOWED: Final = (
    *("PATH", "HOME", "USER", "TMPDIR", "TZ", "LANG", "LC_ALL", "LC_CTYPE"),
    *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "LD_LIBRARY_PATH"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "HF_HOME"),
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"),
)


def environment_of(
    function: RewardFunction, environment: Mapping[str, str], secrets: Mapping[str, str]
) -> dict[str, str]:
    """The variables of the process of `function`: those that everybody may know, and its own secrets."""
    known = {name: environment[name] for name in _ALLOWED if name in environment}
    own = {name: secrets[name] for name in secret_names([function])}
    # What it prints is told at once; the devices are the rank's.
    return known | {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""} | own


def take_secrets(
    functions: Sequence[RewardFunction], environment: MutableMapping[str, str]
) -> dict[str, str]:
    """Takes what the functions' `secrets` name out of `environment`, so that nobody else has it.

    In a pod a secret stands behind REWARD_SECRET_PREFIX; elsewhere it may stand there by its name. Raises
    UserMistake where one is missing. Values are in no message.
    """
    found: dict[str, str] = {}
    for index, function in enumerate(functions):
        for name in secret_names([function]):
            places = (f"{REWARD_SECRET_PREFIX}{name}", name)
            place = next((place for place in places if place in environment), None)
            if place is not None:
                found[name] = environment.pop(place)
            if name not in found:
                raise UserMistake(
                    f"reward.functions[{index}].function.secrets: there is no variable {name}; "
                    "give it in trainer.env with valueFrom.secretKeyRef"
                )
    return found
