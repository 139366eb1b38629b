"""Two replicas as processes: who acts, and from when on."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

import pytest

from cluster.kubernetes.envtest import ApiServer
from footplate_operator.runtime.kinds import POD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import operator_process
from tests.component.footplate_operator.kubelet import Node
from tests.support.connection import Json
from tests.support.operator_fakes import profile_manifest, run_manifest

CHANGES = ("message=created", "message=deleting", "message=promoting", "message=phase")


def _run(api: Api, name: str, **spec: Any) -> Json:
    body = run_manifest(**spec)
    body["metadata"] = {"name": name, "namespace": api.namespace}
    body["spec"]["training"]["steps"] = 2000
    return body


def test_a_replica_takes_over_within_seconds(server: ApiServer, api: Api, tmp_path: Path) -> None:
    with operator_process(server, tmp_path, "first") as first:
        wait_for(lambda: first.said("message=leading"), "the first leads")
        with operator_process(server, tmp_path, "second") as second:
            wait_for(lambda: second.said("waiting for the Lease"), "the second waits")
            api.apply(_run(api, "before"))
            wait_for(lambda: api.status("before").get("phase"), "the first acts")
            assert second.said("message=leading") == 0
            assert "footplate_operator_runs{" in first.ask("/metrics")[1]
            status, text = second.ask("/metrics")
            assert status == 200 and "footplate_operator_runs{" not in text, "a sum would count them twice"
            other = profile_manifest(f"of-{api.namespace}")  # whose gangs wait for no turn of the first run
            api.apply(other)
            first.process.terminate()
            last = time.monotonic()  # whatever the first does after this only shortens what is measured
            compute = {"profile": other["metadata"]["name"], "nodes": 2}
            api.apply(_run(api, "after", compute=compute))
            assert first.process.wait(timeout=10) == 0
            wait_for(lambda: api.status("after").get("phase"), "the second acts", 10, pause=0.05)
            print(
                f"\nfrom SIGTERM of one leader to the first act of the next: {time.monotonic() - last:.1f} s"
            )
            wait_for(lambda: second.said("message=created") > 0, "by the second")
            assert time.monotonic() - last <= 5


@pytest.mark.long
def test_a_leader_that_was_stopped_does_nothing_when_it_goes_on(
    server: ApiServer, api: Api, node: Node, tmp_path: Path
) -> None:
    with operator_process(server, tmp_path, "first") as first:
        wait_for(lambda: first.said("message=leading"), "the first leads")
        api.apply(_run(api, "tiny"))
        wait_for(lambda: api.status("tiny").get("phase") == "Running", "it trains")
        with operator_process(server, tmp_path, "second") as second:
            wait_for(lambda: second.said("waiting for the Lease"), "the second waits")
            before = [first.said(change) for change in CHANGES]
            restarts = api.status("tiny").get("restarts", 0)
            first.process.send_signal(signal.SIGSTOP)
            try:
                node.kill("tiny-w1-0")  # the first is told, and would make a substitute
                wait_for(lambda: second.said("message=leading"), "the second leads")
                wait_for(lambda: "tiny-w1-1" in api.names(POD), "the second makes it")
            finally:
                first.process.send_signal(signal.SIGCONT)
            assert first.process.wait(timeout=10) == 1
            assert [first.said(change) for change in CHANGES] == before
            assert api.status("tiny")["restarts"] == restarts + 1
