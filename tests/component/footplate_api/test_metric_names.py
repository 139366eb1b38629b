"""Every metric of the API keeps the rules of names, and has its row in the page about them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from footplate_contracts.names import Cause, Phase
from tests.component.footplate_api.builders import RUNS, batch, checkpoint, eventually, row
from tests.component.footplate_api.conftest import Api
from tests.component.footplate_api.mirrors import running
from tests.support.exposition import families, faults, missing

PAGE: Final = Path(__file__).parents[3] / "docs" / "observability.md"
GAUGED = 1000  # runs that have gauges
# How many values a label may have that can have ten or more.
BOUNDS: Final = {
    "phase": len(Phase) + 1,  # and none, where no operator has looked yet
    "route": 40,
    "status": 20,
    "name": GAUGED,
    "namespace": GAUGED,
    "cause": len(Cause) + 1,  # and those of a newer release
}


async def scraped(api: Api) -> str:
    """Of an API that has a run with telemetry, and has refused something."""
    stored = await api.cluster.put("research", "gpt", status=running(1))
    uid = str(stored["metadata"]["uid"])
    body, headers = batch(uid, [row(1)], [checkpoint(1)]), await api.coordinator(uid)
    await api.client.post(f"{RUNS}/gpt/telemetry", json=body, headers=headers)
    await api.client.get("/v1/nothing")

    async def text() -> str:
        return (await api.client.get("/metrics")).text

    return await eventually(text, lambda found: "footplate_run_loss{" in found, seconds=60)


@pytest.mark.any_database
async def test_names_and_labels_keep_the_rules(api: Api) -> None:
    text = await scraped(api)
    assert list(faults(text, BOUNDS)) == []
    page = PAGE.read_text()
    said = {family.name + ("_total" if family.type == "counter" else "") for family in families(text)}
    assert {name for name in said if f"`{name}`" not in page} == set()


async def test_what_it_says_of_itself(api: Api) -> None:
    text = await scraped(api)
    wanted = (
        "footplate_api_build_info",
        "footplate_api_requests_in_flight",
        "footplate_api_loop_lag_seconds",
        "footplate_api_ingested_points_total",
        "footplate_api_ingest_waiting_deliveries",
        "footplate_api_database_connections",
    )
    assert missing(text, wanted) == set()
    assert "footplate_api_requests_in_flight 1.0" in text, "the scrape itself"
    assert "footplate_api_ingested_points_total 0.0" not in text

    async def measured() -> str:
        return (await api.client.get("/metrics")).text

    size = await eventually(measured, lambda found: "footplate_api_database_bytes 0.0" not in found)
    assert "footplate_api_database_bytes " in size
