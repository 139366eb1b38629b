"""The environment of a reward function's process, and its secrets."""

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
    """Return the variables for the process of `function`: variables that all may read, and its secrets."""
    known = {name: environment[name] for name in _ALLOWED if name in environment}
    own = {name: secrets[name] for name in secret_names([function])}
    # What it prints is told at once; the devices are the rank's.
    return known | {"PYTHONUNBUFFERED": "1", "CUDA_VISIBLE_DEVICES": ""} | own


def pop_secrets(functions: Sequence[RewardFunction], environment: MutableMapping[str, str]) -> dict[str, str]:
    """Remove the variables of the functions' `secrets` from `environment` and return them.

    In a pod a secret's variable has the prefix REWARD_SECRET_PREFIX; elsewhere it may have its plain name.
    Raises UserMistake if one is missing. No message contains a value.
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
