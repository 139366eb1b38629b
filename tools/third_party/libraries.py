"""Libraries of others that wheels bring along, and which files of NVIDIA its own list lets anybody pass on.

A wheel's metadata speaks of the package. What its makers copied into it has makers and terms of its own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

from tools.third_party.licences import CUDA, UnknownLicence

GCC: Final = "GPL-3.0-or-later WITH GCC-exception-3.1"
# Library -> its licence; each read in the wheel's own list, or known of GCC's runtime.
LIBRARIES: Final[Mapping[str, str]] = {
    "libXau": "MIT-open-group",
    "libavif": "BSD-2-Clause",
    "libbrotlicommon": "MIT",
    "libbrotlidec": "MIT",
    "libfreetype": "FTL OR GPL-2.0-or-later",
    "libgfortran": GCC,
    "libgomp": GCC,
    "libharfbuzz": "MIT-Modern-Variant",
    "libjpeg": "IJG AND BSD-3-Clause AND Zlib",
    "liblcms2": "MIT",
    "liblzma": "0BSD",
    "libopenjp2": "BSD-2-Clause",
    "libpng16": "libpng-2.0",
    "libquadmath": "LGPL-2.1-or-later",
    "libscipy_openblas64_": "BSD-3-Clause",
    "libsharpyuv": "BSD-3-Clause",
    "libtiff": "libtiff",
    "libwebp": "BSD-3-Clause",
    "libwebpdemux": "BSD-3-Clause",
    "libwebpmux": "BSD-3-Clause",
    "libxcb": "MIT",
    "libzstd": "BSD-3-Clause OR GPL-2.0-only",
}
# Copied into torch/lib by name; whatever else is there is torch's own.
_INTO_TORCH: Final = re.compile(r"torch/lib/(libgomp|libgfortran)\.so")
_BROUGHT: Final = re.compile(r"^[^/]+\.libs/lib")
_BINARY: Final = re.compile(r"^(?P<name>.+?\.(?:so|a|bc|ll))(?:\.[\d.]+)?$")
_ATTACHMENT: Final = re.compile(r"2\.6\. Attachment A\n(.*?)\n2\.7\. Attachment B", re.S)
_LISTED: Final = re.compile(r"\blib[\w.-]+\.(?:so|a|bc)\b")
# NVIDIA's tools and libraries in the wheel of somebody else.
_WITHIN: Final = re.compile(r"(^|/)backends/nvidia/(bin/|lib/.*lib)")


@dataclass(frozen=True)
class Brought:
    """A library within a wheel."""

    package: str
    name: str
    licence: str


@dataclass(frozen=True)
class OfNvidia:
    """NVIDIA's binaries of one package, by whether the list of what may be passed on names them."""

    package: str
    listed: tuple[str, ...]
    unlisted: tuple[str, ...]


def brought(package: str, files: Sequence[str]) -> list[Brought]:
    """Libraries of others among a wheel's files.

    Raises:
        UnknownLicence: one that `LIBRARIES` does not have.
    """
    found = []
    for file in files:
        if _BROUGHT.search(file) or _INTO_TORCH.search(file):
            name = re.split(r"-[0-9a-f]{8}\b|\.so\b", PurePosixPath(file).name)[0]
            if name not in LIBRARIES:
                raise UnknownLicence(f"{package} brings {file}: say its licence in LIBRARIES of libraries.py")
            found.append(Brought(package, name, LIBRARIES[name]))
    return found


def attachment(agreement: str) -> frozenset[str]:
    """The files that the CUDA agreement lets one distribute (its attachment A), as `libcublas.so`."""
    [section] = _ATTACHMENT.findall(agreement)
    return frozenset(_LISTED.findall(section))


def of_nvidia(
    package: str, licence: str, files: Sequence[str], distributable: frozenset[str]
) -> OfNvidia | None:
    """NVIDIA's binaries among a wheel's files; None where there are none.

    The other agreement, of cuDNN and cuSPARSELt, names no files: all that end with .so may be distributed.
    """
    theirs = licence.startswith("LicenseRef-NVIDIA")
    listed: set[str] = set()
    unlisted: set[str] = set()
    for file in files:
        base = PurePosixPath(file).name
        binary = _BINARY.match(base)
        if not (theirs and binary and "/lib/" in file) and not _WITHIN.search(file):
            continue
        name = binary["name"] if binary else base
        may = name in distributable if licence == CUDA or not theirs else name.endswith(".so")
        (listed if may else unlisted).add(name)
    if not listed | unlisted:
        return None
    return OfNvidia(package, tuple(sorted(listed)), tuple(sorted(unlisted)))
