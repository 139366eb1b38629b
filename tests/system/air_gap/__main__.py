"""`make air-gap RELEASE=FOLDER`: a release's folder is installed where nothing outside can be reached.

To be started in a network namespace of its own, as `make air-gap` does: cluster, registry, Helm and this
program live in it, and no address beyond it has a route.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from demo.kube import DemoError, show
from tests.system.air_gap import closed_network, site


def main(words: Sequence[str]) -> int:
    """Exit status 1 where something was not as it has to be."""
    parser = argparse.ArgumentParser(prog="make air-gap", description=__doc__)
    parser.add_argument("release", type=Path, help="the folder that `make release` has made")
    folder: Path = parser.parse_args(words).release.resolve()
    if not (folder / "release.json").is_file():
        print(f"{folder} has no release.json: make release VERSION=x.y.z, then RELEASE=dist/x.y.z")
        return 1
    if (known := closed_network.routes()) or closed_network.reachable():
        print(f"this network leads elsewhere: start it by `make air-gap` ({'; '.join(known) or 'no route'})")
        return 1
    began = time.monotonic()
    closed_network.open_loopback()
    try:
        with tempfile.TemporaryDirectory(prefix="footplate-registry-") as registry:
            site.play(folder, Path(registry))
    except (DemoError, AssertionError, subprocess.CalledProcessError) as error:
        print(f"broken off: {error}")
        return 1
    finally:
        show("python3", "dev/cluster", "down")
    print(f"\nmake air-gap took {time.monotonic() - began:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
