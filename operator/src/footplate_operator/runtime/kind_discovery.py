"""Waits until the API server serves kinds whose definitions were just created.

`python -m footplate_operator.runtime.kind_discovery footplate.dev/v1alpha1 trainingruns computeprofiles …`,
as a Job of the chart, before Helm creates the first objects of these kinds: the API server accepts a
definition at once, and serves its kind some tenths of a second later, on a busy machine some seconds. It
reads no object, and needs only the right to discovery, which every authenticated client has.
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
from footplate_contracts.logs import log_fields
from footplate_operator.errors import ClusterError
from footplate_operator.runtime.cluster import KubernetesCluster, login

PAUSE_SECONDS: Final = 0.1
MOST_SECONDS: Final = 90.0
_log = logging.getLogger(__name__)


class Discovery(Protocol):
    """Client that returns which kinds are served."""

    async def list_served_kinds(self, api_version: str) -> frozenset[str]:
        """Return the served kinds' plural names; raises ClusterError."""


async def wait_until_served(
    server: Discovery,
    api_version: str,
    plurals: Collection[str],
    seconds: float,
    pause: float = PAUSE_SECONDS,
) -> None:
    """Return once all are served; after `seconds` raise a ClusterError with the missing ones and why."""
    deadline = time.monotonic() + seconds
    while True:
        said = ""
        try:
            missing = sorted(set(plurals) - await server.list_served_kinds(api_version))
        except ClusterError as error:  # an API server that is busy, or starts again, answers later
            missing, said = sorted(plurals), f": {error}"
        if not missing:
            return
        if time.monotonic() >= deadline:
            raise ClusterError(
                f"{api_version}: not served after {seconds:.0f} s: {', '.join(missing)}{said};"
                " see the status of their CustomResourceDefinitions"
            )
        await asyncio.sleep(pause)


async def _main(api_version: str, plurals: Collection[str]) -> None:
    cluster = KubernetesCluster(await login())
    try:
        await wait_until_served(cluster, api_version, plurals, MOST_SECONDS)
    finally:
        await cluster.close()


def main() -> int:
    """Return the exit code: 0, 78 for an invalid setting, 1 where a kind is not served in time."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("api_version", help="API version, such as footplate.dev/v1alpha1")
    parser.add_argument("plurals", nargs="+", help="plural names of the kinds, as in URLs")
    asked = parser.parse_args()
    try:
        logs.configure("footplate_operator", log_format=logs.format_of(os.environ))
    except ValueError as error:
        print(f"footplate-operator: {error}", file=sys.stderr)
        return 78
    try:
        asyncio.run(_main(asked.api_version, asked.plurals))
    except ClusterError as error:
        _log.error("ended", extra=log_fields(error=error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
