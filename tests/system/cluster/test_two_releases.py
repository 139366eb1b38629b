"""Two releases in one cluster, each for a namespace of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from demo.install import CHART, NAMESPACE, wait_for_admission
from demo.kube import DemoError, Kube
from tests.support.runs import Runs, runs_in, tiny

pytestmark = [pytest.mark.system, pytest.mark.long, pytest.mark.alone]

STEPS: Final = 40
EAST, WEST = "footplate-east", "footplate-west"  # the namespaces of their runs
SECOND, SECOND_HOME = "second", "footplate-second"
THIRD, THIRD_HOME = "third", "footplate-third"
VALUES: Final = ("--values", f"{CHART}/values-local.yaml", "--wait", "--timeout=3m")


def narrowed(*namespaces: str) -> str:
    """The flag of a release that serves these; none: all."""
    return f"--set-json=operator.watchNamespaces={json.dumps(namespaces)}"


@contextmanager
def second_release(kube: Kube) -> Iterator[None]:
    """For the west, beside `footplate`, which serves the east alone meanwhile."""
    first = ("upgrade", "footplate", CHART, "--namespace", NAMESPACE, "--reset-then-reuse-values")
    own = ("--namespace", SECOND_HOME)
    try:
        for namespace in (EAST, WEST):  # which have roles of the releases
            kube.kubectl("create", "namespace", namespace)
        kube.helm(*first, narrowed(EAST), *VALUES)
        kube.helm(
            *("install", SECOND, CHART, *own, "--create-namespace"),
            *(narrowed(WEST), "--set=clusterScoped.enabled=false", *VALUES),
        )
        yield
    finally:
        for name, home in ((SECOND, SECOND_HOME), (THIRD, THIRD_HOME)):
            kube.helm("uninstall", name, "--namespace", home, "--ignore-not-found", "--wait", "--timeout=3m")
        kube.helm(*first, narrowed(), *VALUES)
        left = (SECOND_HOME, THIRD_HOME, EAST, WEST)
        kube.kubectl("delete", "namespace", *left, "--ignore-not-found", "--wait=true")
        wait_for_admission(kube)


def _train(runs: Runs, name: str) -> None:
    runs.apply(tiny(name, runs.namespace, steps=STEPS, nodes=1))
    runs.wait_phase(name, "Succeeded", seconds=180)
    runs.whole_history(name, STEPS)


def _said_of(kube: Kube, home: str, operator: str, name: str) -> bool:
    """Whether that operator had to do with the run."""
    log = kube.kubectl("logs", "-n", home, f"deployment/{operator}", "--tail=-1")
    return f"/{name} " in log


def test_each_trains_the_runs_of_its_namespace_and_an_overlapping_third_is_refused(kube: Kube) -> None:
    names = {EAST: "in-the-east", WEST: "in-the-west"}
    with second_release(kube):
        with (
            runs_in(kube, EAST, wait=True) as east,
            runs_in(kube, WEST, wait=True, service="second-footplate-api", home=SECOND_HOME) as west,
        ):
            for runs in (east, west):
                _train(runs, names[runs.namespace])
        first = [_said_of(kube, NAMESPACE, "footplate-operator", name) for name in names.values()]
        second = [_said_of(kube, SECOND_HOME, "second-footplate-operator", name) for name in names.values()]
        assert (first, second) == ([True, False], [False, True])
        overlapping = ("install", THIRD, CHART, "--namespace", THIRD_HOME, narrowed(WEST, "more"))
        with pytest.raises(
            DemoError, match=r"release third .* is \[footplate-west more\], and release second"
        ):
            kube.helm(*overlapping, "--create-namespace", "--set=clusterScoped.enabled=false")
