"""One day of an administrator: install, upgrade, roll back, uninstall, install again, under live runs.

Each act is done by Helm as README.md of the chart has it, and after each it is compared what became of the
runs, and measured how long the control plane was away.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from demo.display import heading
from demo.install import CHART, NAMESPACE, wait_for_admission
from demo.kube import ROOT, DemoError, Kube
from tests.support.runs import Runs, runs_in
from tests.system.upgrade import away, life
from tests.system.upgrade.away import Away
from tests.system.upgrade.life import State

PREVIOUS_TAG: Final = "previous"
RUNS_NAMESPACE: Final = "footplate-upgrade-day"
RELEASE: Final = "footplate"
IMAGES: Final = ("operator", "api", "coordinator", "trainer")
LIVE_SECONDS: Final = 300.0
FURTHER: Final = 5  # steps that each run trains on before an act is over
# The bars of an upgrade; docs/benchmarks.md has what was seen.
INSTALL_SECONDS, AWAY_SECONDS, LEADER_SECONDS = 30.0, 15.0, 5.0


@dataclass
class Day:
    """What was done, and what of it was not as it has to be."""

    kube: Kube
    previous: Path  # the checkout of the previous release
    faults: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """A line of the transcript."""
        print(text, flush=True)

    def check(self, holds: bool, text: str) -> None:
        """A line that says whether it holds."""
        self.say(f"  {'ok  ' if holds else 'FAIL'} {text}")
        if not holds:
            self.faults.append(text)

    def helm(self, *arguments: str) -> None:
        """A command of Helm, shown."""
        shown = [word.removeprefix(f"{ROOT}/") for word in arguments]
        self.say(f"$ helm {' '.join(shown)}")
        self.kube.helm(*arguments)

    # -- acts ----------------------------------------------------------------------------

    def install(self, values: Sequence[str] = ()) -> float:
        """This release; seconds until a run would be admitted."""
        began = time.monotonic()
        self.helm(*_upgrade(CHART), *_values(CHART), *values, "--take-ownership")
        wait_for_admission(self.kube)
        return time.monotonic() - began

    def install_previous(self) -> None:
        """As its own README has it."""
        chart = self.previous / CHART
        crds = str(chart / "crds")
        self.say("$ kubectl apply --server-side -f crds")
        self.kube.kubectl("apply", "--server-side", "--force-conflicts", "--filename", crds)
        self.kube.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=60s")
        tags = [f"--set={image}.image.tag={PREVIOUS_TAG}" for image in IMAGES]
        self.helm(*_upgrade(chart), *_values(chart), *tags, "--wait", "--timeout=3m")
        wait_for_admission(self.kube)

    def uninstall(self) -> None:
        """And what must be gone with it."""
        self.helm("uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout=3m")
        # Helm waits for Deployments; their pods go by garbage collection, and have seconds to end.
        pods = ("pod", "-n", NAMESPACE, "-l", f"app.kubernetes.io/instance={RELEASE}")
        self.kube.kubectl("wait", "--for=delete", *pods, "--timeout=60s")
        left = sorted(_left(self.kube))
        self.say("  left: " + (", ".join(left) or "nothing"))
        kept = {"customresourcedefinition.apiextensions.k8s.io", "persistentvolumeclaim"}
        strange = [name for name in left if name.partition("/")[0] not in kept]
        self.check(not strange, f"nothing is left but CRDs and the volume: {strange or 'so it is'}")

    def empty(self) -> None:
        """As no release had ever been there: CRDs and namespace, too."""
        kinds = [path.stem for path in (ROOT / "crds").glob("*.yaml")]
        self.kube.kubectl("delete", "crd", *kinds, "--ignore-not-found", "--wait=true")
        self.kube.kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true")

    @contextmanager
    def act(self, runs: Runs, title: str, changes: Callable[[], Any] = lambda: None) -> Iterator[None]:
        """Compares the runs before and after the block, and tells how long the control plane was away."""
        heading(title)
        before = life.states(runs)
        with away.watched(self.kube) as seen:
            yield
            self.trains_on(runs, before)
        self.compare(runs, before)
        self._tell(seen)

    def trains_on(self, runs: Runs, before: dict[str, State]) -> None:
        """Waits until each run that trains has gone on."""
        for name in life.TRAINING:
            runs.wait_step(name, before[name].step + FURTHER, LIVE_SECONDS)

    def compare(self, runs: Runs, before: dict[str, State]) -> None:
        """Says what of the runs is not as it was."""
        after = life.states(runs)
        differences = life.differences(before, after)
        said = "; ".join(differences[:6]) or "the same pods, attempts and children; no step was trained twice"
        self.check(not differences, f"{len(after)} runs: {said}")
        steps = ", ".join(f"{name} {before[name].step} -> {after[name].step}" for name in life.TRAINING)
        self.say(f"       steps: {steps}")

    def _tell(self, seen: Away) -> None:
        longest = max(seen.operator, seen.api)
        self.check(
            longest <= AWAY_SECONDS,
            f"the operator was away for {seen.operator:.1f} s, the API for {seen.api:.1f} s"
            f" (bar {AWAY_SECONDS:.0f} s)",
        )
        self.say(f"       led by {', then '.join(seen.leaders) or 'nobody'}")


def _upgrade(chart: str | Path) -> list[str]:
    return ["upgrade", "--install", RELEASE, str(chart), "--namespace", NAMESPACE, "--create-namespace"]


def _values(chart: str | Path) -> list[str]:
    return ["--values", f"{chart}/values-local.yaml"]


def _left(kube: Kube) -> list[str]:
    """Kind and name of all that is labelled as the release's, whatever it is."""
    kinds = kube.kubectl("api-resources", "--verbs=list", "--output=name").split()
    asked = ",".join(kind for kind in kinds if not kind.startswith("events"))
    label = f"app.kubernetes.io/instance={RELEASE}"
    return kube.kubectl("get", asked, "-A", "-l", label, "--ignore-not-found", "-o", "name").split()


