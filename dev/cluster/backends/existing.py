"""A cluster that somebody else keeps: KUBECONFIG names it, and nothing here makes or destroys one."""

from __future__ import annotations

import os

from cluster.errors import ClusterError, NotReady, Unsupported
from cluster.images.definitions import HERE, Sources
from cluster.kubernetes import environment
from cluster.machine import shell
from cluster.machine.progress import say
from cluster.paths import Layout
from cluster.programs import binaries


class Existing:
    """The ``existing`` backend."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def _kubeconfig(self) -> str:
        path = os.environ.get("KUBECONFIG")
        if not path:
            raise ClusterError("CLUSTER=existing uses the cluster that KUBECONFIG names, and it is not set")
        return path

    def _kubectl(self, *words: str) -> str:
        program = binaries.build(binaries.KUBERNETES, self._layout) / "kubectl"
        return shell.run([program, "--kubeconfig", self._kubeconfig(), *words], timeout=30)

    def up(self, fake_gpus: int | None) -> None:
        """Only looks whether the cluster answers."""
        if fake_gpus is not None:
            raise Unsupported("fake GPUs are for clusters of our own; leave --fake-gpus away")
        try:
            self._kubectl("get", "--raw", "/readyz")
        except ClusterError as error:
            raise NotReady(
                f"the cluster of KUBECONFIG={self._kubeconfig()} does not answer: {error}"
            ) from error
        say("the existing cluster answers")

    def down(self) -> None:
        say("an existing cluster is left as it is")

    def status(self) -> bool:
        try:
            print(self._kubectl("get", "nodes", "--output=wide"), end="")
        except ClusterError as error:
            print(error)
            return False
        return True

    def environment(self) -> str:
        return environment.shell_lines(self._layout, self._kubeconfig())

    def build_images(self, sources: Sources = HERE) -> None:
        raise Unsupported(
            "an existing cluster pulls its images from a registry: build them from operator/Dockerfile, "
            "api/Dockerfile and trainer-image/Dockerfile, push them, and name them in the chart's values"
        )

    def load_images(self, sources: Sources = HERE) -> None:
        self.build_images()
