"""The software bill of materials of an image, as CycloneDX 1.6 in JSON: the same of an image every time."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable
from datetime import datetime

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.dependency import Dependency
from cyclonedx.model.license import DisjunctiveLicense, License
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL
from tools.release.facts import Contents, DebianPackage, PythonPackage

_LICENCES = LicenseFactory()


def _licences(expression: str, names: Iterable[str]) -> list[License]:
    """As an SPDX expression where there is one; otherwise by the names that the makers use."""
    if expression:
        return [_LICENCES.make_from_string(expression)]
    return [DisjunctiveLicense(name=name) for name in names]


def _python(package: PythonPackage) -> Component:
    name = package.name.lower().replace("_", "-")  # as the purl's type asks for
    url = PackageURL("pypi", name=name, version=package.version)
    return Component(
        name=package.name,
        version=package.version,
        purl=url,
        bom_ref=url.to_string(),
        licenses=_licences(package.expression, package.licences),
    )


def _debian(package: DebianPackage, system: str) -> Component:
    qualifiers = {"arch": package.architecture, "distro": system, "upstream": package.source}
    url = PackageURL("deb", "debian", package.name, package.version, qualifiers)
    return Component(
        name=package.name,
        version=package.version,
        purl=url,
        bom_ref=url.to_string(),
        licenses=_licences("", package.licences),
    )


def document(image: str, version: str, digest: str, made: datetime, contents: Contents) -> str:
    """The bill of the image `image` of a release, whose manifest has the digest; as indented JSON."""
    url = PackageURL("oci", name=image, version=digest)
    subject = Component(
        type=ComponentType.CONTAINER,
        name=f"footplate/{image}",
        version=version,
        purl=url,
        bom_ref=url.to_string(),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest.removeprefix("sha256:"))],
    )
    parts = [
        *map(_python, contents.python),
        *(_debian(package, contents.system) for package in contents.debian),
    ]
    bom = Bom(
        components=parts,
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, url.to_string()),
        metadata=BomMetaData(component=subject, timestamp=made),
        # What needs what is nowhere told of both kinds of package: the image contains all of them.
        dependencies=[Dependency(subject.bom_ref, [Dependency(part.bom_ref) for part in parts])],
    )
    # The writer sorts neither fields nor what it keeps in sets.
    return json.dumps(json.loads(JsonV1Dot6(bom).output_as_string()), indent=1, sort_keys=True) + "\n"
