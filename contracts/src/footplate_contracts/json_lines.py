"""JSON that stays on one line for any reader."""

from __future__ import annotations

import json
from typing import Final

# JSON lets these stand in a text, and many readers end a line there: Python's splitlines, editors.
_ENDS_OF_LINES: Final = str.maketrans({end: f"\\u{ord(end):04x}" for end in "\x85\u2028\u2029"})


def json_line(value: object) -> str:
    """Encode `value` as JSON on one line, readable in any script; ends of lines in its texts are escaped."""
    return json.dumps(value, ensure_ascii=False).translate(_ENDS_OF_LINES)
