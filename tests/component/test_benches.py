"""Every benchmark of the API and of monitoring runs, small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHES = sorted(
    f"{folder}.{path.stem}"
    for folder in ("api", "monitoring")
    for path in (ROOT / "bench" / folder).glob("*.py")
    if "def main(" in path.read_text()
)


@pytest.mark.parametrize("bench", BENCHES)
def test_a_benchmark_runs(bench: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", f"bench.{bench}", "--smoke"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    # 1 says that a bar was missed, which so small a run on a busy machine may do.
    assert ended.returncode in (0, 1), ended.stderr
    assert "bar" in ended.stdout and "Traceback" not in ended.stderr
