"""The real Helm on a real API server, whose pods nobody starts: Jobs run as processes of the test."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from cluster.kubernetes.envtest import ApiServer, api_server
from tests.component.contracts.kube import Kubectl
from tests.component.footplate_operator.conftest import kubeconfig_of
from tests.support.chart import NAMESPACE, helm
from tests.support.connection import Json, ask

_LOOK_SECONDS: Final = 0.25
_JOBS: Final = "/apis/batch/v1/jobs"
_WHEN: Final = "2026-11-30T09:00:00Z"
# As the Job controller writes it of a Job whose one pod has ended.
_SUCCEEDED: Final[Json] = {
    "startTime": _WHEN,
    "completionTime": _WHEN,
    "succeeded": 1,
    "uncountedTerminatedPods": {},
    "conditions": [{"type": name, "status": "True"} for name in ("SuccessCriteriaMet", "Complete")],
}
_FAILED: Final[Json] = {
    "startTime": _WHEN,
    "failed": 1,
    "uncountedTerminatedPods": {},
    "conditions": [{"type": name, "status": "True"} for name in ("FailureTarget", "Failed")],
}


# Helm otherwise reads all that the server knows of all kinds first, which takes both a second of a core. The
# server looks at every object all the same.
QUICK: Final = "--disable-openapi-validation"


@dataclass(frozen=True)
class HelmCluster:
    """An API server on which releases are installed."""

    server: ApiServer
    kubectl: Kubectl
    jobs: list[str] = field(default_factory=list)  # names of those that were made, in order
    failing: set[str] = field(default_factory=set)  # of these no pod starts, as without their image

    def helm(
        self, verb: str, release: str, *arguments: str, namespace: str = NAMESPACE
    ) -> subprocess.CompletedProcess[str]:
        """A command of Helm about a release, whatever its exit status; `.` is the chart."""
        create = ("--create-namespace",) if verb == "install" else ()
        place = (f"--namespace={namespace}", *create, f"--kubeconfig={self.server.kubeconfig}")
        return helm(verb, release, *arguments, *place)

    def done(self, verb: str, release: str, *arguments: str, namespace: str = NAMESPACE) -> str:
        """The same of one that succeeds: what it said."""
        ended = self.helm(verb, release, *arguments, namespace=namespace)
        assert ended.returncode == 0, ended.stderr
        return ended.stdout

    def ask(self, path: str) -> Json:
        """What the API server answers to an administrator's GET."""
        _, answer = ask(self.server.kubeconfig, "GET", path)
        return answer

    def names(self, plural: str, group: str = "footplate.dev/v1alpha1") -> set[str]:
        """Names of all objects of a kind."""
        return {item["metadata"]["name"] for item in self.ask(f"/apis/{group}/{plural}").get("items", [])}


@contextmanager
def helm_cluster(folder: Path, flags: dict[str, str] | None = None) -> Iterator[HelmCluster]:
    """An empty one; each Job that Helm makes there runs as soon as it is made, with the Job's own account."""
    with api_server(folder, flags=flags or {}) as server:
        found = HelmCluster(server, Kubectl(server.kubectl, server.kubeconfig))
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            jobs = pool.submit(_run_jobs, found, stop)
            try:
                yield found
            finally:
                stop.set()
        jobs.result()  # what broke it, if anything did


def _run_jobs(cluster: HelmCluster, stop: threading.Event) -> None:
    ended: set[str] = set()
    while not stop.wait(_LOOK_SECONDS):
        for job in cluster.ask(_JOBS).get("items", []):
            about = job["metadata"]
            if about["uid"] not in ended:
                ended.add(about["uid"])
                cluster.jobs.append(about["name"])
                works = about["name"] not in cluster.failing and _run(cluster, job) == 0
                path = f"/apis/batch/v1/namespaces/{about['namespace']}/jobs/{about['name']}/status"
                ask(cluster.server.kubeconfig, "PATCH", path, {"status": _SUCCEEDED if works else _FAILED})


def _run(cluster: HelmCluster, job: Json) -> int:
    """The exit code of the command of its container, as its own service account."""
    pod = job["spec"]["template"]["spec"]
    [container] = pod["containers"]
    account = ("create", "token", pod["serviceAccountName"], f"--namespace={job['metadata']['namespace']}")
    token = cluster.kubectl(*account).strip()
    python, *command = [*container["command"], *container.get("args", [])]
    assert python == "python"
    given: dict[str, Any] = {item["name"]: item["value"] for item in container["env"] if "value" in item}
    del given["SSL_CERT_FILE"], given["HOME"]  # of a pod
    environment = {**os.environ, **given, "KUBECONFIG": str(kubeconfig_of(cluster.server, "job", token))}
    return subprocess.run([sys.executable, *command], env=environment, check=False).returncode
