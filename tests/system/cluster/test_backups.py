"""Back-ups of the API's database on the cluster, as docs/operations/backups.md has them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import pytest

from demo.install import CHART, NAMESPACE
from demo.kube import Kube
from tests.support.runs import Runs, tiny

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.alone]

STEPS: Final = 20
API: Final = ("-n", NAMESPACE, "deploy/footplate-api")
CLAIM: Final = "footplate-api-backups"
_WAIT: Final = ("--reset-then-reuse-values", "--wait", "--timeout=3m")


def upgrade(kube: Kube, *values: str) -> None:
    """The release with these values, too; the API's pod that follows answers."""
    kube.helm("upgrade", "footplate", CHART, "--namespace", NAMESPACE, *_WAIT, *values)
    kube.kubectl("rollout", "status", "deployment/footplate-api", "-n", NAMESPACE, "--timeout=120s")


def backups(kube: Kube, *words: str) -> str:
    """What the program of the image says, in the API's pod."""
    return kube.kubectl("exec", *API, "-c", "api", "--", "python", "-m", "footplate_api.backups", *words)


@pytest.fixture
def switched_on(kube: Kube) -> Iterator[None]:
    """Back-ups are made, and their volume goes with the test."""
    try:
        upgrade(kube, "--set=api.backup.enabled=true", "--set=api.backup.persistence.size=1Gi")
        yield
    finally:
        upgrade(kube, "--set=api.backup.enabled=false", "--set=api.backup.restoreFrom=")
        kube.kubectl("delete", "pvc", CLAIM, "-n", NAMESPACE, "--ignore-not-found")
        kube.kubectl("exec", *API, "-c", "api", "--", "sh", "-c", "rm -f /var/lib/footplate/*.before-*")


def _trained(runs: Runs) -> str:
    name = runs.apply(tiny(f"t{uuid.uuid4().hex[:8]}", runs.namespace, steps=STEPS, nodes=1))
    runs.wait_phase(name, "Succeeded", seconds=180)
    runs.whole_history(name, STEPS)
    return name


def _rows(runs: Runs, name: str) -> int:
    """Of its history; every run is known again within seconds, as its status is read anew."""
    rows = runs.until(f"the API to know {name}", lambda: runs.metrics_or_none(name), name, seconds=60)
    return len(rows)


def test_a_back_up_is_restored_and_what_was_there_can_be_had_back(
    kube: Kube, runs: Runs, switched_on: None
) -> None:
    runs.until("the first back-up", lambda: ".db" in backups(kube, "list") or None, "", seconds=60)
    before = _trained(runs)
    made = backups(kube, "make").partition(":")[0].rpartition("/")[2]
    assert made in backups(kube, "list")
    backups(kube, "verify", made)
    after = _trained(runs)

    upgrade(kube, f"--set=api.backup.restoreFrom={made}")
    assert made in kube.kubectl("logs", *API, "-c", "restore")
    assert (_rows(runs, before), _rows(runs, after)) == (STEPS, 0)

    # What was there is kept beside the database, and restored like any other.
    kept = "/var/lib/footplate/footplate.db.before-*"
    there = kube.kubectl("exec", *API, "-c", "api", "--", "sh", "-c", f"ls {kept}").split()
    copy = f"cp {there[0]} /var/lib/footplate-backups/before.db"
    kube.kubectl("exec", *API, "-c", "api", "--", "sh", "-c", copy)
    upgrade(kube, "--set=api.backup.restoreFrom=before.db")
    assert (_rows(runs, before), _rows(runs, after)) == (STEPS, STEPS)
    runs.delete(before)
    runs.delete(after)
