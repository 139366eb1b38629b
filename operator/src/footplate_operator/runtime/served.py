"""Waits until the API server serves kinds whose definitions it was just given.

`python -m footplate_operator.runtime.served footplate.dev/v1alpha1 trainingruns computeprofiles …`, as a Job
of the chart, before Helm makes the first objects of these kinds: the API server takes a definition at once,
and serves its kind some tenths of a second later, on a busy machine some seconds. It asks for no object, and
needs no right but to ask what is served, which whoever is authenticated has.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys
import time
from collections.abc import Collection
from typing import Final, Protocol

from footplate_contracts import logs
from footplate_contracts.logs import fields
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import KubernetesCluster, login

PAUSE_SECONDS: Final = 0.1
MOST_SECONDS: Final = 90.0
_log = logging.getLogger(__name__)


class Discovery(Protocol):
    """What says which kinds are served."""

    async def served(self, api_version: str) -> frozenset[str]:
        """Their names in URLs; raises ClusterError."""


async def wait(
    server: Discovery,
    api_version: str,
    plurals: Collection[str],
    seconds: float,
    pause: float = PAUSE_SECONDS,
) -> None:
    """Return once all are served; raises ClusterError that says which are not, and why, after `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        said = ""
        try:
            missing = sorted(set(plurals) - await server.served(api_version))
        except ClusterError as error:  # an API server that is busy, or starts again, answers later
            missing, said = sorted(plurals), f": {error}"
        if not missing:
            return
        if time.monotonic() >= deadline:
            raise ClusterError(
                f"{api_version}: not served after {seconds:.0f} s: {', '.join(missing)}{said};"
                " the status of their CustomResourceDefinitions says why"
            )
        await asyncio.sleep(pause)


async def _main(api_version: str, plurals: Collection[str]) -> None:
    cluster = KubernetesCluster(await login())
    try:
        await wait(cluster, api_version, plurals, MOST_SECONDS)
    finally:
        await cluster.close()


def main() -> int:
    """Exit code 0, 78 for a setting that cannot be, 1 where a kind is not served in time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("api_version", help="such as footplate.dev/v1alpha1")
    parser.add_argument("plurals", nargs="+", help="names of the kinds in URLs")
    asked = parser.parse_args()
    try:
        logs.configure("footplate_operator", log_format=logs.format_of(os.environ))
    except ValueError as error:
        print(f"footplate-operator: {error}", file=sys.stderr)
        return 78
    try:
        asyncio.run(_main(asked.api_version, asked.plurals))
    except ClusterError as error:
        _log.error("ended", extra=fields(error=error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
