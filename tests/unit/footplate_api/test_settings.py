"""The environment is read once; what is wrong is named, and no password is repeated."""

from __future__ import annotations

import pytest

from footplate_api.settings import Settings, load
from footplate_contracts.names import LogFormat


def test_defaults_are_those_of_a_laptop() -> None:
    expected = Settings("sqlite+aiosqlite:////data/footplate.db", "127.0.0.1", 8000, None, LogFormat.LOGFMT)
    assert load({}) == expected


def test_a_pod_listens_to_its_service() -> None:
    assert load({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}).host == "0.0.0.0"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        pytest.param("sqlite:////data/x.db", "sqlite+aiosqlite:////data/x.db", id="sqlite"),
        pytest.param("postgres://h/d", "postgresql+asyncpg://h/d", id="postgres"),
        pytest.param("postgresql://u:p@h/d", "postgresql+asyncpg://u:p@h/d", id="postgresql"),
        pytest.param("postgresql+asyncpg://h/d", "postgresql+asyncpg://h/d", id="with-its-driver"),
        pytest.param(
            "postgresql://u:p@h/d?sslmode=require&target_session_attrs=read-write",
            "postgresql+asyncpg://u:p@h/d?ssl=require&target_session_attrs=read-write",
            id="sslmode",
        ),
        pytest.param("", "sqlite+aiosqlite:////data/footplate.db", id="empty-is-unset"),
    ],
)
def test_urls_get_an_asynchronous_driver(given: str, used: str) -> None:
    assert load({"FOOTPLATE_DATABASE_URL": given}).database_url == used


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        pytest.param("FOOTPLATE_DATABASE_URL", "mysql://u:secret@h/d", "not with 'mysql'", id="database"),
        pytest.param("FOOTPLATE_DATABASE_URL", "secret.db", "not with 'no scheme'", id="no-url"),
        pytest.param(
            "FOOTPLATE_DATABASE_URL", "postgresql+psycopg://h/secret", "postgresql://,", id="driver"
        ),
        pytest.param(
            "FOOTPLATE_DATABASE_URL",
            "postgresql://u:secret@h/d?channel_binding=require",
            "the parameter 'channel_binding'",
            id="database-parameter",
        ),
        pytest.param("FOOTPLATE_API_PORT", "http", "from 1 to 65535, not 'http'", id="port"),
        pytest.param("FOOTPLATE_API_PORT", "0", "from 1 to 65535, not '0'", id="port-zero"),
        pytest.param("FOOTPLATE_API_PORT", "65536", "not '65536'", id="port-too-large"),
    ],
)
def test_a_wrong_variable_is_named(variable: str, value: str, said: str) -> None:
    with pytest.raises(ValueError, match=variable) as refused:
        load({variable: value})
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
