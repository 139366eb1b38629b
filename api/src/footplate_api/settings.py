"""Settings from the environment, read once and validated at start."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import NoDecode, SettingsConfigDict

from footplate_api.db.backup_plan import BackupPlan, CronSchedule
from footplate_api.http.body_timeouts import BodyTimeout
from footplate_api.http.certificate import LOOK_SECONDS, Files
from footplate_api.identity.access import AccessPolicy
from footplate_api.identity.oidc.config import is_loopback
from footplate_api.identity.oidc.settings import OidcSettings
from footplate_api.identity.rate_limits import RateLimit, RateLimits
from footplate_api.metrics.retention import RetentionLimits
from footplate_contracts.environment import PREFIX
from footplate_contracts.names import API_AUDIENCE, Env, LogFormat
from footplate_contracts.quantity import parse_quantity

DEFAULT_DATABASE_URL = "sqlite+aiosqlite:////data/footplate.db"
DEFAULT_PORT = 8000
_DAY = timedelta(days=1)
_SQLITE = "sqlite+aiosqlite:///"
LogLevel = Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]

# Plain URLs, as charts and people write them, get the driver that this program has.
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
}
# Of a PostgreSQL URL; the driver takes any other for a mistake of this program.
_PARAMETERS = frozenset(
    {"host", "port", "prepared_statement_cache_size", "ssl", "sslmode", "target_session_attrs"}
)


def with_driver(text: str) -> str:
    """Return the database URL `text` with an asynchronous driver.

    Raises ValueError if it is no URL of SQLite or PostgreSQL; the message omits the rest of the URL, as that
    may hold a password.
    """
    scheme, separator, rest = text.partition("://")
    driver = _DRIVERS.get(scheme, scheme)
    if not separator or driver not in _DRIVERS.values():
        raise ValueError(
            "FOOTPLATE_DATABASE_URL must start with sqlite:/// or postgresql://,"
            f" not with {scheme[:40] if separator else 'no scheme'!r}"
        )
    return f"{driver}://{_for_asyncpg(rest) if driver == _DRIVERS['postgresql'] else rest}"


def _for_asyncpg(rest: str) -> str:
    """Return `rest` of a PostgreSQL URL with asyncpg's name for libpq's sslmode; raises ValueError."""
    place, separator, query = rest.partition("?")
    parameters = [part.partition("=") for part in query.split("&") if part]
    for name, _, _ in parameters:
        if name not in _PARAMETERS:
            known = ", ".join(sorted(_PARAMETERS))
            raise ValueError(f"FOOTPLATE_DATABASE_URL has the parameter {name[:40]!r}; allowed are: {known}")
    renamed = "&".join(f"{'ssl' if name == 'sslmode' else name}={value}" for name, _, value in parameters)
    return f"{place}{separator}{renamed}"


def port(text: str) -> int:
    """Parse a TCP port; raises ValueError with what would be right."""
    if not re.fullmatch(r"\d{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError(f"FOOTPLATE_API_PORT must be a number from 1 to 65535, not {text!r}")
    return int(text)


def _bytes(text: object) -> int | None:
    """Parse a quantity into bytes; raises ValueError with what would be right."""
    if text is None:
        return None
    found = parse_quantity(text)
    if found is None or found < 1:
        raise ValueError(f"FOOTPLATE_DATABASE_SIZE must be a quantity such as 2Gi, not {text!r}")
    return int(found)


def _schedule(text: object) -> CronSchedule:
    """Parse a cron schedule; raises ValueError with what would be right."""
    try:
        return CronSchedule(str(text))
    except ValueError as error:
        raise ValueError(
            "FOOTPLATE_BACKUP_SCHEDULE must be minute, hour, day of month, month and day of week, such as"
            f" '17 3 * * *' for 03:17 UTC each day, not {str(text)[:80]!r}: {error}"
        ) from None


def _names(text: object) -> tuple[str, ...]:
    """Split a list of names that are separated by commas."""
    return tuple(filter(None, map(str.strip, str(text).split(","))))


ALL_ADDRESSES: Final = ""  # as a server's host


def _usual_host(known: dict[str, Any]) -> str:
    """Return all addresses in a pod, else the loopback, as tokens may come over plain HTTP there."""
    return ALL_ADDRESSES if known["in_pod"] else "127.0.0.1"


class ApiSettings(OidcSettings):
    """Settings that differ between installations; an empty variable counts as absent."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, validate_default=False, frozen=True
    )

    database_url: Annotated[str, AfterValidator(with_driver)] = DEFAULT_DATABASE_URL
    in_pod: Annotated[bool, BeforeValidator(bool)] = Field(False, validation_alias="KUBERNETES_SERVICE_HOST")
    api_host: str = Field(default_factory=_usual_host)
    api_port: Annotated[int, BeforeValidator(port)] = DEFAULT_PORT
    tls_certificate_file: Path | None = Field(None, validation_alias=Env.TLS_CERTIFICATE_FILE)
    tls_key_file: Path | None = Field(None, validation_alias=Env.TLS_KEY_FILE)
    tls_look_seconds: float = Field(
        LOOK_SECONDS, gt=0, le=3600, description="a number of seconds above 0, at most 3600"
    )
    database_size: Annotated[int | None, BeforeValidator(_bytes)] = Field(
        None, description="a quantity such as 2Gi, the size limit of the database"
    )
    backup_folder: Path | None = None  # None: no back-ups are made
    backup_schedule: Annotated[CronSchedule, NoDecode, BeforeValidator(_schedule)] = BackupPlan.schedule
    backup_keep: int = Field(BackupPlan.keep, ge=1, description="a number of at least 1")
    restore_from: str | None = None  # while it is set, what was restored on its word is remembered
    retention_rows_per_run: int = Field(
        RetentionLimits.rows_per_run, ge=1000, description="a number of at least 1000"
    )
    retention_full_days: float = Field(
        RetentionLimits.full / _DAY, ge=0, le=1e5, description="a number of days"
    )
    retention_rows_after: int = Field(
        RetentionLimits.rows_after, ge=100, description="a number of at least 100"
    )
    retention_kept_days: float = Field(
        RetentionLimits.kept / _DAY, ge=0, le=1e5, description="a number of days"
    )
    body_seconds: float = Field(
        BodyTimeout.seconds, gt=0, le=3600, description="a number of seconds above 0, at most 3600"
    )
    token_audiences: str = Field(API_AUDIENCE, description="names separated by commas")
    rate_per_second: float = Field(
        RateLimits.requests.per_second, gt=0, le=1e6, description="a number of requests per caller"
    )
    rate_burst: int = Field(RateLimits.requests.burst, ge=1, le=10**6, description="a number of at least 1")
    telemetry_rate_per_second: float = Field(
        RateLimits.telemetry.per_second, gt=0, le=1e6, description="a number of batches per coordinator"
    )
    telemetry_rate_burst: int = Field(
        RateLimits.telemetry.burst, ge=1, le=10**6, description="a number of at least 1"
    )
    watch_namespaces: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_names)] = ()  # empty: all
    cluster_scoped: bool = Field(True, description="true or false")  # one of several installations has them
    metrics_public: bool = Field(False, description="true or false")
    docs_public: bool = Field(False, description="true or false")
    revision: str | None = None  # git revision of the build, for /version
    log_level: Annotated[LogLevel, BeforeValidator(str.upper)] = Field(
        "INFO", description=f"one of {', '.join(get_args(LogLevel))}"
    )
    log_format: LogFormat = Field(LogFormat.LOGFMT, description=f"one of {', '.join(LogFormat)}")

    @property
    def certificate(self) -> Files | None:
        """TLS certificate files; None where the API may serve without TLS.

        Raises ValueError where tokens and histories would cross a network in clear text.
        """
        certificate, key = self.tls_certificate_file, self.tls_key_file
        if certificate is not None and key is not None:
            return Files(certificate, key)
        both = f"{Env.TLS_CERTIFICATE_FILE} and {Env.TLS_KEY_FILE}"
        if certificate is not None or key is not None:
            missing = Env.TLS_KEY_FILE if key is None else Env.TLS_CERTIFICATE_FILE
            raise ValueError(f"{both} must be set together, and {missing} is not set")
        if self.in_pod:
            raise ValueError(f"in a pod the API requires TLS: set {both}, as the chart does")
        if not is_loopback(self.api_host):
            raise ValueError(
                f"FOOTPLATE_API_HOST {self.api_host!r} requires TLS: set {both}, or set it to 127.0.0.1"
            )
        return None

    @property
    def database_file(self) -> Path | None:
        """SQLite file; None for a database server."""
        path = self.database_url.removeprefix(_SQLITE).partition("?")[0]
        return Path(path) if self.database_url.startswith(_SQLITE) and path else None

    @property
    def backups(self) -> BackupPlan | None:
        """Schedule and folder of back-ups; None without them.

        Raises ValueError where there is no SQLite file to back up.
        """
        if self.backup_folder is None:
            return None
        if self.database_file is None:
            raise ValueError(
                "FOOTPLATE_BACKUP_FOLDER is set, but FOOTPLATE_DATABASE_URL names no SQLite file: back up"
                " PostgreSQL with pg_dump, or with snapshots of its server"
            )
        return BackupPlan(self.backup_folder, self.backup_schedule, self.backup_keep)

    @property
    def body_timeout(self) -> BodyTimeout:
        """Read timeout of request bodies."""
        return BodyTimeout(self.body_seconds)

    @property
    def access(self) -> AccessPolicy:
        """Token audiences, public paths and rate limits."""
        return AccessPolicy(_names(self.token_audiences), self.metrics_public, self.docs_public, self.rates)

    @property
    def rates(self) -> RateLimits:
        """Rate limits of one caller."""
        return RateLimits(
            RateLimit(self.rate_per_second, self.rate_burst),
            RateLimit(self.telemetry_rate_per_second, self.telemetry_rate_burst),
        )

    @property
    def limits(self) -> RetentionLimits:
        """Limits of retention."""
        return RetentionLimits(
            rows_per_run=self.retention_rows_per_run,
            full=self.retention_full_days * _DAY,
            rows_after=self.retention_rows_after,
            kept=self.retention_kept_days * _DAY,
        )
