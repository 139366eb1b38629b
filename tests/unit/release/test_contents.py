"""What an image contains, from its archive to its bill of materials."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from tools.release import archives, facts, sbom
from tools.release.errors import ReleaseError
from tools.release.facts import Contents, DebianPackage, PythonPackage
from tools.release.folder import as_listed

from cluster.images import oci

DIGEST = "sha256:" + "ab" * 32
MADE = datetime(2026, 12, 1, 8, 0, tzinfo=UTC)
STATUS = """\
Package: libssl3
Status: install ok installed
Architecture: amd64
Source: openssl (3.0.15-1)
Version: 3.0.15-1+b1
Description: Secure Sockets Layer toolkit
 a second line: with a colon

Package: libcrypto3
Status: install ok installed
Architecture: amd64
Source: openssl
Version: 3.0.15-1

Package: gone
Status: deinstall ok config-files
Architecture: all
Version: 1

Package: tzdata
Status: hold ok installed
Architecture: all
Version: 2026a-1
"""
COPYRIGHT = """\
Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
License: Apache-2.0

Files: debian/*
License: GPL-2+
 the text of it

License: Apache-2.0
 Whatever it says.
"""


def image(folder: Path, *layers: dict[str, bytes]) -> archives.ImageArchive:
    """An archive whose layers have these files, from the lowest up."""
    path = folder / "image.tar"
    packed = [oci.tar({name: (text, 0o644) for name, text in files.items()}) for files in layers]
    path.write_bytes(oci.whole_archive("footplate/x:1", packed, {}))
    return archives.read(path)


@pytest.mark.parametrize(
    ("upper", "left"),
    [
        pytest.param({}, {"a/f": "1", "a/g": "2", "b": "3"}, id="as-below"),
        pytest.param({"a/f": b"new"}, {"a/f": "new", "a/g": "2", "b": "3"}, id="another-file"),
        pytest.param({"a/.wh.f": b""}, {"a/g": "2", "b": "3"}, id="file-gone"),
        pytest.param({".wh.a": b""}, {"b": "3"}, id="folder-gone"),
        pytest.param({"a/.wh..wh..opq": b"", "a/h": b"4"}, {"a/h": "4", "b": "3"}, id="another-folder"),
        pytest.param({"./a/f": b"dot"}, {"a/f": "dot", "a/g": "2", "b": "3"}, id="names-with-a-dot"),
    ],
)
def test_the_files_of_an_image_are_those_of_its_layers_together(
    tmp_path: Path, upper: dict[str, bytes], left: dict[str, str]
) -> None:
    lower = {"a/f": b"1", "a/g": b"2", "b": b"3"}
    assert archives.files(image(tmp_path, lower, upper), lambda _: True) == left


def test_the_digest_is_of_the_manifests_bytes(tmp_path: Path) -> None:
    read = image(tmp_path, {"a": b"1"})
    with tarfile.open(read.path) as archive:
        manifest = archive.extractfile(f"blobs/{read.digest.replace(':', '/')}")
        assert manifest is not None
        assert oci.digest(manifest.read()) == read.digest


def test_a_tar_of_something_else_is_named(tmp_path: Path) -> None:
    path = tmp_path / "other.tar"
    path.write_bytes(oci.tar({"a": (b"", 0o644)}))
    with pytest.raises(ReleaseError, match=r"other\.tar is no OCI archive: it has no index\.json"):
        archives.read(path)


def test_debian_says_what_is_installed() -> None:
    files = {
        "var/lib/dpkg/status": STATUS,
        "usr/share/doc/libssl3/copyright": COPYRIGHT,
        "usr/share/doc/tzdata/copyright": "It is in the public domain.\nLicense: none\n",
        "etc/os-release": 'PRETTY_NAME="Debian"\nID=debian\nVERSION_ID="12"\n',
    }
    assert all(map(facts.wanted, files))
    told = facts.contents(files)
    assert told.system == "debian-12"
    assert told.debian == (
        DebianPackage("libcrypto3", "3.0.15-1", "amd64", "openssl", ("Apache-2.0", "GPL-2+")),
        DebianPackage("libssl3", "3.0.15-1+b1", "amd64", "openssl", ("Apache-2.0", "GPL-2+")),
        DebianPackage("tzdata", "2026a-1", "all", "tzdata"),
    )


@pytest.mark.parametrize(
    ("fields", "expression", "licences"),
    [
        pytest.param("License-Expression: MIT OR Apache-2.0\n", "MIT OR Apache-2.0", (), id="spdx"),
        pytest.param("License: BSD\n", "", ("BSD",), id="one-line"),
        pytest.param(
            "License: Somebody's\n        All rights\nClassifier: License :: OSI Approved :: MIT License\n",
            "",
            ("MIT License",),
            id="a-text-and-a-classifier",
        ),
        pytest.param("Classifier: Programming Language :: C\n", "", (), id="nothing"),
    ],
)
def test_python_says_its_licence_in_one_of_three_fields(
    fields: str, expression: str, licences: tuple[str, ...]
) -> None:
    text = f"Metadata-Version: 2.4\nName: Some.Thing\nVersion: 1.2\n{fields}\nLicense: of the README\n"
    assert facts.python_package(text) == PythonPackage("Some.Thing", "1.2", expression, licences)


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("opt/venv/lib/python3.11/site-packages/x-1.dist-info/METADATA", True),
        ("usr/lib/python3/dist-packages/x-1.dist-info/METADATA", True),
        ("opt/venv/lib/python3.11/site-packages/x-1.dist-info/RECORD", False),
        ("opt/venv/lib/python3.11/site-packages/setuptools/_vendor/y-1.dist-info/METADATA", False),
        ("usr/share/doc/x/changelog", False),
    ],
)
def test_what_a_package_brought_within_it_is_no_package(path: str, wanted: bool) -> None:
    assert facts.wanted(path) == wanted


@pytest.mark.parametrize(
    ("version", "expression"),
    [
        pytest.param(metadata.version("google-re2"), "BSD-3-Clause", id="read-by-us"),
        pytest.param("0.1", "", id="another-version"),
    ],
)
def test_a_licence_that_we_looked_up_is_of_that_version(version: str, expression: str) -> None:
    told = as_listed(PythonPackage("Google_RE2", version, "", ("BSD",)))
    assert told == PythonPackage("Google_RE2", version, expression, () if expression else ("BSD",))


CONTENTS = Contents(
    "debian-12",
    (DebianPackage("libssl3", "3.0.15-1", "amd64", "openssl", ("Apache-2.0",)),),
    (
        PythonPackage("Some_Thing", "1.2", "MIT OR Apache-2.0"),
        PythonPackage("other", "3", "", ("BSD", "Public domain")),
        PythonPackage("proprietary", "3", "LicenseRef-NVIDIA-Proprietary"),
        PythonPackage("silent", "0.1"),
    ),
)


def test_a_bill_keeps_the_schema_of_cyclonedx() -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    bill = sbom.document("api", "0.2.0", DIGEST, MADE, CONTENTS)
    assert validator.validate_str(bill) is None
    assert validator.validate_str(bill.replace('"container"', '"vessel"')) is not None


def test_a_bill_names_each_package_where_scanners_look() -> None:
    bill = json.loads(sbom.document("api", "0.2.0", DIGEST, MADE, CONTENTS))
    licences = {part["purl"]: part.get("licenses") for part in bill["components"]}
    assert licences == {
        "pkg:deb/debian/libssl3@3.0.15-1?arch=amd64&distro=debian-12&upstream=openssl": [
            {"license": {"name": "Apache-2.0"}}
        ],
        "pkg:pypi/some-thing@1.2": [{"expression": "MIT OR Apache-2.0"}],
        "pkg:pypi/other@3": [{"license": {"name": "BSD"}}, {"license": {"name": "Public domain"}}],
        "pkg:pypi/proprietary@3": [{"license": {"name": "LicenseRef-NVIDIA-Proprietary"}}],
        "pkg:pypi/silent@0.1": None,
    }
    subject = bill["metadata"]["component"]
    assert (subject["name"], subject["version"]) == ("footplate/api", "0.2.0")
    assert bill["metadata"]["timestamp"] == "2026-12-01T08:00:00+00:00"
    [all_of_it] = [row for row in bill["dependencies"] if row["ref"] == subject["bom-ref"]]
    assert sorted(all_of_it["dependsOn"]) == sorted(licences)
