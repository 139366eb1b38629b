"""`make release VERSION=x.y.z`: dist/x.y.z from the newest commit, and the tag of the release's own commit.

The folder is made beside and renamed when it is whole; then the tag is set. What was interrupted before is
begun anew by the same command, and what lacks the tag only is given it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tools.release import chart, folder
from tools.release.checkout import Checkout, command, tag_of
from tools.release.errors import ReleaseError
from tools.release.folder import Source, Tools
from tools.release.versions import Version
from tools.released import path_of

from cluster import paths
from cluster.errors import ClusterError
from cluster.images.builder import Builder
from cluster.images.definitions import Sources
from cluster.machine import locks
from cluster.machine.progress import step
from cluster.programs import binaries

ROOT: Final = Path(__file__).resolve().parents[2]
BEFORE_PUBLISHING: Final = (
    "images/trainer.tar contains software of NVIDIA, some of which nobody may pass on without NVIDIA's "
    'leave. Do what README.md of the folder says under "Before you publish the folder" before you do.'
)


def built_images(tree: Path, target: Path, version: Version) -> Mapping[str, Path]:
    """Builds the images of `tree` where the builder's store lacks them, and exports each."""
    builder = Builder(paths.layout())
    exported = {}
    for name, built in builder.build_all(Sources(tree)).items():
        exported[name] = target / f"{name}.tar"
        with step(f"exported image {name}"):
            builder.export(built, f"{chart.REPOSITORY.format(image=name)}:{version}", exported[name])
    return exported


def generate(tree: Path) -> None:
    """As `make gen`, by the release's own programs: they write the version into CRDs, for instance."""
    command("env", f"PYTHONPATH={path_of(tree)}", sys.executable, "tools/gen.py", folder=tree)


def prove(root: Path) -> None:
    """Refuse a product on which `make faults-sample` was not played since it changed, or is red."""
    faults = ("-m", "tests.system.faults", "--proven")
    command("env", "PYTHONPATH=dev", sys.executable, *faults, folder=root)


def release(root: Path, version: Version, tools: Tools) -> Path:
    """The folder of the release, made if need be, and its tag.

    A release that has its tag already, such as that of an earlier day, is made again from the tag's commit.

    Raises:
        ReleaseError: the version may not follow, the checkout has changes, its faults-sample is stale or red,
            or a part cannot be made.
    """
    checkout, final = Checkout(root), root / "dist" / str(version)
    final.parent.mkdir(exist_ok=True)
    with locks.exclusive(final.parent / ".lock", "making a release"):
        if not final.exists():
            _make(checkout, final, version, tools)
        checkout.tag(version, json.loads((final / "release.json").read_text())["commit"])
    return final


def _make(checkout: Checkout, final: Path, version: Version, tools: Tools) -> None:
    half = final.with_name(f".{version}")
    commit = checkout.tagged(version)
    if commit is None:
        checkout.refuse_changes()
        tools.prove(checkout.root)
    shutil.rmtree(half, ignore_errors=True)  # of a call that was killed
    try:
        with checkout.worktree(commit or "HEAD", half / "tree") as tree:
            if commit is None:
                commit = checkout.commit_release(tree, version, datetime.now(UTC).date(), tools.generate)
            (half / "folder").mkdir()
            folder.fill(half / "folder", Source(tree, commit, checkout.committed(commit), version), tools)
            (half / "folder").rename(final)
    finally:
        shutil.rmtree(half, ignore_errors=True)


def main(words: Sequence[str]) -> int:
    """Exit status 1, with a sentence, for what a person can mend."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("version", help="x.y.z, or x.y.z-rc.n")
    options = parser.parse_args(words)
    try:
        version = Version.parse(options.version)
        helm = binaries.build(binaries.HELM, paths.layout()) / "helm"
        made = release(ROOT, version, Tools(built_images, helm, generate, prove))
    except (ReleaseError, ClusterError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{made.relative_to(ROOT)} is whole, and {tag_of(version)} names its commit. What is left:")
    print(f"    git merge --ff-only {tag_of(version)} && git push origin HEAD {tag_of(version)}")
    print(BEFORE_PUBLISHING)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
