"""docs/versions.md says what the files say that decide upon versions, and names tests that are there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version
from tools.crds import all_definitions

from cluster.programs.binaries import HELM_VERSION, KUBERNETES_VERSION
from footplate_contracts.names import VERSION

ROOT: Final = Path(__file__).parents[3]
PAGE: Final = (ROOT / "docs" / "versions.md").read_text()
_TABLE: Final = PAGE.split("\n## ")[1].split("|---|", 1)[1]
RANGES: Final = {
    what: (first, tried) for what, first, tried in re.findall(r"^\| (.+?) \| (.+?) \| (.+?) \|", _TABLE, re.M)
}
PINNED: Final = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
PROJECTS: Final[list[dict[str, Any]]] = [
    tomllib.loads(path.read_text())["project"] for path in sorted(ROOT.glob("*/pyproject.toml"))
]
OLD_FLAGS: Final = {"--create-namespace", "--namespace", "--set", "--values"}  # Helm 3.13 has them
TESTS: Final = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)


def lowest(specifiers: str) -> str:
    """Of a range whose only bound is from below."""
    [only] = SpecifierSet(specifiers)
    assert only.operator == ">="
    return only.version


def test_kubernetes_and_helm() -> None:
    chart = yaml.safe_load((ROOT / "charts/footplate/Chart.yaml").read_text())
    [bound] = re.findall(r">=(\d+\.\d+)\.0-0", chart["kubeVersion"])
    assert RANGES["Kubernetes"] == (bound, KUBERNETES_VERSION)
    # client-go in Helm's go.mod; a chart for newer clusters alone needs the Helm that is made for them.
    assert RANGES["Helm"] == ({"1.30": "3.15"}[bound], HELM_VERSION)


def test_flags_of_helm() -> None:
    """All of commands in the docs that are not old; what is newer than the range is told where it is used."""
    since = dict(re.findall(r"^\| `(--[a-z-]+)` \| (3\.\d+) \|", PAGE, re.M))
    pages = {
        path: path.read_text()
        for path in (
            *ROOT.glob("docs/*.md"),
            *ROOT.glob("docs/operations/*.md"),
            ROOT / "charts/footplate/README.md",
        )
    }
    commands = [
        command.replace("\\\n", " ")
        for text in pages.values()
        for command in re.findall(r"^ *(?:\$ )?(helm (?:.*\\\n)*.*)$", text, re.M)
    ]
    assert len(commands) > 10
    used = {flag for command in commands for flag in re.findall(r" (--[a-z-]+)", command)}
    assert used - OLD_FLAGS == set(since)
    oldest = Version(RANGES["Helm"][0])
    newer = {flag: first for flag, first in since.items() if Version(first) > oldest}
    assert newer == {"--take-ownership": "3.17"}
    for path, text in pages.items():
        for flag, first in newer.items():
            assert flag not in text or path.name == "versions.md" or f"Helm {first} or newer" in text, path


def test_python() -> None:
    wanted = {lowest(project["requires-python"]) for project in PROJECTS}
    files = sorted(ROOT.glob("*/Dockerfile"))
    base = re.compile(r"^ARG BASE_IMAGE=python:([\d.]+)-slim$", re.M)
    bases = {found for path in files for found in base.findall(path.read_text())}
    assert len(PROJECTS) == 7 and len(files) == 4
    assert ({RANGES["Python"][0]}, {RANGES["Python"][1]}) == (wanted, bases)


def test_torch_and_what_comes_with_it() -> None:
    lines = [
        Requirement(line)
        for project in PROJECTS
        for group in (project["dependencies"], *project.get("optional-dependencies", {}).values())
        for line in group
    ]
    assert {lowest(str(line.specifier)) for line in lines if line.name == "torch"} == {RANGES["torch"][0]}
    assert RANGES["torch"][1] == PINNED["torch"]
    assert Version(RANGES["torch"][0]) <= Version(RANGES["torch"][1])
    assert RANGES["NCCL"][1] == PINNED["nvidia-nccl-cu13"]
    assert RANGES["CUDA"][1] == PINNED["cuda-toolkit"]


def test_nothing_else_has_a_range() -> None:
    assert list(RANGES) == ["Kubernetes", "Helm", "Python", "torch", "NCCL", "CUDA"]


@pytest.mark.parametrize(("file", "name"), sorted(set(TESTS)))
def test_a_test_that_the_page_names_is_there(file: str, name: str) -> None:
    assert re.search(rf"^(async )?def {name}\(", (ROOT / file).read_text(), re.M)


def test_each_pair_of_programs_names_a_test() -> None:
    [table] = re.findall(r"^\| one \|.*?(?=\n\n)", PAGE, re.M | re.S)
    pairs = table.splitlines()[2:]
    assert len(pairs) >= 8
    assert [pair for pair in pairs if "::test_" not in pair] == []


def test_each_kind_has_one_version_and_no_conversion() -> None:
    for name, definition in all_definitions().items():
        [version] = definition["spec"]["versions"]
        assert (version["name"], version["served"], version["storage"]) == (VERSION, True, True), name
        assert "conversion" not in definition["spec"], name
