"""Taking the cluster down leaves nothing of it, in whatever state it was: run last of all.

Leftovers are looked for with the machine's own tools, not with the code that removes them.
"""

from __future__ import annotations

import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.system.conftest import HARMED

pytestmark = pytest.mark.cluster_down

ROOT = Path(__file__).resolve().parents[3]
TOOL = ["python3", "dev/cluster"]
MARK = "footplate"
# What the command lines of the cluster's programs have in them.
PARTS = ("/cluster/nodes/", "/cluster/pki/", "/cluster/config/", "/run/footplate/", "provision-volumes")
CRASHES = 4
# From before the network exists to when most nodes are up.
EARLIEST_SECONDS, LATEST_SECONDS = 0.1, 7.0


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def processes() -> list[str]:
    """Command lines of programs that a cluster consists of."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        line = " ".join(words)
        if any(part in line for part in PARTS) and "pytest" not in line:
            found.append(line[:120])
    return found


def leftovers() -> list[str]:
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if MARK in line]
    links = [line for line in output("ip", "-brief", "link").splitlines() if MARK in line]
    routes = [line for line in output("ip", "route").splitlines() if "10.244." in line or "10.96." in line]
    rules = [line for line in output("iptables-save").splitlines() if MARK in line]
    groups = output("find", "/sys/fs/cgroup", "-maxdepth", "2", "-name", f"{MARK}*").split()
    namespaces = [str(path) for path in Path("/run/netns").glob(f"{MARK}*")]
    return [*processes(), *mounts, *links, *routes, *rules, *groups, *namespaces]


def run(verb: str) -> None:
    done = subprocess.run([*TOOL, verb], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_down_leaves_nothing() -> None:
    run("down")
    HARMED.unlink(missing_ok=True)  # what is gone need not be mended
    assert leftovers() == []


@pytest.mark.parametrize("crash", range(CRASHES))
def test_down_after_a_crash_in_the_middle_of_up_leaves_nothing(crash: int) -> None:
    delay = random.Random(crash).uniform(EARLIEST_SECONDS, LATEST_SECONDS)
    starting = subprocess.Popen([*TOOL, "up"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(delay)
    starting.send_signal(signal.SIGKILL)
    starting.wait()
    run("down")
    assert leftovers() == [], f"killed after {delay:.1f} s"


def test_up_after_a_crash_starts_afresh_and_down_takes_that_away_too() -> None:
    starting = subprocess.Popen([*TOOL, "up"], cwd=ROOT, stderr=subprocess.DEVNULL, start_new_session=True)
    time.sleep(3)
    starting.kill()
    starting.wait()
    started = time.monotonic()
    run("up")
    assert time.monotonic() - started < 30
    status = subprocess.run([*TOOL, "status"], cwd=ROOT, capture_output=True, check=False)
    assert status.returncode == 0
    run("down")
    assert leftovers() == []
