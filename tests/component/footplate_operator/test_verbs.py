"""Every verb of the operator's roles is used, by one story that a recording API server listens to.

A right that nobody uses is one that whoever takes the operator over has for nothing.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from cluster.kubernetes.envtest import ApiServer, api_server
from footplate_contracts.names import MANAGED_BY, MANAGED_BY_LABEL
from footplate_ledger.intervals import unix_second
from footplate_operator.profiles import PROFILE
from footplate_operator.runtime.kinds import (
    CONFIG_MAP,
    DISRUPTION_BUDGET,
    NETWORK_POLICY,
    POD,
    REVISION,
    SECRET,
    SERVICE,
)
from footplate_operator.tariff.profile_prices import build_missing_entries, read_statement
from footplate_operator.tariff.tariffs import PRICE_ENTRY
from footplate_operator.trainingrun.controller import TrainingRunController
from footplate_operator.trainingrun.run import TRAINING_RUN
from footplate_operator.usage.writes import USAGE_RECORD
from tests.component.footplate_operator.api import Api, wait_for
from tests.component.footplate_operator.conftest import (
    Process,
    grant,
    kubeconfig_of,
    loopback_network,
    operator_process,
)
from tests.component.footplate_operator.kubelet import Node, StandIn
from tests.component.footplate_operator.test_operator import _phase, _run
from tests.support import audit
from tests.support.chart import NAMESPACE, rendered
from tests.support.operator_fakes import profile_manifest

ACCOUNT: Final = f"system:serviceaccount:{NAMESPACE}:footplate-operator"
API_SERVICE: Final = "footplate-api"
HASTY: Final = "tests.component.footplate_operator.hasty"
QUIET: Final = ("service/tiny-coordinator", "pdb/tiny", "networkpolicy/tiny")
KINDS: Final = {
    "configmap": CONFIG_MAP,
    "controllerrevision": REVISION,
    "networkpolicy": NETWORK_POLICY,
    "pdb": DISRUPTION_BUDGET,
    "pod": POD,
    "secret": SECRET,
    "service": SERVICE,
}
Verb = tuple[str, str, str]  # API group, resource, verb
# By which it has come to the last kind of a run's children, which it deletes with one request each.
PURGE: Final = {
    (owned.kind.plural, "deletecollection") for owned in TrainingRunController.owns if not owned.unread
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that notes what it is asked."""
    folder = tmp_path_factory.mktemp("recording")
    with api_server(folder / "api-server", flags=audit.flags(folder)) as running:
        api = Api(running.kubectl, running.kubeconfig)
        api("apply", "--server-side", "-f", "crds/")
        api("wait", "--for=condition=Established", "--timeout=30s", "-f", "crds/")
        grant(running)
        yield running


@pytest.fixture
def requests(server: ApiServer) -> audit.Log:
    return audit.Log(server.kubeconfig.parent.parent)


def granted(cluster: bool) -> set[Verb]:
    """What the chart's roles of the operator grant: in its own namespace alone, or of the `cluster`."""
    kinds = ("ClusterRole",) if cluster else ("Role",)
    roles = [
        body
        for body in rendered()
        if body["kind"] in kinds and body["metadata"]["labels"]["app.kubernetes.io/component"] == "operator"
    ]
    assert len(roles) >= 2
    return {
        found
        for role in roles
        for rule in role["rules"]
        for found in itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])
    }


@contextmanager
def working(node: Node) -> Iterator[None]:
    """The node of the block."""
    StandIn.saved.clear()
    stop = threading.Event()
    thread = threading.Thread(target=node.keep, args=(stop,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=20)
        node.close()


def the_story(server: ApiServer, api: Api, folder: Path) -> None:
    """What an operator does in its life, once."""
    home = replace(api, namespace=NAMESPACE)
    api.apply(profile_manifest("local-cpu", price={"dollarsPerNodeHour": 2.5}))
    api.apply(_entry_of_that_name(api))
    api.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "machine"}})
    node = Node(api, folder, loopback_network())
    more: dict[str, Any] = {"module": HASTY, "api_service": API_SERVICE}
    with working(node):
        with operator_process(server, folder, "first", **more) as first:
            wait_for(lambda: first.said("message=leading"), "it leads")
            api.apply(_run(api, steps=100_000, compute={"profile": "local-cpu", "nodes": 2, "spares": 1}))
            _phase(api, "Running")
            _children_are_edited(api)
            _certificates_are_edited(home)
            _pods_are_bound(api, node)
            wait_for(lambda: api.names(USAGE_RECORD), "usage is noted")
            _usage_is_over(api)
            asked = Asked(server)
            wait_for(lambda: ("events", "list") in asked(), "why the spare does not start is asked")
            node.working = True
        api("delete", "trun", "tiny", "--wait=true", "--timeout=5s")
        api.apply(_run(api, steps=400, ttlSecondsAfterFinished=0))
        with operator_process(server, folder, "second", **more) as second:
            _ends(api, second)
            wait_for(lambda: asked() >= PURGE, "what is left of its children is deleted")


class Asked:
    """What the operator has asked of a server so far: resources and verbs."""

    def __init__(self, server: ApiServer) -> None:
        self._log = audit.Log(server.kubeconfig.parent.parent)
        self._known: set[tuple[str, str]] = set()

    def __call__(self) -> set[tuple[str, str]]:
        self._known |= {(request.resource, request.verb) for request in self._log.of(ACCOUNT)}
        return self._known


