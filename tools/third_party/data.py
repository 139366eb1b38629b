"""Data and web pages of others that our distributions contain, and the images that contain these."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from tools.third_party.images import ROOT
from tools.third_party.licences import UnknownLicence

INTENSITIES: Final = ROOT / "ledger" / "src" / "footplate_ledger" / "data" / "carbon_intensities.json"
PAGE: Final = ROOT / "api" / "src" / "footplate_api" / "page" / "swagger-ui" / "vendored.json"
# The terms of each table: of who gathered it, as the file says, and of who made it where these ask for more.
_TERMS: Final = {
    "aws": "Apache-2.0",
    "azure": "Apache-2.0",
    "countries": "MIT AND CC-BY-4.0",
    "gcp": "MIT",
    "world": "MIT",
}


@dataclass(frozen=True)
class Item:
    """Something that is no package."""

    name: str
    licence: str
    source: str
    part: str  # the folder of our distribution that has it


def items() -> list[Item]:
    """All of it.

    Raises:
        UnknownLicence: carbon_intensities.json has a table of which nobody has looked at the terms.
    """
    tables = json.loads(INTENSITIES.read_text())
    if unknown := sorted(set(tables) - set(_TERMS)):
        raise UnknownLicence(
            f"{INTENSITIES.name} has {', '.join(unknown)}: read the terms of who gathered it and of who made "
            "it, and add a row to _TERMS in tools/third_party/data.py, and its notice to NOTICE"
        )
    page = json.loads(PAGE.read_text())
    found = [
        Item(f"carbon intensities, `{name}`", _TERMS[name], table["source"], "ledger")
        for name, table in sorted(tables.items())
    ]
    said = f"npm's {page['package']} {page['version']}, with its LICENSE and NOTICE beside it"
    return [*found, Item("Swagger UI", page["license"], said, "api")]


def items_of(parts: list[str]) -> list[Item]:
    """Those in an image of these parts of ours."""
    return [item for item in items() if item.part in parts]
