"""Unit tests of rules by promtool: series as they come in, and what a query or an alert is at some time.

Times are seconds, a sample a minute from 0 on. Values are in promtool's notation: `0+60x10` is 0 and ten
more, each 60 higher, `1x5` six times 1, `_` no sample, `stale` the end of a series that is shown no more.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

from tests.support import prometheus

MINUTE: Final = 60
HOUR: Final = 3600
Json = dict[str, Any]


def inputs(series: Mapping[str, str]) -> list[Json]:
    """Values by series."""
    return [{"series": name, "values": values} for name, values in series.items()]


def complaints(folder: Path, rules: Sequence[Path], tests: Sequence[Json]) -> str:
    """What promtool finds wrong with `tests` of `rules`; empty where nothing is."""
    said = {"rule_files": [str(path) for path in rules], "evaluation_interval": "1m", "tests": list(tests)}
    file = folder / "tests.yaml"
    file.write_text(yaml.safe_dump(said, sort_keys=False))
    done = subprocess.run(
        [prometheus.program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 or "FAILED" in done.stdout + done.stderr, done.stderr
    return "" if done.returncode == 0 else done.stdout + done.stderr
