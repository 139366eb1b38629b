"""`make air-gap RELEASE=FOLDER`: a release's folder is installed where nothing outside can be reached.

To be started in a network namespace of its own, as `make air-gap` does: cluster, registry, Helm and this
program live in it, and no address beyond it has a route.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from cluster import paths
from cluster.native.network import NODES
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
        where = "; ".join(known) or "some address"
        print(f"this network leads elsewhere: start it by `make air-gap` ({where})")
        return 1
    began = time.monotonic()
    closed_network.open_loopback()
    _forget_images()  # whatever nodes had of an earlier cluster
    try:
        with tempfile.TemporaryDirectory(prefix="footplate-registry-") as registry:
            site.play(folder, Path(registry))
    except (DemoError, AssertionError, subprocess.CalledProcessError) as error:
        print(f"broken off: {error}")
        return 1
    finally:
        show("python3", "dev/cluster", "down")
        _forget_images()  # gigabytes that no other cluster asks for
    print(f"\nmake air-gap took {time.monotonic() - began:.0f} s")
    return 0


def _forget_images() -> None:
    """Nodes of the cluster, which is down, have no images from now on; `make install` brings a checkout's."""
    for node in NODES:
        shutil.rmtree(paths.layout().node(node.name), ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