def play(kube: Kube, previous: Path) -> list[str]:
    """All of it; what was not as it has to be, in words."""
    day = Day(kube, previous)
    _empty_cluster(day)
    heading("2. The previous release, with twenty live runs")
    day.install_previous()
    with runs_in(kube, RUNS_NAMESPACE, wait=False) as runs:
        _begin(day, runs)
        _up_and_down(day, runs)
        _away_and_back(day, runs)
    return day.faults


def _empty_cluster(day: Day) -> None:
    heading("1. An empty cluster")
    seconds = day.install()
    day.check(seconds <= INSTALL_SECONDS, f"a run would be admitted after {seconds:.1f} s (bar 30 s)")
    day.uninstall()
    day.empty()


def _begin(day: Day, runs: Runs) -> None:
    for manifest in (life.profile(), *life.manifests(runs.namespace)):
        day.kube.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(manifest))
    for name in life.TRAINING:
        runs.wait_step(name, FURTHER, LIVE_SECONDS)
        runs.wait_phase(name, "Running", seconds=LIVE_SECONDS)
    for name in life.SUSPENDED:
        runs.wait_phase(name, "Suspended", seconds=LIVE_SECONDS)
    for name in life.WAITING:
        runs.until(f"pods of {name}", lambda name=name: runs.pods(name) or None, name, LIVE_SECONDS)
    found = life.states(runs)
    phases = sorted({state.phase for state in found.values()})
    day.say(f"  {len(found)} runs live, in the phases {', '.join(phases)}")


def _up_and_down(day: Day, runs: Runs) -> None:
    with day.act(runs, "3. Upgrade to this release"):
        day.install(["--wait", "--timeout=5m"])
    two = ["--set=operator.replicaCount=2", "--wait", "--timeout=5m"]
    day.install(two)
    with day.act(runs, "4. A rolling update of two operators"), away.watched(day.kube) as seen:
        restart = ("rollout", "restart", "deployment/footplate-operator", "-n", NAMESPACE)
        day.kube.kubectl(*restart)
        day.kube.kubectl("rollout", "status", *restart[2:], "--timeout=3m")
        # Pods that end are no part of a rollout's status, and the leader is the one that ends last.
        runs.until("another leader", lambda: len(seen.leaders) > 1 or None, life.TRAINING[0], 60)
    day.check(
        seen.operator <= LEADER_SECONDS, f"a new leader after {seen.operator:.1f} s (bar {LEADER_SECONDS} s)"
    )
    with day.act(runs, "5. Roll back to the previous release"):
        day.helm("rollback", RELEASE, "1", "--namespace", NAMESPACE, "--wait", "--timeout=5m")
    with day.act(runs, "6. And up again"):
        day.install(["--wait", "--timeout=5m"])


def _away_and_back(day: Day, runs: Runs) -> None:
    heading("7. Uninstall, while runs train")
    before = life.states(runs)
    day.uninstall()
    began = time.monotonic()
    time.sleep(20)  # so long nobody looks after them
    heading("8. Install again: the history is found")
    day.install(["--wait", "--timeout=5m"])
    day.say(f"  for {time.monotonic() - began:.0f} s there was no control plane")
    day.trains_on(runs, before)
    day.compare(runs, before)
    runs.until("each row to be in the history", lambda: True if not _rows(runs) else None, "", 120)
    missing = _rows(runs)
    day.check(not missing, "; ".join(missing) or "each step of each run is in the history once")
    day.helm("test", RELEASE, "--namespace", NAMESPACE, "--timeout=5m")
    day.say("  ok   a run would be admitted, and the API answers who has a token")


def _rows(runs: Runs) -> list[str]:
    try:
        return life.missing_rows(runs)
    except DemoError as error:
        return [str(error)]
