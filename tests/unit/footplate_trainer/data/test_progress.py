"""A log gets a line now and then, not one for each document."""

from __future__ import annotations

from footplate_trainer.data.progress import ProgressLine


def test_lines_come_every_two_seconds_and_at_the_end() -> None:
    times = iter([0.0, 0.5, 1.9, 2.1, 2.1, 2.2, 3.0])
    lines: list[str] = []
    progress = ProgressLine("encoding", 40_000_000, lambda: next(times), lines.append)
    for _ in range(4):
        progress.advance(10_000_000)
    progress.close()
    assert lines == [
        "[pack] encoding: 30.0 MB of 40.0 MB (75 %)",
        "[pack] encoding: 40.0 MB in 3.0 s",
    ]


def test_more_than_was_expected_is_still_all_of_it() -> None:
    times = iter([0.0, 5.0, 5.0])
    lines: list[str] = []
    ProgressLine("encoding", 0, lambda: next(times), lines.append).advance(7)
    assert lines == ["[pack] encoding: 0.0 MB of 0.0 MB (100 %)"]
