"""What a user got wrong is said within ten seconds, in a condition and a phase."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from demo.kube import Kube
from tests.support.runs import DATA, Runs, changed, tiny

pytestmark = pytest.mark.system

SAID_WITHIN_SECONDS = 10.0


@pytest.mark.parametrize(
    ("path", "value", "phase", "condition", "says"),
    [
        pytest.param(
            "compute.profile", "no-such-profile", "Queued",
            ("Reconciled", "False", "ProfileNotFound"), "no-such-profile", id="profile-missing",
        ),
        pytest.param(
            "data.uri", "/shared/data/nowhere", "Failed",
            ("Failed", "True", "DataMissing"), "/shared/data/nowhere", id="data-missing",
            marks=pytest.mark.alone,
        ),
        pytest.param(
            "trainer.image", "localhost/footplate/no-such-image:1", "Failed",
            ("Failed", "True", "ErrImagePull"), "no-such-image", id="image-unpullable",
        ),
    ],
)  # fmt: skip
def test_a_mistake_is_said(
    runs: Runs, name: str, path: str, value: Any, phase: str, condition: tuple[str, str, str], says: str
) -> None:
    runs.apply(changed(tiny(name, runs.namespace), path, value))
    found = runs.wait_condition(name, *condition, seconds=SAID_WITHIN_SECONDS)
    assert says in found["message"]
    runs.wait_phase(name, phase, seconds=SAID_WITHIN_SECONDS)


@pytest.mark.alone
def test_a_corrupt_shard_is_named(runs: Runs, name: str, shell: Shell) -> None:
    copy = f"/shared/data/{name}"
    shell(f"cp -r {DATA} {copy} && printf x | dd of={copy}/shard-00000.bin bs=1 seek=1000 conv=notrunc")
    runs.apply(changed(tiny(name, runs.namespace), "data.uri", copy))
    found = runs.wait_condition(name, "Failed", "True", "DataCorrupt", seconds=SAID_WITHIN_SECONDS)
    assert "shard-00000.bin" in found["message"]


@pytest.mark.alone
def test_a_full_volume_is_said(runs: Runs, name: str) -> None:
    """The first checkpoint does not fit: the run says so soon after, and does not try for ever."""
    claim = SMALL_CLAIM.format(name=name)
    runs.kube.kubectl("apply", "-n", runs.namespace, "--filename", "-", stdin=claim)
    manifest = changed(
        tiny(name, runs.namespace), "checkpoint", {"uri": "/small/checkpoints", "everySteps": 5}
    )
    small = {"name": "small", "persistentVolumeClaim": {"claimName": name}}
    manifest["spec"]["trainer"]["volumes"].append(small)
    manifest["spec"]["trainer"]["volumeMounts"].append({"name": "small", "mountPath": "/small"})
    runs.apply(manifest)
    full = runs.until("step 5", lambda: time_of(runs, name, step=5), name, seconds=180)
    found = runs.wait_condition(name, "Failed", "True", "StorageFull", seconds=SAID_WITHIN_SECONDS)
    assert "/small/checkpoints" in found["message"]
    said = datetime.fromisoformat(found["lastTransitionTime"]).timestamp()
    assert said - full <= SAID_WITHIN_SECONDS
    runs.wait_phase(name, "Failed", seconds=SAID_WITHIN_SECONDS)


def time_of(runs: Runs, name: str, step: int) -> float | None:
    """When the step ended, in seconds since the Unix epoch; None before the API knows it."""
    rows = runs.metrics_or_none(name) or []
    return next((row["time"] for row in rows if row["step"] == step), None)


SMALL_CLAIM = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {name}
  annotations: {{footplate.dev/enforce-size: "true"}}
spec:
  accessModes: [ReadWriteMany]
  storageClassName: footplate-shared
  resources: {{requests: {{storage: 4Mi}}}}
"""


class Shell:
    """A pod that sees the shared volume and runs lines of shell."""

    def __init__(self, kube: Kube, namespace: str) -> None:
        self.kube, self.namespace = kube, namespace

    def __call__(self, line: str) -> str:
        return self.kube.kubectl("exec", "shell", "-n", self.namespace, "--", "sh", "-ec", line)


@pytest.fixture(scope="module")
def shell(runs: Runs) -> Shell:
    """One such pod for the module; it goes with the namespace."""
    runs.kube.kubectl("apply", "-n", runs.namespace, "--filename", "-", stdin=SHELL_POD)
    runs.kube.kubectl("wait", "-n", runs.namespace, "--for=condition=Ready", "pod/shell", "--timeout=60s")
    return Shell(runs.kube, runs.namespace)


SHELL_POD = """
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 0
  automountServiceAccountToken: false
  securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000}
  containers:
  - name: main
    image: localhost/footplate/coordinator:dev
    imagePullPolicy: IfNotPresent
    command: [sleep, "3600"]
    volumeMounts: [{name: shared, mountPath: /shared}]
  volumes: [{name: shared, persistentVolumeClaim: {claimName: shared}}]
"""
