"""Makes the folder of a release from the files of its commit: everything that an installation needs.

README.md NOTES.md             how it is installed, what is new
LICENSE NOTICE third-party/    the terms, and what of others each image contains under which
footplate-x.y.z.tgz            the chart, whose values name the images by digest
images/NAME.tar                OCI archives, as `skopeo`, `ctr` and mirror.py read them
examples/*.yaml                what to apply, with the trainer's image by its digest
sbom/NAME.cdx.json             what each image contains, as CycloneDX
wheels/*.whl                   our own Python distributions
mirror.py release.json         pushes the images into a registry; what there is to push
SHA256SUMS                     of all of these
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.utils import canonicalize_name
from tools.release import archives, changelog, chart, facts, sbom, versions
from tools.release.checkout import CHANGELOG, command
from tools.release.errors import ReleaseError
from tools.release.facts import PythonPackage
from tools.release.versions import Version
from tools.third_party import licences

from cluster.images.definitions import TAG
from cluster.programs.binaries import KUBERNETES_VERSION

SUMS: Final = "SHA256SUMS"
PAGE: Final = "docs/operations/air-gap.md"
COPIED: Final = {"LICENSE": "LICENSE", "NOTICE": "NOTICE", "tools/release/mirror.py": "mirror.py"}
THIRD_PARTY: Final = "docs/third-party"
_BUILD_WHEELS: Final = """
import os, sys
from hatchling.build import build_wheel
for distribution in sys.argv[2:]:
    os.chdir(distribution)
    build_wheel(sys.argv[1])
"""
EXAMPLES: Final = "examples"
ANY_REGISTRY: Final = "registry.example.com"  # where its owner writes another one
_DEVELOPMENT_REGISTRY: Final = "localhost/"

# Name of each image -> its archive, made below a folder from the files of a commit for a version.
Images = Callable[[Path, Path, Version], Mapping[str, Path]]


@dataclass(frozen=True)
class Source:
    """What a release is made of."""

    tree: Path  # the files of the commit
    commit: str
    made: datetime  # the commit's time, which is that of all that is made of it
    version: Version


@dataclass(frozen=True)
class Tools:
    """What a release is made with."""

    images: Images
    helm: Path
    generate: Callable[[Path], object]  # writes all of a tree that follows from other files, as `make gen`
    prove: Callable[[Path], object]  # raises ReleaseError where a tree's tests on a cluster are stale or red


def fill(folder: Path, source: Source, tools: Tools) -> None:
    """Makes the folder's contents; it exists and is empty.

    Raises:
        ReleaseError: a part cannot be made, or the chart does not name what was built.
    """
    (folder / "images").mkdir()
    made = tools.images(source.tree, folder / "images", source.version)
    images = {name: archives.read(path) for name, path in made.items()}
    _write_bills(folder / "sbom", source, images)
    digests = {name: image.digest for name, image in images.items()}
    packed = _write_chart(folder, source, digests, tools.helm)
    _write_examples(folder / EXAMPLES, source, digests)
    _write_wheels(folder / "wheels", source)
    log = (source.tree / CHANGELOG).read_text()
    (folder / "NOTES.md").write_text(changelog.notes(log, source.version))
    (folder / "README.md").write_text(readme((source.tree / PAGE).read_text(), source.version))
    for path, name in COPIED.items():
        shutil.copyfile(source.tree / path, folder / name)
    shutil.copytree(source.tree / THIRD_PARTY, folder / "third-party")
    rows = [
        {
            "name": name,
            "archive": image.path.relative_to(folder).as_posix(),
            "repository": chart.REPOSITORY.format(image=name),
            "tag": str(source.version),
            "digest": image.digest,
        }
        for name, image in images.items()
    ]
    whole = {"version": str(source.version), "commit": source.commit, "chart": packed.name, "images": rows}
    (folder / "release.json").write_text(json.dumps(whole, indent=1) + "\n")
    (folder / SUMS).write_text(sums(folder))


def _write_bills(folder: Path, source: Source, images: Mapping[str, archives.ImageArchive]) -> None:
    folder.mkdir()
    for name, image in images.items():
        contents = facts.contents(archives.files(image, facts.wanted))
        contents = replace(contents, python=tuple(map(as_listed, contents.python)))
        bill = sbom.document(name, str(source.version), image.digest, source.made, contents)
        (folder / f"{name}.cdx.json").write_text(bill)


def as_listed(package: PythonPackage) -> PythonPackage:
    """With the licence that third-party/ says, which is of the same version as it is installed here."""
    name = canonicalize_name(package.name)
    try:
        if metadata.version(name) != package.version:
            return package
        return replace(package, expression=licences.expression(licences.said_by(name)), licences=())
    except (metadata.PackageNotFoundError, licences.UnknownLicence):
        return package


def _write_chart(folder: Path, source: Source, digests: Mapping[str, str], helm: Path) -> Path:
    origin = source.tree / "charts" / "footplate"
    values = chart.with_digests((origin / "values.yaml").read_text(), digests)
    packed = folder / f"footplate-{source.version}.tgz"
    packed.write_bytes(chart.packed(origin, values, int(source.made.timestamp())))
    # Helm by itself takes the cluster for one of the version that its build states.
    flags = ("--kube-version", KUBERNETES_VERSION, "--set", f"global.imageRegistry={ANY_REGISTRY}")
    rendered = command(helm, "template", "footplate", packed, *flags, folder=folder)
    for name, digest in digests.items():
        if f"{ANY_REGISTRY}/footplate/{name}@{digest}" not in rendered:
            raise ReleaseError(f"the packed chart does not render {name} by its digest {digest}")
    return packed


def _write_examples(folder: Path, source: Source, digests: Mapping[str, str]) -> None:
    folder.mkdir()
    for path in sorted((source.tree / EXAMPLES).glob("*.yaml")):
        text = path.read_text()
        for name, digest in digests.items():
            repository = chart.REPOSITORY.format(image=name)
            built = f"{_DEVELOPMENT_REGISTRY}{repository}:{TAG}"
            text = text.replace(built, f"{ANY_REGISTRY}/{repository}@{digest}")
        if _DEVELOPMENT_REGISTRY in text:
            raise ReleaseError(
                f"{EXAMPLES}/{path.name} names an image of {_DEVELOPMENT_REGISTRY}, of none of ours"
            )
        (folder / path.name).write_text(text)


def _write_wheels(folder: Path, source: Source) -> None:
    """By the pinned build backend itself: another one would make other bytes, and ask an index for itself."""
    folder.mkdir()
    epoch = f"SOURCE_DATE_EPOCH={int(source.made.timestamp())}"  # of the files in a wheel
    distributions = versions.distributions(source.tree)
    command("env", epoch, sys.executable, "-c", _BUILD_WHEELS, folder, *distributions, folder=source.tree)


def readme(page: str, version: Version) -> str:
    """The page about installations without internet, for this version."""
    return page.replace("x.y.z", str(version))


def sums(folder: Path) -> str:
    """Lines as `sha256sum --check` reads them, of every file below the folder but the sums themselves."""
    paths = sorted(
        Path(parent, name).relative_to(folder).as_posix()
        for parent, _, names in os.walk(folder)
        for name in names
    )
    return "".join(f"{_digest(folder / path)}  {path}\n" for path in paths if path != SUMS)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
