"""Whatever is sent to the API, it answers as its OpenAPI document says, and with no error of its own."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any, Final

import pytest
import schemathesis
from fastapi import FastAPI
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema
from schemathesis.python.asgi import get_client

from footplate_api.app import create_app
from footplate_api.app_context import AppContext
from footplate_api.coordinators.record import CoordinatorPod
from footplate_api.coordinators.service import CoordinatorAuthorizer
from footplate_api.db.database import Database
from footplate_api.identity.caller import Caller
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.serialization.schemas import LARGEST
from footplate_api.tariff.schemas import EXAMPLE
from tests.component.footplate_api.strict_cluster import StrictCluster
from tests.support.review_server import BEARER, HASTE, FakeReviewer

SEED: Final = 20261128
RUNS: Final = "/v1/namespaces/{namespace}/runs"
NOT_CHECKED: Final = (
    "use_after_free",  # a run that is deleted is still told of: its history stays
    "positive_data_acceptance",  # Kubernetes, cursors and ranges have rules that no schema says
)


class AnyUid(str):
    """Equal to whatever a batch says its run is."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    def __ne__(self, other: object) -> bool:
        return not self == other


class Trusting(CoordinatorAuthorizer):
    """Takes everybody for the coordinator of everything: what is sent at random is a batch all the same."""

    async def authorize(self, caller: Caller, namespace: str, name: str) -> CoordinatorPod:
        return CoordinatorPod("pod", AnyUid("any"), namespace, name, LARGEST)


def configuration(examples: int) -> SchemathesisConfig:
    """All phases: examples, coverage of each constraint, fuzzing, and chains of linked operations."""
    return SchemathesisConfig.from_dict(
        {
            "seed": SEED,
            "continue-on-failure": True,
            "generation": {"max-examples": examples, "deterministic": True, "database": "none"},
            "headers": BEARER,
            "checks": {name: {"enabled": False} for name in NOT_CHECKED},
        }
    )


def application(url: str, any_spec: bool = True) -> FastAPI:
    """The API on SQLite and a cluster that refuses what a real one refuses.

    `any_spec`: for the specs of runs there is no rule, neither in the document nor in the cluster. The API
    passes them on as they are, and a request for each of their thousand bounds takes minutes.
    """
    database = Database(url)
    cluster = StrictCluster(any_spec)
    cluster.profiles[str(EXAMPLE["profile"])] = {"spec": {}}
    app = create_app(
        AppContext(database, cluster, FakeReviewer(), ApiMetrics(), MirrorHealth(), access=HASTE)
    )
    app.state.coordinators = Trusting(database, cluster)
    if any_spec:
        app.openapi()["components"]["schemas"]["TrainingRunSpec"] = {"type": "object"}
    return app


@contextmanager
def started(app: FastAPI) -> Iterator[None]:
    """`app` runs for the block, its database migrated."""
    deadline = time.monotonic() + 30
    with get_client(app) as client:
        while client.get("/readyz").status_code != 200:
            assert time.monotonic() < deadline, "it never starts"
        yield


def breaches(app: FastAPI, examples: int) -> tuple[list[str], Counter[tuple[Any, ...]]]:
    """What `app` answered otherwise than its document says; requests by phase, operation and status."""
    with started(app):
        return _breaches(app, examples)


def _breaches(app: FastAPI, examples: int) -> tuple[list[str], Counter[tuple[Any, ...]]]:
    described = schemathesis.openapi.from_asgi(
        "/openapi.json", app, config=configuration(examples), headers=BEARER
    )
    found: dict[tuple[str, ...], str] = {}
    answered: Counter[tuple[Any, ...]] = Counter()
    for event in from_schema(described).execute():
        if isinstance(event, events.NonFatalError | events.FatalError):
            found[(repr(event),)] = ""
        elif isinstance(event, events.ScenarioFinished):
            record = event.recorder
            for case, exchange in record.interactions.items():
                status = exchange.response.status_code if exchange.response else None
                answered[event.phase.value, record.cases[case].value.operation.label, status] += 1
            for check in chain.from_iterable(record.checks.values()):
                if (failed := check.failure_info) is not None:
                    about = (str(event.label), check.name, failed.failure.title)
                    found.setdefault(about, f"{failed.failure}\n{failed.code_sample}"[:1500])
    return [f"{': '.join(about)}\n{said}" for about, said in found.items()], answered


@pytest.mark.parametrize(
    ("examples", "any_spec"),
    [
        pytest.param(5, True, id="some"),
        pytest.param(300, True, marks=pytest.mark.long, id="many"),
        pytest.param(5, False, marks=pytest.mark.long, id="whole-specs"),
    ],
)
def test_every_answer_is_as_it_is_described(sqlite_url: str, examples: int, any_spec: bool) -> None:
    app = application(sqlite_url, any_spec)
    found, answered = breaches(app, examples)
    paths = app.openapi()["paths"]
    assert not found, "\n\n".join(found)
    described = {f"{verb.upper()} {path}" for path, verbs in paths.items() for verb in verbs}
    assert {operation for _, operation, _ in answered} == described
    assert {phase for phase, _, _ in answered} == {"examples", "coverage", "fuzzing", "stateful"}


@pytest.mark.long
def test_an_answer_that_is_not_described_would_be_found(sqlite_url: str) -> None:
    app = application(sqlite_url)
    paths = app.openapi()["paths"]
    del paths[f"{RUNS}/{{name}}"]["get"]["responses"]["404"]
    paths[RUNS]["get"]["responses"]["200"]["content"]["application/json"]["schema"] = {"type": "array"}
    found, _ = breaches(app, examples=1)
    checks = {breach.split(": ")[1] for breach in found}
    assert checks == {"status_code_conformance", "response_schema_conformance"}
