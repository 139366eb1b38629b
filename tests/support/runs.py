"""Whole runs on the cluster, as tests drive them: apply, wait, hurt, compare.

Everything goes through kubectl and the API's REST routes, like a user with a token of their own, and
through `kubectl proxy` where a test asks again and again. Waiting is bounded and polls a
fact; when it gives up, the message holds what a person would look at first.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote

import yaml

from demo.api import SERVICE, Api, api_of
from demo.install import NAMESPACE
from demo.kube import ROOT, DemoError, Kube
from tests.support.proxy import Proxy, proxied

T = TypeVar("T")
Json = dict[str, Any]

DATA = "/shared/data/python-docs"
PACKING = "examples/data-python-docs.yaml"
_OF_ROLLOUTS = ("reward/", "rewards/", "answers/", "groups/", "kl/", "policy/", "value/")


def tiny(name: str, namespace: str, *, steps: int = 120, nodes: int = 2, **training: Any) -> Json:
    """A run that two cores finish in seconds: two nodes, two ranks each."""
    return {
        "apiVersion": "footplate.dev/v1alpha1",
        "kind": "TrainingRun",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "model": {
                "layers": 2,
                "hiddenSize": 64,
                "attentionHeads": 4,
                "keyValueHeads": 2,
                "vocabularySize": 4096,
                "contextLength": 64,
            },
            "data": {"uri": DATA, "seed": 7},
            "training": {
                "steps": steps,
                "globalBatchSize": 8,
                "microBatchSize": 2,
                "optimizer": {"learningRate": 0.002},
                "schedule": {"warmupSteps": 10},
                **training,
            },
            "compute": {"profile": "local-cpu", "nodes": nodes},
            "checkpoint": {"uri": f"/shared/checkpoints/{name}", "everySteps": 20},
            "trainer": {
                "volumes": [{"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}}],
                "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            },
        },
    }


def changed(manifest: Json, path: str, value: Any) -> Json:
    """A copy of `manifest` with `spec.<path>` set; None removes it."""
    fresh = copy.deepcopy(manifest)
    *parents, leaf = path.split(".")
    node = fresh["spec"]
    for parent in parents:
        node = node.setdefault(parent, {})
    if value is None:
        node.pop(leaf, None)
    else:
        node[leaf] = value
    return fresh


def check_same_history(rows: list[Json], expected: list[Json]) -> None:
    """Every step once, the same samples, losses within 1e-5, and so what a rollout was worth."""
    assert [row["step"] for row in rows] == [row["step"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row["sampleDigest"] == other["sampleDigest"], f"step {row['step']}"
        assert abs(row["loss"] - other["loss"]) <= 1e-5, f"step {row['step']}"
        mine, theirs = _of_rollouts(row), _of_rollouts(other)
        assert mine.keys() == theirs.keys(), f"step {row['step']}: {mine.keys() ^ theirs.keys()}"
        far = {name: (mine[name], theirs[name]) for name in mine if abs(mine[name] - theirs[name]) > 1e-5}
        assert not far, f"step {row['step']}: {far}"


def _of_rollouts(row: Json) -> dict[str, float]:
    """What a row says of answers and their rewards; nothing where nothing samples."""
    values: dict[str, float] = row.get("values", {})
    return {name: value for name, value in values.items() if name.startswith(_OF_ROLLOUTS)}


@dataclass(frozen=True)
class Runs:
    """TrainingRuns of one namespace."""

    kube: Kube
    namespace: str
    ask: Proxy
    api: Api

    def apply(self, manifest: Json) -> str:
        """Applies the manifest; returns its name."""
        self.kube.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(manifest))
        name: str = manifest["metadata"]["name"]
        return name

    def delete(self, name: str) -> None:
        """Deletes the run; its pods end in the background."""
        self.kube.kubectl("delete", "trun", name, "-n", self.namespace, "--ignore-not-found", "--wait=false")

    def patch(self, name: str, spec: Json) -> None:
        """Merges `spec` into the run's."""
        patch = yaml.safe_dump({"spec": spec})
        self.kube.kubectl("patch", "trun", name, "-n", self.namespace, "--type=merge", "--patch", patch)

    def run(self, name: str) -> Json | None:
        """The TrainingRun; None if there is none."""
        path = f"/apis/footplate.dev/v1alpha1/namespaces/{self.namespace}/trainingruns/{name}"
        found: Json | None = self.ask.get(path)
        return found

    def status(self, name: str) -> Json:
        """`status`, empty before the operator wrote one."""
        found = self.run(name)
        status: Json = (found or {}).get("status", {})
        return status

    def pods(self, name: str, role: str = "worker") -> list[Json]:
        """The run's pods of one role, by name."""
        selector = f"footplate.dev/run={name},footplate.dev/role={role}"
        listed = self.ask.get(f"/api/v1/namespaces/{self.namespace}/pods?labelSelector={quote(selector)}")
        items: list[Json] = (listed or {}).get("items", [])
        return sorted(items, key=lambda pod: str(pod["metadata"]["name"]))

    def metrics(self, name: str) -> list[Json]:
        """The metric history as rows, in order of steps."""
        path = f"/v1/namespaces/{self.namespace}/runs/{name}/metrics?every=1&limit=50000"
        history = self.api.get(path)
        if history is None:
            raise DemoError(f"{path}: not found")
        history.pop("holes", None)  # of rows that may still be on their way
        columns = {key: column for key, column in history.items() if isinstance(column, list)}
        rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
        for name, column in history.get("values", {}).items():
            for row, value in zip(rows, column, strict=True):
                if value is not None:
                    row.setdefault("values", {})[name] = value
        return rows

    def wait_phase(self, name: str, *phases: str, seconds: float = 90.0) -> Json:
        """Status once the phase is one of `phases`; fails early if the run ended otherwise."""

        def reached() -> Json | None:
            status = self.status(name)
            phase = status.get("phase")
            if phase in phases:
                return status
            assert phase not in ("Succeeded", "Failed"), f"{name} ended: {self.explain(name)}"
            return None

        return self.until(f"{name} to be {' or '.join(phases)}", reached, name, seconds)

    def wait_step(self, name: str, step: int, seconds: float = 90.0) -> int:
        """The newest step of the history once it is at least `step`."""

        def reached() -> int | None:
            newest = self.status(name).get("progress", {}).get("step", 0)
            if newest < step:
                rows = self.metrics_or_none(name)
                newest = max(newest, rows[-1]["step"] if rows else 0)
            return newest if newest >= step else None

        return self.until(f"{name} to reach step {step}", reached, name, seconds)

    def whole_history(self, name: str, steps: int, late_seconds: float = 0.0) -> list[Json]:
        """The history of a run that has Succeeded: each step from 1 to `steps` once.

        Args:
            late_seconds: how long after an outage of the API its last rows may still be on their
                way; otherwise its first answer has them all.
        """

        def answered() -> list[Json] | None:
            rows = self.metrics_or_none(name)
            whole = rows and rows[-1]["step"] >= steps
            return rows if whole or time.monotonic() >= due else None

        due = time.monotonic() + late_seconds
        rows = self.until("the API to answer", answered, name, seconds=late_seconds + 30)
        assert [row["step"] for row in rows] == list(range(1, steps + 1)), self.explain(name)
        return rows

    def metrics_or_none(self, name: str) -> list[Json] | None:
        """The history, or None while the API does not answer or does not know the run."""
        try:
            return self.metrics(name)
        except DemoError:
            return None

    def wait_workers(self, name: str, count: int, seconds: float = 90.0) -> list[Json]:
        """The workers, once `count` of them run, by name."""

        def running() -> list[Json] | None:
            found = [pod for pod in self.pods(name) if pod["status"]["phase"] == "Running"]
            return found if len(found) >= count else None

        return self.until(f"{count} workers of {name} to run", running, name, seconds)

    def wait_condition(self, name: str, kind: str, status: str, reason: str, seconds: float) -> Json:
        """The condition once it has that status and reason."""

        def reached() -> Json | None:
            for condition in self.status(name).get("conditions", []):
                if (condition["type"], condition["status"], condition["reason"]) == (kind, status, reason):
                    return dict(condition)
            return None

        return self.until(f"{name} to say {kind}={status} {reason}", reached, name, seconds)

    def until(self, what: str, probe: Callable[[], T | None], name: str, seconds: float) -> T:
        """The first answer of `probe` that is not None; AssertionError after `seconds`.

        A server that is away for a moment, as in an outage that a test makes, has not answered yet.
        """
        deadline, trouble = time.monotonic() + seconds, ""
        while time.monotonic() < deadline:
            try:
                found = probe()
            except DemoError as error:
                found, trouble = None, f"\nlast refusal: {error}"
            if found is not None:
                return found
            time.sleep(0.2)
        raise AssertionError(f"waited {seconds:.0f} s for {what}{trouble}\n{self.explain(name)}")

    def explain(self, name: str) -> str:
        """What a person would look at first."""
        try:
            return self._explained(name)
        except DemoError as error:
            return str(error)

    def _explained(self, name: str) -> str:
        status = self.status(name)
        lines = [f"phase {status.get('phase')}, progress {status.get('progress')}"]
        for item in status.get("conditions", []):
            lines.append(f"  {item['type']}={item['status']} {item['reason']}: {item['message']}")
        for role in ("coordinator", "worker"):
            for pod in self.pods(name, role):
                pod_name = pod["metadata"]["name"]
                lines.append(f"--- {pod_name}: {pod['status'].get('phase')}")
                lines.append(self._tail(pod_name))
        return "\n".join(lines)

    def _tail(self, pod: str) -> str:
        try:
            return self.kube.kubectl("logs", pod, "-n", self.namespace, "--tail=15")
        except DemoError as error:
            return str(error)


