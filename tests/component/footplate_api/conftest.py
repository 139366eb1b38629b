"""Every test that takes `empty_url`, `database_url`, `database` or `api` runs on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from starlette.datastructures import State

from cluster.kubernetes.envtest import ApiServer
from footplate_api.app import create_app
from footplate_api.app_context import AppContext
from footplate_api.db import migrate, revisions
from footplate_api.db.database import Database
from footplate_api.http.concurrency_limit import ConcurrencyLimit
from footplate_api.identity.access import AccessPolicy
from footplate_api.instruments import ApiMetrics, MirrorHealth
from footplate_api.kubernetes.namespace_scope import NamespaceScope
from footplate_api.runs.list_limits import RateLimitedLists
from footplate_api.settings import with_driver
from tests.component.footplate_api import kube
from tests.component.footplate_api.builders import coordinator, eventually
from tests.component.footplate_api.fakes import FakeCluster
from tests.component.footplate_api.patient_database import PatientDatabase
from tests.component.footplate_api.postgres import Server, server
from tests.support.review_server import BEARER, HASTE, FakeReviewer


def _migrate(url: str) -> None:
    """Brings the database to the newest schema, in a thread as another event loop may run in this one."""

    async def upgraded() -> None:
        opened = Database(url)
        await migrate.upgrade(opened)
        await opened.close()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, upgraded()).result()


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Shows on PostgreSQL in the long tests alone what is not about the database."""
    for item in items:
        parameters = (
            item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        )
        databases = {parameters.get("database_url"), parameters.get("empty_url")}
        if "postgresql" in databases and item.get_closest_marker("any_database"):
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    with server() as running:
        _migrate(with_driver(running.empty()))
        running.remember()
        yield running


@pytest.fixture(scope="session")
def kubernetes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One for all tests that leave each other's namespaces and names alone."""
    with kube.kubernetes(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture(scope="session")
def migrated_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SQLite database of the newest schema, to be copied."""
    file = tmp_path_factory.mktemp("migrated") / "footplate.db"
    _migrate(with_driver(f"sqlite:///{file}"))
    return file


@pytest.fixture
def sqlite_url(migrated_file: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The URL of a file `footplate.db` of the newest schema with no row in it, always the same one."""
    folder = tmp_path_factory.getbasetemp() / "sqlite"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return with_driver(f"sqlite:///{shutil.copy(migrated_file, folder)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, for tests that are about its migration."""
    if request.param == "sqlite":
        return with_driver(f"sqlite:///{tmp_path}/footplate.db")
    running: Server = request.getfixturevalue("postgres")
    return with_driver(running.empty())


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The URL of a database of the newest schema with no row in it, copied from one that was migrated."""
    if request.param == "sqlite":
        copied: str = request.getfixturevalue("sqlite_url")
        return copied
    running: Server = request.getfixturevalue("postgres")
    return with_driver(running.remembered())


@pytest_asyncio.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A database of the newest schema."""
    opened = PatientDatabase(database_url)
    yield opened
    await opened.close()


@dataclass
class Api:
    """A running application and what stands behind it."""

    client: httpx.AsyncClient
    cluster: FakeCluster
    context: AppContext
    reviewer: FakeReviewer
    turns: ConcurrencyLimit  # of costs
    histories: ConcurrencyLimit
    lists: RateLimitedLists
    state: State  # of the application

    async def coordinator(self, uid: str, name: str = "gpt", **more: Any) -> dict[str, str]:
        """Headers of the requests of a run's coordinator."""
        return await coordinator(self.context, uid, name, **more)

    async def mirrored(self, manifest: Mapping[str, Any]) -> None:
        """Returns once the run of `manifest` is known in that version."""
        about = manifest["metadata"]
        path = f"/v1/namespaces/{about['namespace']}/runs/{about['name']}"

        async def version() -> int:
            return int((await self.client.get(path)).json().get("resourceVersion", 0))

        await eventually(version, lambda seen: seen >= int(about["resourceVersion"]))


@asynccontextmanager
async def running(
    url: str, cluster: FakeCluster, access: AccessPolicy | None = None, **more: Any
) -> AsyncIterator[Api]:
    """The application with its lifespan: its database looked at for migrations, mirroring.

    `more` goes to `starting`.
    """
    async with starting(url, cluster, access=access, **more) as started:
        await started.context.startup.wait()
        yield started


@asynccontextmanager
async def starting(
    url: str,
    cluster: FakeCluster,
    migrations: Path | None = None,
    access: AccessPolicy | None = None,
    database: type[Database] = PatientDatabase,
    **more: Any,
) -> AsyncIterator[Api]:
    """The application as soon as it answers, with the migrations of a folder.

    `database` is `Database` where a test is about the time that it has; `more` goes to the context.
    """
    reviewer = more.pop("reviewer", None) or FakeReviewer()
    context = AppContext(
        database(url),
        cluster,
        reviewer,
        ApiMetrics(),
        MirrorHealth.of(more.get("served", NamespaceScope()).watched_namespaces),
        revision="abc123",
        access=access or HASTE,
        migrations=migrations or revisions.scripts(),
        **more,
    )
    app = create_app(context)
    async with app.router.lifespan_context(app):
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=BEARER) as client:
            state = app.state
            turns = state.costs.turns, state.histories.turns
            yield Api(client, cluster, context, reviewer, *turns, state.lists, state)


@pytest_asyncio.fixture
async def api(database_url: str) -> AsyncIterator[Api]:
    async with running(database_url, FakeCluster()) as started:
        yield started
