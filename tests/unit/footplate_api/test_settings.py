"""The environment is read once; what is wrong is named, and no password is repeated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from footplate_api.http.certificate import Files
from footplate_api.identity.oidc.config import OidcConfig
from footplate_api.metrics.retention import RetentionLimits
from footplate_api.settings import ALL_ADDRESSES, ApiSettings
from footplate_contracts.environment import read_settings
from footplate_contracts.names import LogFormat

Tell = Callable[[Mapping[str, str]], None]


def test_defaults_are_those_of_a_laptop(told: Tell) -> None:
    told({})
    assert read_settings(ApiSettings).model_dump() == {
        "database_url": "sqlite+aiosqlite:////data/footplate.db",
        "in_pod": False,
        "api_host": "127.0.0.1",
        "api_port": 8000,
        "tls_certificate_file": None,
        "tls_key_file": None,
        "tls_look_seconds": 10.0,
        "database_size": None,
        "backup_folder": None,
        "backup_schedule": {"text": "17 3 * * *"},
        "backup_keep": 7,
        "restore_from": None,
        "retention_rows_per_run": 1_000_000,
        "retention_full_days": 30.0,
        "retention_rows_after": 10_000,
        "retention_kept_days": 365.0,
        "body_seconds": 30.0,
        "token_audiences": "footplate-api",
        "rate_per_second": 50.0,
        "rate_burst": 200,
        "telemetry_rate_per_second": 20.0,
        "telemetry_rate_burst": 100,
        "watch_namespaces": (),
        "cluster_scoped": True,
        "metrics_public": False,
        "docs_public": False,
        "oidc_issuer": None,
        "oidc_audiences": "",
        "oidc_username_claim": "sub",
        "oidc_username_prefix": "",
        "oidc_groups_claim": None,
        "oidc_groups_prefix": "",
        "oidc_required_claims": "",
        "oidc_algorithms": "RS256,ES256",
        "oidc_ca_file": None,
        "revision": None,
        "log_level": "INFO",
        "log_format": LogFormat.LOGFMT,
    }


def test_a_pod_listens_to_its_service(told: Tell) -> None:
    told({"KUBERNETES_SERVICE_HOST": "10.96.0.1"})
    assert read_settings(ApiSettings).api_host == ALL_ADDRESSES


CERTIFICATE = {"FOOTPLATE_TLS_CERTIFICATE_FILE": "/tls/tls.crt", "FOOTPLATE_TLS_KEY_FILE": "/tls/tls.key"}


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_in_clear_it_serves_this_machine(told: Tell, host: str) -> None:
    told({"FOOTPLATE_API_HOST": host})
    assert read_settings(ApiSettings).certificate is None


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        pytest.param({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, "in a pod the API requires TLS", id="pod"),
        pytest.param(
            {"FOOTPLATE_API_HOST": "0.0.0.0"}, "FOOTPLATE_API_HOST '0.0.0.0' requires TLS", id="anywhere"
        ),
        pytest.param(
            {"FOOTPLATE_API_HOST": "::"}, "FOOTPLATE_API_HOST '::' requires TLS", id="anywhere-by-ipv6"
        ),
        pytest.param({"FOOTPLATE_API_HOST": "::"}, "FOOTPLATE_API_HOST '::' requires TLS", id="anywhere-6"),
        pytest.param(
            {"FOOTPLATE_API_HOST": "api.example"}, "FOOTPLATE_API_HOST 'api.example' requires TLS", id="name"
        ),
        *(
            pytest.param(
                {name: "/x", "FOOTPLATE_API_HOST": "0.0.0.0"},
                "set together, and FOOTPLATE_TLS_",
                id=name,
            )
            for name in CERTIFICATE
        ),
    ],
)
def test_in_clear_it_serves_nobody_else(told: Tell, environment: dict[str, str], says: str) -> None:
    told(environment)
    with pytest.raises(ValueError, match=says):
        _ = read_settings(ApiSettings).certificate


@pytest.mark.parametrize("environment", [{}, {"KUBERNETES_SERVICE_HOST": "10.96.0.1"}], ids=["desk", "pod"])
def test_with_a_certificate_it_serves_everywhere(told: Tell, environment: dict[str, str]) -> None:
    told({**CERTIFICATE, **environment, "FOOTPLATE_API_HOST": "0.0.0.0"})
    assert read_settings(ApiSettings).certificate == Files(Path("/tls/tls.crt"), Path("/tls/tls.key"))


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
def test_urls_get_an_asynchronous_driver(told: Tell, given: str, used: str) -> None:
    told({"FOOTPLATE_DATABASE_URL": given})
    assert read_settings(ApiSettings).database_url == used


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        pytest.param("FOOTPLATE_LOG_LEVEL", "loud", "one of DEBUG, INFO, WARNING,", id="log-level"),
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
        pytest.param("FOOTPLATE_DATABASE_SIZE", "2 GB", "such as 2Gi, not '2 GB'", id="size"),
        pytest.param(
            "FOOTPLATE_RETENTION_ROWS_PER_RUN", "10", "must be a number of at least 1000", id="rows"
        ),
        pytest.param("FOOTPLATE_RETENTION_KEPT_DAYS", "nan", "must be a number of days", id="days"),
        pytest.param("FOOTPLATE_BODY_SECONDS", "0", "a number of seconds", id="body"),
        pytest.param("FOOTPLATE_RATE_PER_SECOND", "0", "a number of requests", id="rate"),
        pytest.param("FOOTPLATE_RATE_BURST", "0", "a number of at least 1", id="burst"),
        pytest.param("FOOTPLATE_TELEMETRY_RATE_PER_SECOND", "inf", "a number of batches", id="batches"),
        pytest.param("FOOTPLATE_OIDC_AUDIENCES", "a", "unset without FOOTPLATE_OIDC_ISSUER", id="no-issuer"),
        pytest.param(
            "FOOTPLATE_OIDC_ISSUER", "http://a.example.com", "begins with https://", id="plain-http"
        ),
        pytest.param("FOOTPLATE_OIDC_ISSUER", "https://a:b@c", "begins with https://", id="with-a-password"),
        pytest.param("FOOTPLATE_OIDC_ISSUER", "https://a/?b", "without query", id="with-a-query"),
        pytest.param("FOOTPLATE_OIDC_ISSUER", "issuer", "a URL that begins", id="no-issuer-url"),
        pytest.param(
            "FOOTPLATE_LOG_FORMAT", "xml", "is 'xml'; must be one of logfmt, json, text", id="log-format"
        ),
    ],
)
def test_a_wrong_variable_is_named(told: Tell, variable: str, value: str, said: str) -> None:
    told({variable: value})
    with pytest.raises(ValueError, match=variable) as refused:
        read_settings(ApiSettings)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)


def test_retention_is_on_by_default_and_counts_in_days(told: Tell) -> None:
    told({})
    assert read_settings(ApiSettings).limits == RetentionLimits()
    told({"FOOTPLATE_RETENTION_FULL_DAYS": "1.5", "FOOTPLATE_DATABASE_SIZE": "2Gi"})
    assert read_settings(ApiSettings).limits.full == timedelta(hours=36)
    assert read_settings(ApiSettings).database_size == 2 << 30


ISSUER = {"FOOTPLATE_OIDC_ISSUER": "https://login.example.com", "FOOTPLATE_OIDC_AUDIENCES": "a, b"}


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        pytest.param("AUDIENCES", "", "client ids, separated by commas, not ''", id="no-audience"),
        pytest.param("ALGORITHMS", "RS256,none", "one or more of RS256,", id="none"),
        pytest.param("ALGORITHMS", "HS256", "one or more of RS256,", id="symmetric"),
        pytest.param("ALGORITHMS", ",", "one or more of RS256,", id="no-algorithm"),
        pytest.param("USERNAME_PREFIX", "system:", "a prefix other than system:", id="username"),
        pytest.param("GROUPS_PREFIX", "system:a", "a prefix other than system:", id="groups"),
        pytest.param("REQUIRED_CLAIMS", "hd", "claim=value", id="required"),
    ],
)
def test_an_issuer_that_cannot_be_is_refused(told: Tell, variable: str, value: str, said: str) -> None:
    told({**ISSUER, f"FOOTPLATE_OIDC_{variable}": value})
    with pytest.raises(ValueError, match=f"FOOTPLATE_OIDC_{variable} must be ") as refused:
        read_settings(ApiSettings)
    assert said in str(refused.value)


def test_an_issuer_as_kubernetes_has_it(told: Tell) -> None:
    told(ISSUER)
    assert read_settings(ApiSettings).oidc == OidcConfig(
        "https://login.example.com", ("a", "b"), username_prefix="https://login.example.com#"
    )
    told(
        {
            **ISSUER,
            "FOOTPLATE_OIDC_USERNAME_CLAIM": "email",
            "FOOTPLATE_OIDC_GROUPS_CLAIM": "roles",
            "FOOTPLATE_OIDC_GROUPS_PREFIX": "oidc:",
            "FOOTPLATE_OIDC_REQUIRED_CLAIMS": "hd=example.com, tenant=a=b",
            "FOOTPLATE_OIDC_ALGORITHMS": "ES384",
            "FOOTPLATE_OIDC_CA_FILE": "/etc/ca.crt",
        }
    )
    assert read_settings(ApiSettings).oidc == OidcConfig(
        "https://login.example.com",
        ("a", "b"),
        "email",
        "",
        "roles",
        "oidc:",
        (("hd", "example.com"), ("tenant", "a=b")),
        ("ES384",),
        Path("/etc/ca.crt"),
    )
    told({})
    assert read_settings(ApiSettings).oidc is None