def pack_data(kube: Kube, namespace: str, manifest: str = "", seconds: int = 180) -> None:
    """The shared volume and the documentation, by the example's manifest or another one of the same names."""
    text = manifest or (ROOT / PACKING).read_text()
    kube.kubectl("apply", "-n", namespace, "--filename", "-", stdin=text)
    done = ("--for=condition=complete", "job/pack-python-docs", f"--timeout={seconds}s")
    kube.kubectl("wait", "-n", namespace, *done)


@contextmanager
def runs_in(
    kube: Kube,
    namespace: str,
    *,
    wait: bool,
    prepare: Callable[[Kube, str], None] = pack_data,
    service: str = SERVICE,
    home: str = NAMESPACE,
) -> Iterator[Runs]:
    """A namespace with the shared volume and the packed Python documentation in it, for the block.

    Args:
        wait: stay until the namespace has gone, so that the next block of that name can start at once.
        prepare: brings volume and data into the namespace.
        service: of the API, in the namespace `home`.
    """
    # One that an earlier block left may still be on its way out, and takes nothing new.
    found = kube.get("namespace", namespace)
    if found and found["status"]["phase"] == "Terminating":
        kube.kubectl("wait", "--for=delete", f"namespace/{namespace}", "--timeout=180s")
    manifest = f"{{apiVersion: v1, kind: Namespace, metadata: {{name: {namespace}}}}}"
    kube.kubectl("apply", "--filename", "-", stdin=manifest)
    prepare(kube, namespace)
    try:
        with proxied(kube) as ask, api_of(kube, namespace, service, home) as api:
            yield Runs(kube, namespace, ask, api)
    finally:
        kube.kubectl("delete", "trun", "--all", "-n", namespace, "--wait=false")
        kube.kubectl("delete", "namespace", namespace, f"--wait={str(wait).lower()}")
