"""The licence of an installed distribution, as an SPDX expression, and where its text lies.

Metadata is believed where it names one licence. Where it says nothing, or something that may be several
("BSD"), the table `OURS` has what the text says. Whatever remains unknown is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

CUDA: Final = "LicenseRef-NVIDIA-CUDA-EULA"
SDK: Final = "LicenseRef-NVIDIA-SDK-License"
# Each read in the distribution's own files.
OURS: Final[Mapping[str, str]] = {
    "antlr4-python3-runtime": "BSD-3-Clause",
    "cel-python": "Apache-2.0",
    "cronsim": "BSD-3-Clause",
    "cuda-toolkit": CUDA,
    "google-re2": "BSD-3-Clause",
    "jinja2": "BSD-3-Clause",
    "mpmath": "BSD-3-Clause",
    "nvidia-ml-py": "BSD-3-Clause",
    "python-dateutil": "Apache-2.0 AND BSD-3-Clause",
    "sympy": "BSD-3-Clause",
}
_WORDS: Final[Mapping[str, str]] = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache 2.0": "Apache-2.0",
    "MIT License": "MIT",
}
_CLASSIFIERS: Final[Mapping[str, str]] = {
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: MIT License": "MIT",
}
# NVIDIA's metadata calls all of it proprietary; what its texts begin with says which terms they are.
_OF_NVIDIA: Final = (
    (re.compile(r"End User License Agreement\n.*Chapter 1 and the Supplement", re.S), CUDA),
    (re.compile(r"LICENSE AGREEMENT FOR NVIDIA SOFTWARE DEVELOPMENT KITS"), SDK),
    (re.compile(r"Apache License\s+Version 2\.0"), "Apache-2.0"),
    (
        re.compile(r"Copyright .*\s+Redistribution and use in source .* Neither the name", re.S),
        "BSD-3-Clause",
    ),
)
_NVIDIA_SAYS: Final = {"LicenseRef-NVIDIA-Proprietary", "NVIDIA Proprietary Software"}
_TEXT: Final = re.compile(r"^[^/]+\.dist-info/(.*/)?[^/]*(licen[cs]e|copying|notice)[^/]*$", re.I)
# Distributions whose text lies elsewhere than in their metadata.
ELSEWHERE: Final[Mapping[str, str]] = {
    "antlr4-python3-runtime": "NOTICE of Footplate",
    "cuda-toolkit": "none: it has no file of its own",
    "nvidia-cusparselt-cu13": "nvidia/cusparselt/LICENSE.txt",
    "nvidia-ml-py": "the head of pynvml.py",
    "obstore": "NOTICE of Footplate",
    "sentencepiece": "LICENSE of Footplate, which is the same",
    "tensorboard-data-server": "LICENSE of Footplate, which is the same",
    "tokenizers": "LICENSE of Footplate, which is the same",
}


class UnknownLicence(Exception):
    """Neither the metadata of a distribution nor our table says what its licence is."""


@dataclass(frozen=True)
class Said:
    """What the metadata of a distribution says."""

    name: str  # canonical
    expression: str = ""  # License-Expression
    licence: str = ""  # License, the older field, which is any text
    classifiers: tuple[str, ...] = ()
    text: str = ""  # of the licence, where it is NVIDIA's


def expression(said: Said) -> str:
    """The licence as an SPDX expression.

    Raises:
        UnknownLicence: nobody says it; whoever adds the package reads its text and adds a row to `OURS`.
    """
    if said.name in OURS:
        return OURS[said.name]
    words = said.expression or said.licence.strip().split("\n")[0]
    if words in _NVIDIA_SAYS:
        for pattern, licence in _OF_NVIDIA:
            if pattern.search(said.text):
                return licence
        raise UnknownLicence(
            f"{said.name}: NVIDIA's, by terms that nobody has read; read the text in its wheel and add what "
            "it begins with to _OF_NVIDIA in tools/third_party/licences.py"
        )
    told = {_CLASSIFIERS[line] for line in said.classifiers if line in _CLASSIFIERS}
    candidates = [words] if words else sorted(told) if len(told) == 1 else []
    for candidate in candidates:
        try:
            return canonicalize_license_expression(_WORDS.get(candidate, candidate))
        except InvalidLicenseExpression:
            continue
    raise UnknownLicence(
        f"{said.name}: metadata says {words or 'nothing'!r} and {list(said.classifiers)}; "
        "read the text in its wheel and add a row to OURS in tools/third_party/licences.py"
    )


@cache
def files_of(name: str) -> list[str]:
    """The files of an installed distribution, from site-packages."""
    return sorted(str(path) for path in metadata.files(name) or [])


def texts(name: str) -> list[str]:
    """Where the texts of a distribution's licence lie, from site-packages, the first its own.

    Raises:
        UnknownLicence: nowhere, and `ELSEWHERE` has no word of it.
    """
    if name in ELSEWHERE:
        return [ELSEWHERE[name]]
    found = [path for path in files_of(name) if _TEXT.search(path)]
    if not found:
        raise UnknownLicence(f"{name}: its wheel has no text of a licence; say in ELSEWHERE where it lies")
    return sorted(found, key=lambda path: (path.count("/"), "NOTICE" in path, path))


def text_of(name: str) -> str:
    """The text of an installed distribution's licence, the first of them."""
    return Path(str(metadata.distribution(name).locate_file(texts(name)[0]))).read_text()


@cache
def said_by(name: str) -> Said:
    """What the installed distribution's metadata says."""
    fields = metadata.metadata(name)
    spdx, licence = (" ".join(fields.get_all(key) or []) for key in ("License-Expression", "License"))
    classifiers = tuple(line for line in fields.get_all("Classifier") or [] if line.startswith("License"))
    nvidias = {spdx, licence} & _NVIDIA_SAYS
    return Said(name, spdx, licence, classifiers, text_of(name) if nvidias else "")
