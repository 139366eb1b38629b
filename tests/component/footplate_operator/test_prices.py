"""What a ComputeProfile says of its price, by a real API server and its notes of when that was said."""

from __future__ import annotations

import json
import time
from typing import Any

from footplate_ledger.conversion import parse_time
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import Json
from footplate_operator.tariff.tariffs import PRICE_ENTRY
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process
from tests.component.footplate_operator.kubelet import Node
from tests.support.operator_fakes import profile_manifest, run_manifest

NAME = "priced"


def _book(api: Api) -> list[Json]:
    """What the entries of the profile say, in the order of their numbers."""
    entries = {body["metadata"]["name"]: body["spec"] for body in api.find(PRICE_ENTRY)}
    return [entries[name] for name in sorted(entries) if name.startswith(f"{NAME}-")]


def _say(api: Api, price: dict[str, Any] | None) -> None:
    api("patch", "cprof", NAME, "--type=merge", "-p", json.dumps({"spec": {"price": price}}))


def _since(api: Api) -> str:
    """When somebody wrote the price last, by the API server."""
    profile = api.get(PROFILE, NAME)
    assert profile is not None
    managers = profile["metadata"]["managedFields"]
    return str(max(known["time"] for known in managers if "f:price" in known["fieldsV1"].get("f:spec", {})))


def test_a_price_becomes_entries_and_the_run_goes_on(operator: Process, api: Api, node: Node) -> None:
    api.apply(profile_manifest(NAME, price={"dollarsPerNodeHour": 2.5}))
    made = api.get(PROFILE, NAME)
    assert made is not None
    body = run_manifest(compute={"profile": NAME, "nodes": 2}, budget={"dollars": 1000})
    body["metadata"] = {"name": "tiny", "namespace": api.namespace}
    body["spec"]["training"]["steps"] = 10_000
    api.apply(body)
    wait_for(lambda: _book(api), "an entry")
    wait_for(lambda: api.status("tiny").get("phase") == "Running", "it trains")
    # Of two prices of one second the later one supersedes the other, and one entry stands then.
    wait_for(lambda: parse_time(made["metadata"]["creationTimestamp"]) < int(time.time()), "another second")
    _say(api, {"dollarsPerNodeHour": 3})
    wait_for(lambda: len(_book(api)) == 2, "another entry")
    first, second = _book(api)
    assert first["effectiveFrom"] == made["metadata"]["creationTimestamp"]
    assert (second["dollarsPerNodeHour"], second["effectiveFrom"]) == (3, _since(api))
    _say(api, None)
    wait_for(lambda: len(_book(api)) == 4, "both have ended")
    ended = _book(api)[2:]
    assert [entry["supersedes"][: len(NAME) + 7] for entry in ended] == [f"{NAME}-000001", f"{NAME}-000002"]
    assert all("effectiveTo" in entry for entry in ended)
    status = api.status("tiny")
    within = next(told for told in status["conditions"] if told["type"] == "WithinBudget")
    assert (status["phase"], within["status"]) == ("Running", "True")
    assert "refused" not in operator.log.read_text()
