"""A repository to release from, which is this checkout as it stands, and images of it that take no build."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tools.release import versions
from tools.release.checkout import Checkout
from tools.release.folder import Tools
from tools.release.versions import Version

from cluster.images import oci
from tests.support.chart import helm_program

ROOT: Final = Path(__file__).resolve().parents[2]
IMAGES: Final = ("operator", "api", "coordinator", "trainer")
_NEEDED: Final = (
    "VERSION",
    "CHANGELOG.md",
    "LICENSE",
    "NOTICE",
    ".gitignore",
    "charts",
    "docs/operations",
    "docs/third-party",
    "examples",
    "tools/release",
)
SITE: Final = "opt/venv/lib/python3.11/site-packages"


def repository(folder: Path) -> Checkout:
    """What a release reads of this checkout, changes that nobody has committed included, as one commit."""
    checkout = Checkout(folder)
    wanted = (*_NEEDED, *(f"{path.parent.name}/" for path in ROOT.glob("*/pyproject.toml")))
    listed = Checkout(ROOT).git("ls-files", "--cached", "--others", "--exclude-standard", "--", *wanted)
    for name in listed.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    checkout.git("init", "--quiet", "--initial-branch", "main")
    for key, value in {"user.name": "Somebody", "user.email": "somebody@example.com"}.items():
        checkout.git("config", key, value)
    commit_all(checkout, "All of it")
    return checkout


def commit_all(checkout: Checkout, subject: str) -> None:
    """A commit of whatever has changed."""
    checkout.git("add", "--all")
    checkout.git("commit", "--quiet", "--message", subject)


def packed_image(name: str, version: str) -> bytes:
    """An archive of two layers: a system, and a program that takes a package away."""
    status = "Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36\n\n"
    lower = {
        "etc/os-release": b'ID=debian\nVERSION_ID="12"\n',
        "var/lib/dpkg/status": status.encode(),
        f"{SITE}/idle-1.0.dist-info/METADATA": b"Name: idle\nVersion: 1.0\n",
    }
    upper = {
        f"{SITE}/.wh.idle-1.0.dist-info": b"",
        f"{SITE}/footplate_{name}-{version}.dist-info/METADATA": (
            f"Name: footplate-{name}\nVersion: {version}\nLicense-Expression: Apache-2.0\n".encode()
        ),
    }
    layers = [oci.tar({path: (text, 0o644) for path, text in files.items()}) for files in (lower, upper)]
    return oci.whole_archive(f"footplate/{name}:{version}", layers, {"Entrypoint": ["/none"]})


def images(tree: Path, target: Path, version: Version) -> Mapping[str, Path]:
    """Archives in the place of those that are built of `tree`."""
    made = {name: target / f"{name}.tar" for name in IMAGES}
    for name, path in made.items():
        path.write_bytes(packed_image(name, str(version)))
    return made


def tools() -> Tools:
    """Helm and the build backend are real; no cluster has tested anything."""
    return Tools(images, helm_program(), write_versions, prove=lambda root: None)


def write_versions(tree: Path) -> None:
    """Of `make gen` what packages and chart need; the rest takes seconds."""
    for path, text in versions.generated(tree).items():
        path.write_text(text)
