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

pytestmark = [pytest.mark.system, pytest.mark.long]

STEPS: Final = 40
EAST, WEST = "footplate-east", "footplate-west"  # the namespaces of their runs
SECOND, SECOND_HOME = "second", "footplate-second"
VALUES: Final = ("--values", f"{CHART}/values-local.yaml", "--wait", "--timeout=3m")


def narrowed(*namespaces: str) -> str:
    """The flag of a release that serves these; none: all."""
    return f"--set-json=operator.watchNamespaces={json.dumps(namespaces)}"


@contextmanager
def second_release(kube: Kube) -> Iterator[None]:
    """For the west, beside `footplate`, which serves the east alone meanwhile."""
    for namespace in (EAST, WEST):  # which have roles of the releases
        kube.kubectl("create", "namespace", namespace)
    first = ("upgrade", "footplate", CHART, "--namespace", NAMESPACE, "--reset-then-reuse-values")
    own = ("--namespace", SECOND_HOME)
    kube.helm(*first, narrowed(EAST), *VALUES)
    try:
        kube.helm(
            *("install", SECOND, CHART, *own, "--create-namespace"),
            *(narrowed(WEST), "--set=clusterDuties=false", *VALUES),
        )
        try:
            yield
        finally:
            kube.helm("uninstall", SECOND, *own, "--wait", "--timeout=3m")
    finally:
        kube.kubectl("delete", "namespace", SECOND_HOME, "--ignore-not-found", "--wait=true")
        kube.helm(*first, narrowed(), *VALUES)
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
        overlapping = ("install", "third", CHART, "--namespace", "footplate-third", narrowed(WEST, "more"))
        with pytest.raises(
            DemoError, match=r"release third .* is \[footplate-west more\], and release second"
        ):
            kube.helm(*overlapping, "--create-namespace", "--set=clusterDuties=false")
        kube.kubectl("delete", "namespace", "footplate-third", "--ignore-not-found")
