"""Waits until an installation works: a run would be admitted, and the API accepts a token.

`python -m footplate_operator.verify`, which `helm test` runs in a pod with rights of its own. Nothing is left
behind: creating a run is a dry run, with all that admission checks. Each missing item is logged once, and
again where it changes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Final, Protocol

import aiohttp
from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from footplate_contracts import environment, logs
from footplate_contracts.environment import PREFIX
from footplate_contracts.logs import log_fields
from footplate_contracts.names import API_VERSION, LogFormat
from footplate_operator.api_access import ApiAccess
from footplate_operator.errors import ApiUnreachable, ClusterError
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.cluster import KubernetesCluster, login
from footplate_operator.runtime.kinds import Json, Kind
from footplate_operator.trainingrun.run import TRAINING_RUN

SECONDS: Final = 240.0
PAUSE_SECONDS: Final = 0.5
ANSWER_SECONDS: Final = 5.0
NAME: Final = "footplate-verify"  # of the run that is never made
_log = logging.getLogger("footplate_operator.verify")

Missing = Callable[[], Awaitable[str]]  # what is missing, in words; empty: nothing


class VerifySettings(BaseSettings):
    """Settings of the verification; an empty variable counts as unset."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True)

    log_format: Annotated[LogFormat, Field(description=f"one of {', '.join(LogFormat)}")] = LogFormat.LOGFMT
    namespace: str = Field(description="the name of a namespace whose runs are served")
    api_url: str = Field(description="the URL of the API")
    api_token_file: Path = Field(description="the file with a token for the API")
    api_ca_file: Path = Field(description="the file with the API's CA certificate")


class VerificationCluster(Protocol):
    """The calls that verification needs. Every method may raise ClusterError."""

    async def find(self, kind: Kind, namespace: str) -> list[Json]:
        """Return all objects of the kind."""

    async def would_create(self, kind: Kind, body: Json) -> None:
        """Raise where the object would not be created."""


def smallest_run(namespace: str, profile: str) -> Json:
    """Return a run with as few fields as possible, on one node of `profile`."""
    return {
        "apiVersion": API_VERSION,
        "kind": TRAINING_RUN.name,
        "metadata": {"name": NAME, "namespace": namespace},
        "spec": {
            "model": {
                "layers": 1,
                "hiddenSize": 64,
                "attentionHeads": 1,
                "vocabularySize": 256,
                "contextLength": 64,
            },
            "data": {"uri": "/data"},
            "training": {"steps": 1, "globalBatchSize": 8, "optimizer": {"learningRate": 1e-3}},
            "compute": {"profile": profile},
            "checkpoint": {"uri": "/checkpoints"},
        },
    }


async def check_admission(cluster: VerificationCluster, namespace: str) -> str:
    """Return why no run would be admitted in `namespace`; empty where one would be."""
    try:
        names = sorted(str(profile["metadata"]["name"]) for profile in await cluster.find(PROFILE, ""))
        if not names:
            return "there is no ComputeProfile, and a run needs one: see profiles of the chart"
        await cluster.would_create(TRAINING_RUN, smallest_run(namespace, names[0]))
    except ClusterError as error:
        return f"no run would be admitted in namespace {namespace}: {error}"
    return ""


async def check_api(session: aiohttp.ClientSession, api: ApiAccess, namespace: str) -> str:
    """Return why the API does not list the runs of a namespace; empty where it does."""
    try:
        async with session.get(
            f"{api.url.rstrip('/')}/v1/namespaces/{namespace}/runs",
            headers=api.headers(),
            ssl=api.context(),
            timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS),
        ) as response:
            text = await response.read()
    except (aiohttp.ClientError, ApiUnreachable, TimeoutError, OSError) as error:
        said = getattr(error, "strerror", None) or str(error)
        return f"the API at {api.url} does not answer: {type(error).__name__}: {said}".rstrip(": ")
    return "" if response.status == 200 else f"the API answers with {describe_error(response.status, text)}"


def describe_error(status: int, text: bytes) -> str:
    """Return an error answer as a message; of a server error, which will change, only its title."""
    try:
        said = json.loads(text)["detail" if status < 500 else "title"]
    except (ValueError, KeyError, TypeError):
        said = text[:300].decode(errors="replace")
    return f"HTTP {status}: {said}"


async def wait_for(checks: Mapping[str, Missing], seconds: float, pause: float = PAUSE_SECONDS) -> list[str]:
    """Return the items still missing after `seconds`; empty as soon as none is."""
    until = asyncio.get_running_loop().time() + seconds
    left, told = dict(checks), dict.fromkeys(checks, "")
    while True:
        for name, check in list(left.items()):
            missing = await check()
            if not missing:
                _log.info(name)
                del left[name]
            elif missing != told[name]:
                _log.info("waiting", extra=log_fields(why=missing))
            told[name] = missing
        if not left or asyncio.get_running_loop().time() >= until:
            return [told[name] for name in left]
        await asyncio.sleep(pause)


def bundle_in(file: Path) -> str:
    """Return CA certificates in PEM from the kubelet's file; empty while it does not exist."""
    try:
        return file.read_text()
    except OSError:
        return ""


async def _main(own: VerifySettings, seconds: float) -> list[str]:
    api = ApiAccess(own.api_url, own.api_token_file, lambda: bundle_in(own.api_ca_file))
    cluster = KubernetesCluster(await login())
    try:
        async with aiohttp.ClientSession() as session:
            checks: dict[str, Missing] = {
                "a run would be admitted": lambda: check_admission(cluster, own.namespace),
                "the API answers": lambda: check_api(session, api, own.namespace),
            }
            return await wait_for(checks, seconds)
    finally:
        await cluster.close()


def main() -> int:
    """Return the exit code: 0 once all is there, 78 for invalid settings, 1 where something is missing."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--seconds", type=float, default=SECONDS, help="seconds to keep trying (default: %(default)s)"
    )
    seconds = parser.parse_args().seconds
    try:
        own = environment.read_settings(VerifySettings)
    except ValueError as error:
        print(f"footplate-operator: {error}", file=sys.stderr)
        return 78
    logs.configure("footplate_operator", level="INFO", log_format=own.log_format)
    try:
        missing = asyncio.run(_main(own, seconds))
    except ClusterError as error:
        missing = [str(error)]
    for why in missing:
        _log.error("missing", extra=log_fields(why=why))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
