"""Renews the yearly carbon intensities that the ledger falls back to: `python -m tools.carbon_intensities`.

Countries and the regions of GCP come from the data of PyPI's `codecarbon`, the regions of AWS and Azure from
the sources of npm's `@cloud-carbon-footprint` packages, wherever this machine's pip and npm get theirs.
All are written as grams a kilowatt-hour, with source and licence, countries with their years too, and each
region of a cloud with its country (tools/cloud_regions.py), whose mean counts where the region has none. Of
the npm packages the TypeScript is read: running it would need all that it depends on.
"""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from tools import cloud_regions

TARGET: Final = (
    Path(__file__).resolve().parent.parent / "ledger/src/footplate_ledger/data/carbon_intensities.json"
)
CODECARBON: Final = "3.3.2"
FOOTPRINT: Final = {"aws": "0.15.0", "azure": "1.8.0", "core": "1.0.0"}
GRAMS_PER_TON: Final = 10**6
WORLD: Final = 475
_CONSTANT: Final = re.compile(r"\[(?:AWS|AZURE)_REGIONS\.(\w+?)(?:\.name)?\]:\s*([\w.]+)")
_NERC: Final = re.compile(r"^\s+(\w+): ([\d.e-]+),", re.M)
_AWS_REGION: Final = re.compile(r"^\s+(\w+) = '([\w-]+)'", re.M)
_AZURE_REGION: Final = re.compile(r"(\w+): \{\s*name: '([\w-]+)'")


def codecarbon(folder: Path) -> zipfile.ZipFile:
    """The wheel."""
    asked = [f"codecarbon=={CODECARBON}", "--no-deps", "--quiet", "--dest", str(folder)]
    subprocess.run(["pip", "download", *asked], check=True)
    [wheel] = folder.glob("codecarbon-*.whl")
    return zipfile.ZipFile(wheel)


def footprint(name: str, folder: Path) -> tarfile.TarFile:
    """The archive of one of the npm packages; ValueError where its licence is another one."""
    package = f"@cloud-carbon-footprint/{name}@{FOOTPRINT[name]}"
    command = ["npm", "pack", package, "--json", "--pack-destination", str(folder)]
    [said] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    archive = tarfile.open(folder / Path(said["filename"]).name)  # noqa: SIM115 - read until the program ends
    licence = json.loads(text(archive, "package.json"))["license"]
    if licence != "Apache-2.0":
        raise ValueError(f"{package} has the licence {licence!r}, not Apache-2.0")
    return archive


def text(archive: tarfile.TarFile, path: str) -> str:
    """A file of an npm package."""
    found = archive.extractfile(f"package/{path}")
    assert found is not None
    return found.read().decode()


def countries(wheel: zipfile.ZipFile) -> Iterator[tuple[str, dict[str, Any]]]:
    """ISO 3166 alpha-3 code -> what its electricity emits."""
    mix = json.loads(wheel.read("codecarbon/data/private_infra/global_energy_mix.json"))
    for code, country in sorted(mix.items()):
        grams = Decimal(str(country["carbon_intensity"]))
        yield code, {"name": country["country_name"], "grams": str(grams), "year": country["year"]}


def gcp(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    """Region -> grams a kilowatt-hour."""
    table = wheel.read("codecarbon/data/cloud/impact.csv").decode("utf-8-sig")
    for row in csv.DictReader(io.StringIO(table)):
        if row["provider"] == "gcp":
            yield row["region"], row["impact"]


def regions(constants: str, names: dict[str, str], nerc: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Region -> grams a kilowatt-hour, from metric tons in a table of constants."""
    for constant, value in _CONSTANT.findall(constants):
        tons = nerc.get(value.rpartition(".")[2]) if value.startswith("US_NERC") else value
        if constant in names and constant != "UNKNOWN" and tons:
            yield names[constant], f"{(Decimal(tons) * GRAMS_PER_TON).normalize():f}"


def cloud(provider: str, source: str, grams: Iterator[tuple[str, str]]) -> dict[str, Any]:
    """Return what is known of regions of `provider`; raises ValueError for `grams` of any other region."""
    return {
        "source": source,
        "zones": cloud_regions.checked(provider, dict(grams)),
        "countries": cloud_regions.countries(provider),
    }


def gathered(folder: Path) -> dict[str, Any]:
    """All intensities with where they are from."""
    wheel = codecarbon(folder)
    aws, azure, core = (footprint(name, folder) for name in ("aws", "azure", "core"))
    nerc = dict(_NERC.findall(text(core, "src/FootprintEstimationConstants.ts")))
    aws_names = dict(_AWS_REGION.findall(text(aws, "src/lib/AWSRegions.ts")))
    azure_names = dict(_AZURE_REGION.findall(text(azure, "src/lib/AzureRegions.ts")))
    aws_table = text(aws, "src/domain/AwsFootprintEstimationConstants.ts")
    azure_table = text(azure, "src/domain/AzureFootprintEstimationConstants.ts")
    ours, theirs = f"codecarbon {CODECARBON} (PyPI, MIT)", "(npm, Apache-2.0)"
    return {
        "world": {"grams": str(WORLD), "year": 2018, "source": f"IEA, by {ours}"},
        "countries": {"source": f"Our World in Data, by {ours}", "zones": dict(countries(wheel))},
        "gcp": cloud("gcp", f"Google Cloud, region carbon data, by {ours}", gcp(wheel)),
        "aws": cloud(
            "aws",
            f"EPA, EEA and others, by @cloud-carbon-footprint/aws {FOOTPRINT['aws']} {theirs}",
            regions(aws_table, aws_names, nerc),
        ),
        "azure": cloud(
            "azure",
            f"EPA, EEA and others, by @cloud-carbon-footprint/azure {FOOTPRINT['azure']} {theirs}",
            regions(azure_table, azure_names, nerc),
        ),
    }


def main() -> None:
    """Writes the file."""
    with tempfile.TemporaryDirectory() as name:
        found = gathered(Path(name))
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    print({name: len(part["zones"]) for name, part in found.items() if "zones" in part})


if __name__ == "__main__":
    main()
