"""A fleet that sends at once after an outage: memory stays within its limit, each row is stored once."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path

import pytest

from tests.component.footplate_api.fleet import allowed, api, backlog, peak, returning, stored, wrong


@pytest.mark.any_database
@pytest.mark.parametrize(
    ("senders", "rows"),
    [
        pytest.param(40, 500, id="forty"),
        pytest.param(500, 1000, id="five-hundred", marks=pytest.mark.long),
    ],
)
async def test_each_row_is_stored_once_in_the_memory_of_the_chart(
    database_url: str, tmp_path: Path, senders: int, rows: int
) -> None:
    async with api(tmp_path, database_url) as process:
        answered = await returning(process, senders, partial(backlog, rows=rows))
        taken = peak(process.pid)
    print(f"{senders} senders of {rows} rows: {taken / 2**20:.0f} MiB")
    assert Counter(answered) == {200: senders}
    assert taken < allowed()
    assert await stored(database_url) == {f"uid-{number}": (rows,) * 4 for number in range(senders)}


@pytest.mark.long
async def test_what_is_wrong_takes_no_more(database_url: str, tmp_path: Path) -> None:
    async with api(tmp_path, database_url) as process:
        answered = await returning(process, 400, partial(wrong, rows=600))
        taken = peak(process.pid)
    print(f"400 senders of 600 wrong rows: {taken / 2**20:.0f} MiB")
    assert Counter(answered) == {422: 400}
    assert taken < allowed()
    assert await stored(database_url) == {}