def _entry_of_that_name(api: Api) -> dict[str, Any]:
    """A price that somebody else has written under the name that the profile's will have."""
    [entry] = build_missing_entries(
        read_statement(api.get(PROFILE, "local-cpu") or {}), (), unix_second(datetime.now(UTC))
    )
    spec = {"profile": "other", "dollarsPerNodeHour": 1, "effectiveFrom": "2026-01-01T00:00:00Z"}
    kind = {"apiVersion": PRICE_ENTRY.api_version, "kind": PRICE_ENTRY.name}
    return {**kind, "metadata": {"name": entry.name}, "spec": spec}


def _children_are_edited(api: Api) -> None:
    """Each loses its label, so that no watch shows it any more, or is deleted."""
    config = next(name for name in api.names(CONFIG_MAP) if name.startswith("tiny-"))
    edited = (*QUIET, f"configmap/{config}", "pod/tiny-w0-0")
    for child in edited:
        api("label", child, "app.kubernetes.io/managed-by-")
    api("delete", "secret/tiny-run", "controllerrevision/tiny-1")
    wait_for(lambda: _labelled(api, (*edited, "controllerrevision/tiny-1")), "all are labelled again")


def _labelled(api: Api, children: tuple[str, ...]) -> bool:
    labels = [_get(api, child).get("metadata", {}).get("labels", {}) for child in children]
    return all(shown.get(MANAGED_BY_LABEL) == MANAGED_BY for shown in labels)


def _get(api: Api, child: str) -> dict[str, Any]:
    """What kubectl would call by that name; empty where it is not there."""
    kind, _, name = child.partition("/")
    return api.get(KINDS[kind], name) or {}


def _certificates_are_edited(home: Api) -> None:
    """First so that they can be set right, then so that they have to be made anew."""
    garbage = {
        f"secret/{API_SERVICE}-authority": {"1.crt": "YQ=="},
        f"secret/{API_SERVICE}-tls": {"tls.crt": "YQ==", "tls.key": "YQ=="},
        f"configmap/{API_SERVICE}-ca": {"ca.crt": "a"},
    }
    wait_for(lambda: home.get(CONFIG_MAP, f"{API_SERVICE}-ca"), "who vouches is published")
    for more in ({}, {"immutable": True}):
        for name, data in garbage.items():
            patch = json.dumps({"data": data, **more})
            edited = json.loads(home("patch", name, "--type=merge", "-p", patch, "-o", "json"))["data"]

            def is_right(name: str = name, edited: dict[str, str] = edited) -> bool:
                return _get(home, name).get("data") not in (None, edited)

            wait_for(is_right, f"{name} is set right")


def _pods_are_bound(api: Api, node: Node) -> None:
    """One to a Node that is there and one to none; a spare takes a place, and the next does not start."""
    api.bind("tiny-w0-0", "machine")
    api.bind("tiny-w1-0", "nowhere")
    node.working = False
    node.kill("tiny-w1-0")
    spare = wait_for(lambda: _unbound(api), "another spare")
    api.bind(spare, "machine")


def _unbound(api: Api) -> str | None:
    waiting = (pod for pod in api.find(POD) if not pod["spec"].get("nodeName"))
    return next((pod["metadata"]["name"] for pod in waiting if pod["status"]["phase"] == "Pending"), None)


def _usage_is_over(api: Api) -> None:
    """A record that nobody takes, for longer than they are kept."""
    name = api.names(USAGE_RECORD)[0]
    record = api.get(USAGE_RECORD, name) or {}
    over = {"footplate.dev/completed-since": "2026-01-01T00:00:00Z"}
    metadata = {"name": "late", "labels": record["metadata"]["labels"], "annotations": over}
    kind = {"apiVersion": USAGE_RECORD.api_version, "kind": USAGE_RECORD.name}
    api.apply({**kind, "metadata": metadata, "spec": {**record["spec"], "completed": True}})


def _ends(api: Api, operator: Process) -> None:
    """It comes in the place of its namesake, whose children are in the way, and is deleted at its end."""
    wait_for(lambda: operator.said("message=leading"), "it leads")
    try:
        wait_for(lambda: api.get(TRAINING_RUN, "tiny") is None or None, "it is deleted", 120)
    except AssertionError as late:
        said = "\n".join(operator.log.read_text().splitlines()[-40:])
        raise AssertionError(f"{late}: {api.get(TRAINING_RUN, 'tiny')}\n{said}") from None
    wait_for(lambda: "late" not in api.names(USAGE_RECORD) or None, "records that nobody took are deleted")


def test_every_verb_is_used(server: ApiServer, requests: audit.Log, tmp_path: Path) -> None:
    api = Api(server.kubectl, server.kubeconfig, "default")
    the_story(server, api, tmp_path)
    seen = list(requests.of(ACCOUNT))
    assert not [request for request in seen if request.code == 403 and request.resource != "leases"]
    used: dict[bool, set[Verb]] = {True: set(), False: set()}
    for request in seen:
        used[request.namespace != NAMESPACE].add((request.group, request.resource, request.verb))
    unused = {
        "in all namespaces": granted(cluster=True) - used[True],
        "in its own": granted(cluster=False) - used[False],
    }
    assert unused == {"in all namespaces": set(), "in its own": set()}


@pytest.mark.parametrize("verb", ["get", "list", "watch", "patch", "update", "deletecollection"])
def test_nobody_lets_it_read_a_secret_elsewhere(server: ApiServer, verb: str) -> None:
    """A patch and the deletion of many are answered with what was in them."""
    api = Api(server.kubectl, server.kubeconfig)
    home = replace(api, namespace=NAMESPACE)
    own = replace(
        api, kubeconfig=kubeconfig_of(server, "asks", home("create", "token", "footplate-operator").strip())
    )
    assert own.can_i(verb, SECRET, "default") == "no"
    assert own.can_i("create", SECRET, "default") == "yes"
    assert own.can_i(verb, SECRET, NAMESPACE) == "no", "but by the names of its own"
