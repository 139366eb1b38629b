"""When a back-up is due, what its file is called, and which go: by the clock and the names alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from footplate_api.backups import names
from footplate_api.db.backup_plan import BackupPlan, CronSchedule
from footplate_api.settings import ApiSettings
from footplate_contracts.environment import read_settings

Tell = Callable[[Mapping[str, str]], None]
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


def at(day: int, hour: int, minute: int = 0, month: int = 1) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "next_one"),
    [
        pytest.param("17 3 * * *", at(1, 3, 17, month=2), id="each-day"),
        pytest.param("*/20 * * * *", at(31, 12, 20), id="three-an-hour"),
        pytest.param("0 12 * * *", at(1, 12, month=2), id="not-now-but-after"),
        pytest.param("30 1 * * sun", at(1, 1, 30, month=2), id="on-sundays"),
        pytest.param("0 0 1 MAR *", at(1, 0, month=3), id="in-march"),
    ],
)
def test_the_next_point_in_time(text: str, next_one: datetime) -> None:
    assert CronSchedule(text).after(NOON) == next_one


DAILY = BackupPlan(Path("/backups"), CronSchedule("17 3 * * *"))


@pytest.mark.parametrize(
    ("newest", "due"),
    [
        pytest.param(None, NOON, id="the-first-at-once"),
        pytest.param(at(31, 3, 17), at(1, 3, 17, month=2), id="the-next-as-scheduled"),
        pytest.param(at(31, 4), at(1, 3, 17, month=2), id="one-by-hand-counts"),
        pytest.param(at(30, 3, 17), at(31, 3, 17), id="missed-this-night"),
        pytest.param(at(2, 3, 17), at(3, 3, 17), id="missed-for-weeks"),
    ],
)
def test_when_one_is_due(newest: datetime | None, due: datetime) -> None:
    assert DAILY.due(newest, NOON) == due


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param("@daily", "1 fields", id="word"),
        pytest.param("0 0 3 * * *", "6 fields", id="seconds"),
        pytest.param("60 3 * * *", "minute", id="minute"),
        pytest.param("0 3 * * fry", "day-of-week", id="day"),
        pytest.param("0 0 30 2 *", "day-of-month", id="never"),
    ],
)
def test_a_schedule_that_is_none_is_named(told: Tell, text: str, says: str) -> None:
    told({"FOOTPLATE_BACKUP_SCHEDULE": text})
    with pytest.raises(ValueError, match=says) as raised:
        read_settings(ApiSettings)
    assert "FOOTPLATE_BACKUP_SCHEDULE must be minute, hour," in str(raised.value) and text in str(
        raised.value
    )


def test_what_an_installation_is_told(told: Tell) -> None:
    told({"FOOTPLATE_DATABASE_URL": "sqlite:////data/a.db", "FOOTPLATE_BACKUP_FOLDER": "/backups"})
    chosen = read_settings(ApiSettings)
    assert chosen.backups == BackupPlan(Path("/backups"), CronSchedule("17 3 * * *"), 7)
    assert chosen.database_file == Path("/data/a.db")


def test_of_a_server_there_are_none(told: Tell) -> None:
    told({"FOOTPLATE_DATABASE_URL": "postgresql://h/d"})
    assert read_settings(ApiSettings).backups is None
    told({"FOOTPLATE_DATABASE_URL": "postgresql://h/d", "FOOTPLATE_BACKUP_FOLDER": "/backups"})
    with pytest.raises(ValueError, match=r"FOOTPLATE_BACKUP_FOLDER is set, but .* pg_dump"):
        _ = read_settings(ApiSettings).backups


OTHERS = [
    "footplate-2026-01-31T12-00-00Z.db.partial",
    "footplate-2026-1-31T12-00-00Z.db",
    "footplate-2026-02-30T12-00-00Z.db",
    "footplate.db",
    "lost+found",
]


def test_a_name_is_its_moment() -> None:
    assert names.moment_of(names.name_of(NOON)) == NOON
    assert [names.moment_of(name) for name in OTHERS] == [None] * len(OTHERS)


def test_what_a_clock_that_was_ahead_has_named_is_not_the_newest() -> None:
    """Or none would be due before that time comes."""
    made = [names.name_of(NOON + timedelta(days=day)) for day in (400, -1, 0)]
    assert names.newest([*OTHERS, *made], NOON) == made[2]
    assert names.newest(made[:1], NOON) is None


def test_the_oldest_go_and_nothing_else() -> None:
    made = [names.name_of(NOON + timedelta(days=day)) for day in (3, 1, 2, 0)]
    assert names.backup_names([*OTHERS, *made]) == [made[0], made[2], made[1], made[3]]
    assert names.surplus([*OTHERS, *made], keep=2) == [made[1], made[3]]
    assert names.surplus([*OTHERS, *made], keep=4) == []
