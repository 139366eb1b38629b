"""Copies credentials of live runs for an operator that may read none of the runs' Secrets.

`python -m footplate_operator.trainingrun.handover`, once: before and after an upgrade from a release whose
operator made random credentials, and where an installation comes back to runs of another key. It has the
right to read these Secrets while it runs, and copies what the operator cannot derive into Secrets of the
operator's own namespace. With `--rollout DEPLOYMENT` it goes on until no pod of an earlier operator is left,
which may admit runs until then.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final

from footplate_contracts import environment, logs
from footplate_contracts.logs import log_fields
from footplate_contracts.names import secret_name
from footplate_operator.errors import ClusterError, NotFound
from footplate_operator.installation_settings import InstallationSettings
from footplate_operator.keys import manifests
from footplate_operator.keys.credentials import RunCredentials
from footplate_operator.keys.manifests import KeySecretNames
from footplate_operator.runtime.cluster import Cluster, KubernetesCluster, login
from footplate_operator.runtime.kinds import SECRET, Json, Kind
from footplate_operator.runtime.objects import controller_of
from footplate_operator.trainingrun.manifests.children import read_secret
from footplate_operator.trainingrun.run import TRAINING_RUN, has_gang, phase_of

DEPLOYMENT: Final = Kind("apps/v1", "Deployment", "deployments")
PAUSE_SECONDS: Final = 1.0
ROLLOUT_SECONDS: Final = 300.0
_log = logging.getLogger("footplate_operator.keys")


async def hand_over(cluster: Cluster, place: KeySecretNames, namespaces: Sequence[str]) -> int:
    """Copy the credentials of all runs that may have pods; return how many. Raises ClusterError.

    Copies for runs that have ended are deleted; a live run's copy stays, also where its Secret is lost by
    now.
    """
    shards: dict[str, dict[str, RunCredentials | None]] = {name: {} for name in place.shards}
    async for run in _live(cluster, namespaces):
        uid = str(run["metadata"]["uid"])
        shards[place.shard(uid)][uid] = await _credentials(cluster, run)
    for name, found in shards.items():
        await _put(cluster, place, name, found)
    return sum(known is not None for found in shards.values() for known in found.values())


async def _live(cluster: Cluster, namespaces: Sequence[str]) -> AsyncIterator[Json]:
    for namespace in namespaces or [""]:
        async for page in cluster.pages(TRAINING_RUN, namespace):
            for run in page:
                if has_gang(run) and not phase_of(run).is_terminal:
                    yield run


async def _credentials(cluster: Cluster, run: Json) -> RunCredentials | None:
    """Return a run's credentials; None where its Secret is gone, another object's, or was emptied."""
    about = run["metadata"]
    try:
        body = await cluster.get(SECRET, about["namespace"], secret_name(about["name"]))
        return read_secret(body) if controller_of(body).get("uid") == about["uid"] else None
    except (NotFound, KeyError, ValueError) as error:
        _log.warning(
            "a run's credentials cannot be read", extra=log_fields(run=about["name"], error=repr(error))
        )
        return None


async def _put(
    cluster: Cluster, place: KeySecretNames, name: str, found: Mapping[str, RunCredentials | None]
) -> None:
    try:
        known = await cluster.get(SECRET, place.namespace, name)
    except NotFound:
        known = None
    before = manifests.read_entries(known or {})
    entries = {uid: own or before.get(uid) for uid, own in found.items()}
    data = {uid: manifests.encode_entry(own) for uid, own in entries.items() if own is not None}
    wanted = manifests.secret(place, name, data)
    if known is None:
        if data:
            await cluster.create(SECRET, wanted)
    elif (known.get("data") or {}) != wanted["data"]:
        await cluster.replace(SECRET, {**known, "data": wanted["data"]})


async def _is_rolled_out(cluster: Cluster, place: KeySecretNames, deployment: str) -> bool:
    """Return whether no pod of an earlier template is left."""
    body = await cluster.get(DEPLOYMENT, place.namespace, deployment)
    status, wanted = body.get("status", {}), body["spec"].get("replicas", 1)
    seen = status.get("observedGeneration") == body["metadata"]["generation"]
    counts = (status.get("replicas", 0), status.get("updatedReplicas", 0))
    return bool(seen and counts == (wanted, wanted))


async def _main(own: InstallationSettings, rollout: str) -> None:
    cluster = KubernetesCluster(await login())
    place, until = own.keys, time.monotonic() + ROLLOUT_SECONDS
    try:
        while True:
            last = not rollout or await _is_rolled_out(cluster, place, rollout) or time.monotonic() > until
            runs = await hand_over(cluster, place, own.watch_namespaces)
            _log.info("handed over credentials", extra=log_fields(runs=runs, last=last))
            if last:
                return
            await asyncio.sleep(PAUSE_SECONDS)
    finally:
        await cluster.close()


def main() -> int:
    """Return the exit code: 0, 78 for settings that cannot work, 1 where the API server refuses."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rollout", default="", metavar="DEPLOYMENT", help="Deployment of the operator")
    rollout = parser.parse_args().rollout
    try:
        own = environment.read_settings(InstallationSettings)
    except ValueError as error:
        print(f"footplate-operator: {error}", file=sys.stderr)
        return 78
    logs.configure("footplate_operator", level="INFO", log_format=own.log_format)
    try:
        asyncio.run(_main(own, rollout))
    except ClusterError as error:
        _log.error("ended", extra=log_fields(error=error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
