"""Resident memory of operator, coordinator and API in their pods, idle.

    python bench/memory/on_cluster.py     needs `make install`

What is read is VmRSS of process 1: of the coordinator while its small run trains, of operator and API a
while after that run was deleted.
"""

from __future__ import annotations

import re
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "dev")]

from demo.kube import Kube  # noqa: E402
from tests.support.runs import runs_in, tiny  # noqa: E402

NAMESPACE = "footplate-bench"
SYSTEM = "footplate-system"
QUIET_SECONDS = 10.0


def resident(kube: Kube, namespace: str, pod: str) -> float:
    """VmRSS of process 1 of the pod, MB."""
    status = kube.kubectl("exec", pod, "-n", namespace, "--", "cat", "/proc/1/status")
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found is not None, status
    return int(found.group(1)) * 1024 / 1e6


def system_pod(kube: Kube, component: str) -> str:
    """The running pod of a Deployment of the chart."""
    selector = f"app.kubernetes.io/component={component}"
    listed = kube.get("pods", "-n", SYSTEM, "-l", selector, "--field-selector=status.phase=Running")
    assert listed and listed["items"], f"no {component} runs; run `make install`"
    return str(listed["items"][0]["metadata"]["name"])


def main() -> int:
    """Prints a line for each program, with its bar."""
    kube = Kube.of_cluster_tool()
    with runs_in(kube, NAMESPACE, wait=True) as runs:
        name = runs.apply(tiny("memory", NAMESPACE, steps=1000))
        runs.wait_step(name, 5)
        coordinator = runs.pods(name, "coordinator")[0]["metadata"]["name"]
        megabytes = resident(kube, NAMESPACE, coordinator)
        print(f"coordinator {megabytes:6.1f} MB (bar 60), with 4 ranks reporting")
        runs.delete(name)
        time.sleep(QUIET_SECONDS)
        for component, bar in (("operator", 120), ("api", 150)):
            megabytes = resident(kube, SYSTEM, system_pod(kube, component))
            print(f"{component:<11} {megabytes:6.1f} MB (bar {bar})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
