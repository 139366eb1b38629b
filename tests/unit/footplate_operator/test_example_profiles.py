"""The pods that runs have on each example of a ComputeProfile, letter by letter."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.profiles import contradiction, decode_profile
from tests.support.golden import ROOT, as_yaml, assert_golden
from tests.support.profiles import PROFILES, pods, profile

CHART = Path(__file__).resolve().parents[3] / "charts" / "footplate" / "values.yaml"
GPUS = [name for name in PROFILES if name != "local-cpu"]


@pytest.mark.parametrize("name", PROFILES)
def test_pods_of_a_profile(name: str) -> None:
    assert_golden(f"profiles/{name}.yaml", "---\n".join(map(as_yaml, pods(name))))


def test_no_golden_pods_are_left_over() -> None:
    assert sorted(path.stem for path in (ROOT / "profiles").iterdir()) == sorted(PROFILES)


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_has_the_name_of_its_file_and_does_not_contradict_itself(name: str) -> None:
    assert profile(name)["metadata"] == {"name": name}
    assert contradiction(decode_profile(profile(name))) == ""


@pytest.mark.parametrize("name", GPUS)
def test_workers_with_gpus_are_guaranteed(name: str) -> None:
    for pod in pods(name)[:2]:
        for container in [*pod["spec"]["containers"], *pod["spec"].get("initContainers", [])]:
            stated = container["resources"]
            assert stated["requests"] == stated["limits"], container["name"]
            assert {"cpu", "memory"} <= stated["limits"].keys()


@pytest.mark.parametrize("name", PROFILES)
def test_the_charts_own_profiles_say_what_their_examples_say(name: str) -> None:
    items = yaml.safe_load(CHART.read_text())["profiles"]["items"]
    if name in items:
        assert ComputeProfileSpec.from_json(items[name]["spec"]) == decode_profile(profile(name))


def test_each_of_the_charts_profiles_is_an_example() -> None:
    assert yaml.safe_load(CHART.read_text())["profiles"]["items"].keys() <= set(PROFILES)
