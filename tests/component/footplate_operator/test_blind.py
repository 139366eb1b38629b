"""A leader that may renew its Lease and sees nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from cluster.kubernetes.envtest import ApiServer
from footplate_operator.runtime.kinds import LEASE, POD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import Process, operator_process
from tests.support.chart import NAMESPACE, rendered
from tests.support.operator_fakes import run_manifest
from tests.support.outage import Way, way_to

_BINDING = "footplate-operator"
_CLUSTER = "footplate-operator-cluster"
_PRICES = {"priceentries", "carbonintensities"}


def _last_heard(operator: Process, kind: str) -> float:
    """When a watch of the kind was heard of last, in seconds since the Unix epoch."""
    series = f'footplate_operator_watch_last_event_timestamp_seconds{{kind="{kind}"}} '
    lines = operator.ask("/metrics")[1].splitlines()
    return next(float(line.removeprefix(series)) for line in lines if line.startswith(series))


@contextmanager
def _leading(server: ApiServer, folder: Path) -> Iterator[tuple[Process, Way]]:
    """An operator that leads, and its way to the API server."""
    kubeconfig = yaml.safe_load(server.kubeconfig.with_name("operator.kubeconfig").read_text())
    target = kubeconfig["clusters"][0]["cluster"]
    with way_to(int(target["server"].rsplit(":", 1)[1])) as way:
        target["server"] = f"https://127.0.0.1:{way.port}"
        path = folder / "kubeconfig"
        path.write_text(yaml.safe_dump(kubeconfig))
        with operator_process(server, folder, kubeconfig=path) as operator:
            wait_for(lambda: operator.said("message=leading"), "it leads")
            yield operator, way


@pytest.mark.long
def test_a_leader_whose_rights_are_revoked_says_so_and_lets_go(
    server: ApiServer, api: Api, tmp_path: Path
) -> None:
    """The API server looks at rights when a watch begins, so the ones that are open are ended here."""
    with _leading(server, tmp_path) as (operator, way):
        wait_for(lambda: operator.ask("/readyz") == (200, "ok\n"), "it is ready")
        api("delete", "clusterrolebinding", _BINDING)
        try:
            way.cut()
            blind = ("no event of Pod for", "no event of TrainingRun for")  # not in the same moment
            wait_for(
                lambda: all(word in (_unready(operator) or "") for word in blind), "it says so of both", 90
            )
            assert 70 <= time.time() - _last_heard(operator, "Pod") <= 90
            assert operator.process.wait(timeout=15) == 1
            lease = replace(api, namespace=NAMESPACE).get(LEASE, "footplate-operator")
            assert lease is not None and lease["spec"]["holderIdentity"] == ""
        finally:
            api.apply(*(it for it in rendered() if it["kind"] == "ClusterRoleBinding"))


def _unready(operator: Process) -> str | None:
    status, text = operator.ask("/readyz")
    return text if status == 503 else None


def test_a_replica_that_may_not_see_is_not_ready_and_does_not_lead(
    server: ApiServer, api: Api, tmp_path: Path
) -> None:
    api("delete", "clusterrolebinding", _BINDING)
    try:
        with operator_process(server, tmp_path) as operator:
            said = wait_for(lambda: _unready(operator), "it is not ready")
            assert "TrainingRun cannot be listed" in said
            assert operator.said("message=leading") == 0
            api.apply(*(it for it in rendered() if it["kind"] == "ClusterRoleBinding"))
            wait_for(lambda: operator.said("message=leading"), "it leads")
            assert operator.ask("/readyz") == (200, "ok\n")
    finally:
        api.apply(*(it for it in rendered() if it["kind"] == "ClusterRoleBinding"))


def test_a_replica_that_may_not_see_nodes_goes_on_without(
    server: ApiServer, api: Api, tmp_path: Path
) -> None:
    rules = [it for it in rendered("--set", "operator.watchNodes=false") if it["kind"] == "ClusterRole"]
    try:
        api.apply(*rules)
        with operator_process(server, tmp_path) as operator:
            wait_for(lambda: operator.said("message=leading"), "it leads")
            assert operator.ask("/readyz") == (200, "ok, without Node\n")
            status, text = operator.ask("/metrics")
            assert status == 200 and 'watch_last_event_timestamp_seconds{kind="Node"}' not in text
            assert operator.said("continuing without a kind") == 1
    finally:
        api.apply(*(it for it in rendered() if it["kind"] == "ClusterRole"))


@pytest.mark.long
def test_a_replica_that_may_not_see_prices_trains_without(
    server: ApiServer, api: Api, tmp_path: Path
) -> None:
    rules = [it for it in rendered() if (it["kind"], it["metadata"]["name"]) == ("ClusterRole", _CLUSTER)]
    for role in rules:
        role["rules"] = [rule for rule in role["rules"] if not _PRICES & set(rule.get("resources", ()))]
    try:
        api.apply(*rules)
        with operator_process(server, tmp_path) as operator:
            wait_for(lambda: operator.said("message=leading"), "it leads")
            assert operator.ask("/readyz") == (200, "ok, without CarbonIntensity, PriceEntry\n")
            body = run_manifest(budget={"dollars": 5})
            body["metadata"] = {"name": "tiny", "namespace": api.namespace}
            api.apply(body)
            wait_for(lambda: api.get(POD, "tiny-c1"), "it has a pod")
            [said] = wait_for(
                lambda: [it for it in api.status("tiny")["conditions"] if it["type"] == "WithinBudget"],
                "its budget is judged",
            )
            assert (said["status"], said["reason"]) == ("Unknown", "SpendingUnknown")
    finally:
        api.apply(*(it for it in rendered() if it["kind"] == "ClusterRole"))


def test_a_watch_that_breaks_off_sees_again(server: ApiServer, api: Api, tmp_path: Path) -> None:
    with _leading(server, tmp_path) as (operator, way):
        way.break_off(b"", 1000)
        way.cut()
        wait_for(lambda: operator.said("will retry") >= 3, "each watch has failed")
        body = run_manifest()
        body["metadata"] = {"name": "tiny", "namespace": api.namespace}
        api.apply(body)
        way.break_off(b"", 0)
        wait_for(lambda: api.status("tiny").get("phase"), "it sees the run", 5)
