"""Programs that a command of the cluster runs end with it, however early it is killed."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster.machine import shell


def test_a_helper_runs_for_whoever_asked_for_it(tmp_path: Path) -> None:
    shell.run(["touch", tmp_path / "made"])
    assert (tmp_path / "made").exists()


def test_a_helper_whose_command_is_gone_before_it_begins_does_nothing(tmp_path: Path) -> None:
    """Another parent stands for the one that takes over from a command that was killed."""
    orphan = shell.dying_with_us(["touch", str(tmp_path / "made")])
    subprocess.run(["sh", "-c", '"$@"; true', "another-parent", *orphan], check=True)
    assert not (tmp_path / "made").exists()
