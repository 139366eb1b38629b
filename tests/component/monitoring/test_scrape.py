"""A real Prometheus that the chart's monitors lead to the API: what becomes of the labels."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster.machine.ports import claim_ports
from footplate_api.db.database import Database
from footplate_api.registry import repository, run_rows
from footplate_api.settings import with_driver
from tests.component.footplate_api.conftest import migrated_file, sqlite_url
from tests.component.footplate_api.test_process import serving
from tests.component.footplate_api.test_tls import told
from tests.support import prometheus
from tests.support.certificates import Issuer, Volume
from tests.support.chart import NAMESPACE, one, rendered
from tests.support.review_server import ADMIN

__all__ = ["migrated_file", "sqlite_url"]  # fixtures of the API's tests

_MONITORED = ("--set", "metrics.serviceMonitor.enabled=true")


def run(namespace: str, name: str, step: int) -> dict[str, Any]:
    """A run that trains."""
    about = {
        "uid": f"uid-{name}",
        "namespace": namespace,
        "name": name,
        "resourceVersion": "1",
        "creationTimestamp": datetime.now(UTC).isoformat(),
    }
    return {"metadata": about, "status": {"phase": "Running", "progress": {"step": step}}}


async def store(url: str, *manifests: dict[str, Any]) -> None:
    """Have the API's database know them."""
    opened = Database(url)
    async with opened.write() as session:
        await repository.store_runs(session, [run_rows.row(body, datetime.now(UTC)) for body in manifests])
    await opened.close()


def test_the_labels_of_a_run_are_its_own(sqlite_url: str, tmp_path: Path) -> None:
    asyncio.run(store(with_driver(sqlite_url), run("team-a", "tiny", step=7)))
    issuer, volume = Issuer(), Volume(tmp_path / "tls")
    volume.put(issuer.serving("footplate-api", NAMESPACE))
    [port] = claim_ports(1)
    objects = rendered(*_MONITORED)
    config = prometheus.scrape_config(
        one(objects, "ServiceMonitor", "footplate-api"),
        one(objects, "Service", "footplate-api"),
        f"127.0.0.1:{port}",
        {"footplate-api-ca": issuer.bundle},
        ADMIN,
        tmp_path,
    )
    with serving(tmp_path, port, sqlite_url, **told(volume)), prometheus.server(tmp_path, [config]) as server:
        [step] = server.wait("footplate_run_step")
        assert step.value == 7
        assert step.labels == {
            "__name__": "footplate_run_step",
            "namespace": "team-a",
            "name": "tiny",
            "job": "footplate-api",
            "instance": f"127.0.0.1:{port}",
            "service": "footplate-api",
            "pod": "footplate-api-0",
            "container": "api",
            "endpoint": "https",
        }
        [up] = server.query("up")
        assert up.labels["namespace"] == NAMESPACE, "what is said of the program is of its own namespace"
        for overwritten in ("job", "instance", "service", "pod", "container", "endpoint"):
            assert not server.query(f'{{__name__=~"footplate_.*", exported_{overwritten}!=""}}')
