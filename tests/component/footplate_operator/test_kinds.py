"""A second kind through the whole machinery: it is one class, and lives beside the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cluster.kubernetes.envtest import ApiServer
from footplate_operator.runtime.kinds import CONFIG_MAP
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process, operator_process
from tests.component.footplate_operator.parcels import PARCEL, UID_LABEL, definition


@pytest.fixture
def operator(server: ApiServer, api: Api, tmp_path: Path) -> Iterator[Process]:
    """An operator of TrainingRuns and Parcels, which no chart gives rights to."""
    api.apply(definition(PARCEL))
    api("wait", "--for=condition=Established", "--timeout=30s", "crd/parcels.example.dev")
    module = "tests.component.footplate_operator.parcels"
    with operator_process(server, tmp_path, module=module, kubeconfig=server.kubeconfig) as process:
        wait_for(lambda: process.said("message=leading"), "the operator leads")
        yield process


def pack(api: Api, items: object) -> None:
    metadata = {"name": "p", "namespace": api.namespace}
    api.apply(
        {"apiVersion": PARCEL.api_version, "kind": "Parcel", "metadata": metadata, "spec": {"items": items}}
    )


def packed(api: Api, *items: str) -> None:
    """Waits until these items are packed, and the status says so."""

    def look() -> bool:
        status = (api.get(PARCEL, "p") or {}).get("status", {})
        there = [name for name in api.names(CONFIG_MAP) if name.startswith("p-")]
        return there == [f"p-{item}" for item in items] and status.get("packed") == len(items)

    wait_for(look, f"packed: {items}")


def test_another_kind_lives_and_dies(operator: Process, api: Api) -> None:
    pack(api, ["book", "pen"])
    packed(api, "book", "pen")
    before = api.get(CONFIG_MAP, "p-pen")
    api("delete", "configmap", "p-pen")
    wait_for(lambda: (api.get(CONFIG_MAP, "p-pen") or before) != before, "what drifted is made again")
    pack(api, ["book", "cup"])
    packed(api, "book", "cup")
    pack(api, "everything")
    said = wait_for(lambda: (api.get(PARCEL, "p") or {})["status"].get("conditions"), "a condition")
    assert (said[0]["type"], said[0]["status"], said[0]["reason"]) == ("Reconciled", "False", "ConfigRefused")
    assert "items: Input should be a valid list, not 'everything'" in said[0]["message"]
    pack(api, ["book"])
    packed(api, "book")
    api("delete", "parcel", "p")
    wait_for(lambda: not api.find(CONFIG_MAP, UID_LABEL) or None, "what it owned is gone, too")
    assert "Traceback" not in operator.log.read_text()
