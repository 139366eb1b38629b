"""What of others an image contains, from the files that Debian and Python's installers leave in it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from typing import Final

DPKG_STATUS: Final = "var/lib/dpkg/status"
OS_RELEASE: Final = "etc/os-release"
_METADATA: Final = re.compile(r"(^|/)(site|dist)-packages/[^/]+\.dist-info/METADATA$")
_COPYRIGHT: Final = re.compile(r"^usr/share/doc/(?P<package>[^/]+)/copyright$")
_MACHINE_READABLE: Final = "https://www.debian.org/doc/packaging-manuals/copyright-format/1.0"
_CLASSIFIER: Final = re.compile(r"License :: (?:OSI Approved :: )?(?P<name>.+)")


@dataclass(frozen=True, order=True)
class PythonPackage:
    """An installed distribution."""

    name: str
    version: str
    expression: str = ""  # its licence, as SPDX says it
    licences: tuple[str, ...] = ()  # or as its makers say it


@dataclass(frozen=True, order=True)
class DebianPackage:
    """An installed package of the system."""

    name: str
    version: str
    architecture: str
    source: str
    licences: tuple[str, ...] = ()  # by the names of Debian's copyright files; empty: told in prose alone


@dataclass(frozen=True)
class Contents:
    """All that an image contains."""

    system: str  # as debian-12; empty where it does not say
    debian: tuple[DebianPackage, ...]
    python: tuple[PythonPackage, ...]


def wanted(path: str) -> bool:
    """Whether a file of an image tells of its contents; `path` is without a leading slash."""
    return path in {DPKG_STATUS, OS_RELEASE} or bool(_METADATA.search(path) or _COPYRIGHT.search(path))


def contents(files: Mapping[str, str]) -> Contents:
    """What the files that were `wanted` tell, in the order of names."""
    copyrights = {
        found["package"]: text for path, text in files.items() if (found := _COPYRIGHT.search(path))
    }
    metadata = (text for path, text in files.items() if _METADATA.search(path))
    return Contents(
        system=_system(files.get(OS_RELEASE, "")),
        debian=tuple(sorted(_installed(files.get(DPKG_STATUS, ""), copyrights))),
        python=tuple(sorted({python_package(text) for text in metadata})),
    )


def _system(os_release: str) -> str:
    fields = dict(line.split("=", 1) for line in os_release.splitlines() if "=" in line)
    return "-".join(fields[key].strip('"') for key in ("ID", "VERSION_ID") if key in fields)


def _installed(status: str, copyrights: Mapping[str, str]) -> Iterable[DebianPackage]:
    packages = [message_from_string(paragraph) for paragraph in status.split("\n\n")]
    installed = [fields for fields in packages if str(fields["Status"] or "").endswith(" installed")]
    # A package may have a link to the folder of another one for its own, if both come of one source.
    named = {str(fields["Package"]): _source(fields) for fields in installed}
    of_source = {source: copyrights[name] for name, source in named.items() if name in copyrights}
    for fields in installed:
        name, source = str(fields["Package"]), named[str(fields["Package"])]
        licences = debian_licences(copyrights.get(name) or of_source.get(source, ""))
        yield DebianPackage(name, str(fields["Version"]), str(fields["Architecture"]), source, licences)


def _source(fields: Message) -> str:
    return str(fields["Source"] or fields["Package"]).split()[0]


def debian_licences(text: str) -> tuple[str, ...]:
    """The licences that a machine-readable copyright file names; none of any other."""
    if _MACHINE_READABLE not in text.replace("http:", "https:"):
        return ()
    return tuple(sorted(set(re.findall(r"^License: *(\S.*?) *$", text, re.M))))


def python_package(metadata: str) -> PythonPackage:
    """The distribution that a METADATA file is of, and its licence in the words that say most."""
    fields = message_from_string(metadata)
    expression = str(fields["License-Expression"] or "")
    return PythonPackage(
        str(fields["Name"]),
        str(fields["Version"]),
        expression,
        () if expression else _said(fields),
    )


def _said(fields: Message) -> tuple[str, ...]:
    """Of the older fields: one line of `License`, which may hold a whole text, or the classifiers."""
    lines = str(fields["License"] or "").strip().splitlines()
    if len(lines) == 1:
        return (lines[0],)
    found = [_CLASSIFIER.fullmatch(str(line)) for line in fields.get_all("Classifier") or []]
    return tuple(sorted(match["name"] for match in found if match))
