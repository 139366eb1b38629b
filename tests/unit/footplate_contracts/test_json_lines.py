"""A line of JSON is one line to whoever reads it."""

from __future__ import annotations

import json

from footplate_contracts.json_lines import json_line


def test_what_any_reader_takes_for_an_end_of_a_line_is_escaped() -> None:
    every = "".join(chr(number) for number in range(0x3000))
    said = {"text": every, "more": ["a\u2028b"]}
    assert len(json_line(said).splitlines()) == 1
    assert json.loads(json_line(said)) == said
    assert json_line("Grüße, 世界") == '"Grüße, 世界"'
