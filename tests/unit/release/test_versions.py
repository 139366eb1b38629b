"""Which version may be released, and that every file repeats the one of VERSION."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from tools.release import versions
from tools.release.errors import ReleaseError
from tools.release.versions import CHART, Version, next_release

ROOT = Path(__file__).resolve().parents[3]
EARLIER = [Version(0, 1, 0), Version(0, 2, 0)]


@pytest.mark.parametrize("text", ["0.2.0", "10.0.3", "1.0.0-rc.2"])
def test_a_version_is_written_as_it_was_read(text: str) -> None:
    assert str(Version.parse(text)) == text


@pytest.mark.parametrize(
    "text", ["", "latest", "v1.0.0", "1.0", "01.0.0", "1.0.0+4", "1.0.0-beta", "1.0.0\n"]
)
def test_what_is_no_version_is_told_with_the_form(text: str) -> None:
    with pytest.raises(ReleaseError, match=re.escape(f"VERSION={text!r} is no version: say x.y.z")):
        Version.parse(text)


def test_candidates_come_before_their_release() -> None:
    order = ["0.9.9", "1.0.0-rc.1", "1.0.0-rc.2", "1.0.0-rc.10", "1.0.0", "1.0.1-rc.1"]
    assert sorted(map(Version.parse, reversed(order))) == list(map(Version.parse, order))


@pytest.mark.parametrize(
    ("wanted", "present", "said"),
    [
        pytest.param("0.2.1", "0.2.0", None, id="next"),
        pytest.param("0.3.0-rc.1", "0.2.0", None, id="candidate"),
        pytest.param("0.3.0", "0.3.0", None, id="what-the-file-says-and-nobody-released"),
        pytest.param("0.2.0", "0.2.0", "is a release already: choose one above 0.2.0", id="same"),
        pytest.param("0.2.0-rc.1", "0.2.0", "comes before the newest release, 0.2.0", id="its-candidate"),
        pytest.param(
            "0.1.9", "0.2.0", "comes before the newest release, 0.2.0: choose one above 0.2.0", id="older"
        ),
        pytest.param("0.2.5", "0.3.0", "is below 0.3.0 of the file VERSION", id="below-the-file"),
    ],
)
def test_a_release_follows_what_was_released(wanted: str, present: str, said: str | None) -> None:
    version = Version.parse(wanted)
    if said is None:
        assert next_release(version, Version.parse(present), EARLIER) == version
        return
    with pytest.raises(ReleaseError, match=re.escape(f"VERSION={wanted} {said}")):
        next_release(version, Version.parse(present), EARLIER)


def test_the_first_release_follows_nothing() -> None:
    assert next_release(Version(0, 1, 0), Version(0, 1, 0), []) == Version(0, 1, 0)


def test_each_file_gets_the_version_and_keeps_the_rest() -> None:
    chart = 'name: footplate\nversion: 0.1.0\nappVersion: "0.1.0"\nkubeVersion: ">=1.30.0-0"\n'
    project = '[project]\nversion = "0.1.0"\nrequires-python = ">=3.11"\n'
    written = versions.repeated(Version(1, 2, 3, 1), {CHART: chart, "api/pyproject.toml": project})
    assert yaml.safe_load(written[CHART]) == {
        "name": "footplate",
        "version": "1.2.3-rc.1",
        "appVersion": "1.2.3-rc.1",
        "kubeVersion": ">=1.30.0-0",
    }
    assert tomllib.loads(written["api/pyproject.toml"])["project"] == {
        "version": "1.2.3-rc.1",
        "requires-python": ">=3.11",
    }


def test_a_file_without_a_place_for_it_is_named() -> None:
    with pytest.raises(
        ReleaseError, match=r"api/pyproject\.toml has no line, or several, that begin with version"
    ):
        versions.repeated(Version(1, 0, 0), {"api/pyproject.toml": '[project]\nname = "x"\n'})


def test_packages_and_chart_say_what_the_file_says() -> None:
    said = (ROOT / "VERSION").read_text()
    assert said == f"{Version.parse(said.strip())}\n"
    chart = yaml.safe_load((ROOT / CHART).read_text())
    packages = {
        folder.name: tomllib.loads((folder / "pyproject.toml").read_text())["project"]["version"]
        for folder in versions.distributions(ROOT)
    }
    assert len(packages) == 7
    assert {chart["version"], chart["appVersion"], *packages.values()} == {said.strip()}, packages
