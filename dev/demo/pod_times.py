"""When pods held their nodes, as Kubernetes itself tells it: what a bill is checked against.

A watch of its own, by kubectl, notes each pod of one run as it was last; nothing of Footplate is asked.
"""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import IO, Any, Final

from demo.kube import ROOT, Kube

_MILLI: Final = {"m": Fraction(1, 1000), "": Fraction(1)}


@dataclass
class PodTimes:
    """The pods of one run, by uid, as the watch showed them last."""

    pods: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: threading.Condition = field(default_factory=threading.Condition)

    def take(self, pod: dict[str, Any]) -> None:
        """A newer state of a pod."""
        with self.news:
            self.pods[pod["metadata"]["uid"]] = pod
            self.news.notify_all()

    def ended(self, seconds: float) -> bool:
        """Whether all containers of all pods end within `seconds`."""
        with self.news:
            return self.news.wait_for(lambda: all(span(pod)[1] for pod in self.pods.values()), seconds)


@contextmanager
def watched(kube: Kube, namespace: str, run: str) -> Iterator[PodTimes]:
    """The pods of the run, from now on, for the block."""
    path = f"/api/v1/namespaces/{namespace}/pods?watch=true&labelSelector=footplate.dev%2Frun%3D{run}"
    process = subprocess.Popen(
        ("kubectl", "get", "--raw", path), cwd=ROOT, env=kube.environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    found = PodTimes()
    reading = threading.Thread(target=_read, args=(process.stdout, found), daemon=True)
    reading.start()
    try:
        yield found
    finally:
        process.terminate()
        process.wait()
        reading.join()


def _read(lines: IO[str], found: PodTimes) -> None:
    with lines:
        for line in lines:
            found.take(json.loads(line)["object"])


def span(pod: Mapping[str, Any]) -> tuple[int, int]:
    """From when it was bound until its containers had ended, in seconds since 1970; 0 is not yet."""
    status = pod["status"]
    bound = [
        condition["lastTransitionTime"]
        for condition in status.get("conditions", ())
        if condition["type"] == "PodScheduled" and condition["status"] == "True"
    ]
    containers = [*status.get("initContainerStatuses", ()), *status.get("containerStatuses", ())]
    ends = [container["state"].get("terminated", {}).get("finishedAt") for container in containers]
    over = max(map(_second, ends)) if ends and all(ends) else 0
    return (_second(bound[0]) if bound else 0), over


def _second(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def cores(quantity: str) -> Fraction:
    """A quantity of CPU.

    >>> cores("200m"), cores("2")
    (Fraction(1, 5), Fraction(2, 1))
    """
    unit = "m" if quantity.endswith("m") else ""
    return Fraction(quantity.removesuffix("m")) * _MILLI[unit]


def requested(pod: Mapping[str, Any]) -> Fraction:
    """Cores that its containers request."""
    asked = (
        container.get("resources", {}).get("requests", {}).get("cpu", "0")
        for container in pod["spec"]["containers"]
    )
    return sum(map(cores, asked), Fraction(0))


def dollars(pod: Mapping[str, Any], nodes: Mapping[str, Mapping[str, Any]], hourly: Fraction) -> Fraction:
    """What a pod cost that has ended: its seconds, its share of its node's CPU, and the price of that."""
    start, end = span(pod)
    there = cores(nodes[pod["spec"]["nodeName"]]["status"]["allocatable"]["cpu"])
    return (end - start) * requested(pod) / there * hourly / 3600
