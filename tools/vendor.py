"""Renews the built files of Swagger UI that the API serves: `python -m tools.vendor [VERSION]`.

They are taken from the package by name and version with npm, wherever this machine's npm gets its
packages, and only those that the page needs. `vendored.json` beside them says of which package they
are and what their checksums are; a test compares.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
FOLDER: Final = ROOT / "api" / "src" / "footplate_api" / "page" / "swagger-ui"
MANIFEST: Final = FOLDER / "vendored.json"
PACKAGE: Final = "swagger-ui-dist"
LICENSE: Final = "Apache-2.0"
FILES: Final = (
    "LICENSE",
    "NOTICE",
    "swagger-ui-bundle.js",
    "swagger-ui-bundle.js.LICENSE.txt",
    "swagger-ui.css",
)


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of each vendored file."""
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in FILES}


def pack(version: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """What npm says of the package, and its archive in `folder`."""
    command = ["npm", "pack", f"{PACKAGE}@{version}", "--json", "--pack-destination", str(folder)]
    [said] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return said, folder / said["filename"]


def renew(version: str) -> str:
    """Replaces the vendored files by those of `version`; the version that it was."""
    with tempfile.TemporaryDirectory() as name:
        said, archive = pack(version, Path(name))
        with tarfile.open(archive) as opened:
            license_said = json.load(_member(opened, "package.json"))["license"]
            if license_said != LICENSE:
                raise ValueError(f"{archive.name} has the license {license_said!r}, not {LICENSE}")
            for file in FILES:
                (FOLDER / file).write_bytes(_member(opened, file).read())
    manifest = {
        "package": PACKAGE,
        "version": said["version"],
        "license": LICENSE,
        "integrity": said["integrity"],
        "files": checksums(FOLDER),
    }
    MANIFEST.write_text(json.dumps(manifest, indent=2) + "\n")
    return str(said["version"])


def _member(archive: tarfile.TarFile, name: str) -> Any:
    found = archive.extractfile(f"package/{name}")
    if found is None:
        raise ValueError(f"{PACKAGE} has no file {name}")
    return found


def main() -> int:
    """Prints which version it is now."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("version", nargs="?", default="latest")
    print(f"{PACKAGE} {renew(parser.parse_args().version)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
