"""Writes what is generated (`gen.py`) or fails when it differs (`gen.py --check`).

crds/, docs/resources.md and what OpenAPI says of a run's spec come from the models, docs/compatibility.md
from the trainer's table and the list of layouts that are tested, docs/third-party/ from the Dockerfiles and
the metadata of the installed packages. The chart has the specs of the same CRDs once more, as Helm cannot
reach outside of it; their names and metadata are its template's. Its rights about our kinds follow from
what the operator's controllers declare. Its dashboards and rules come from tools/monitoring, its
values.schema.json and the list of values in its README from the comments of its values.yaml and, for the
specs of our kinds, from the models. The version of packages, chart and CRDs is that of the file VERSION.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import yaml

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools import compatibility_page, resources_page  # noqa: E402
from tools.chart_values import comments, table  # noqa: E402
from tools.chart_values.schema import schema as values_schema  # noqa: E402
from tools.crds import all_definitions  # noqa: E402
from tools.monitoring.rules import files as rule_files  # noqa: E402
from tools.monitoring.rules.alerts import ALERTS  # noqa: E402
from tools.monitoring.write import dashboards  # noqa: E402
from tools.release import versions  # noqa: E402
from tools.rights import rights_file  # noqa: E402
from tools.schemas import published_schema  # noqa: E402
from tools.third_party.images import OtherEnvironment  # noqa: E402
from tools.third_party.licences import UnknownLicence  # noqa: E402
from tools.third_party.page import pages as third_party_pages  # noqa: E402

from footplate_contracts.names import WRITTEN_BY_ANNOTATION  # noqa: E402
from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec  # noqa: E402
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec  # noqa: E402
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec  # noqa: E402
from footplate_contracts.v1alpha1.trainingrun import TrainingRunSpec  # noqa: E402
from tests.support.layout_list import tested_pairs  # noqa: E402 - found from the root

HEADER: Final = "# Generated from footplate_contracts by `make gen`; edited by nobody.\n"
CHART: Final = ROOT / "charts" / "footplate"


def _specs_in_values() -> dict[str, dict[str, Any]]:
    """What the models say of our kinds whose specs are values of the chart."""
    price = published_schema(PriceEntrySpec)
    # Who writes an entry is known by whom Helm asks with, and another name is refused.
    del price["properties"]["createdBy"]
    price["properties"]["source"]["not"] = {"pattern": "^ComputeProfile "}
    return {
        "computeProfileSpec": published_schema(ComputeProfileSpec),
        "priceEntrySpec": price,
        "carbonIntensitySpec": published_schema(CarbonIntensitySpec),
    }


def _of_values() -> dict[Path, str]:
    """What is made of the chart's commented values: their schema, and their tables in its README."""
    values = comments.read((CHART / "values.yaml").read_text())
    schema = values_schema(values, _specs_in_values(), list(ALERTS))
    readme = CHART / "README.md"
    return {
        CHART / "values.schema.json": json.dumps(schema, indent=2, ensure_ascii=False) + "\n",
        readme: table.placed(readme.read_text(), table.tables(values, schema)),
    }


def _yaml(content: dict[str, Any]) -> str:
    return HEADER + yaml.safe_dump(content, sort_keys=False, width=110, allow_unicode=True)


def rendered() -> dict[Path, str]:
    """Every generated file and its content."""
    files: dict[Path, str] = {}
    version = str(versions.present(ROOT))
    for name, definition in all_definitions().items():
        metadata = definition["metadata"] | {"annotations": {WRITTEN_BY_ANNOTATION: version}}
        files[ROOT / "crds" / name] = _yaml(definition | {"metadata": metadata})
        files[CHART / "files" / "crds" / name] = _yaml({"spec": definition["spec"]})
    files[CHART / "files" / "rights.yaml"] = rights_file()
    files |= _of_values()
    spec = json.dumps(published_schema(TrainingRunSpec), indent=1, ensure_ascii=False) + "\n"
    files[ROOT / "api" / "src" / "footplate_api" / "runs" / "trainingrunspec.json"] = spec
    files[ROOT / "docs" / "resources.md"] = resources_page.reference()
    files[ROOT / "docs" / "compatibility.md"] = compatibility_page.page(tested_pairs())
    for name, text in dashboards().items():
        files[CHART / "dashboards" / name] = text
    for name, text in rule_files.all_files().items():
        files[CHART / "rules" / name] = text
    files |= third_party_pages()
    return files | versions.generated(ROOT)


def main(arguments: Sequence[str] | None = None, contents: Callable[[], dict[Path, str]] = rendered) -> int:
    """Exit status 1 when --check finds a difference, 2 where this environment does not tell `contents`."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args(arguments).check
    try:
        files = contents()
    except (OtherEnvironment, UnknownLicence) as error:
        print(f"{error}. No file was changed.", file=sys.stderr)
        return 2
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    for path in stale:
        if check:
            print(f"{path.relative_to(ROOT)} is out of date; run `make gen`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files[path])
            print(f"wrote {path.relative_to(ROOT)}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
