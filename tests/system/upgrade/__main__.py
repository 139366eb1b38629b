"""`make upgrade-day`: upgrade, roll back, uninstall and install again under live runs, as a transcript.

The previous release is built from its commit (tests/golden/released/COMMIT), which a clone without history
has to fetch.
"""

from __future__ import annotations

import subprocess
import sys
import time

from tools import released

from demo.install import NAMESPACE
from demo.kube import DemoError, Kube, show
from tests.system.upgrade import day


def main() -> int:
    """Exit status 1 where something was not as it has to be."""
    began = time.monotonic()
    try:
        previous = released.checkout(released.previous())
    except subprocess.CalledProcessError as error:
        print(f"this clone has not got the previous release: git fetch --unshallow ({error})")
        return 1
    show("python3", "dev/cluster", "up", "--load")
    show("python3", "dev/cluster", "load", "--from", str(previous), "--tag", day.PREVIOUS_TAG)
    kube = Kube.of_cluster_tool()
    if "footplate" in kube.helm("list", "--namespace", NAMESPACE, "--short"):
        print("there is a release already: `make cluster-down` first")
        return 1
    try:
        faults = day.play(kube, previous)
    except (DemoError, AssertionError) as error:
        print(f"broken off: {error}")
        return 1
    print(f"\nmake upgrade-day took {time.monotonic() - began:.0f} s; {len(faults)} faults")
    for fault in faults:
        print(f"  {fault}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
