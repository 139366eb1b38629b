"""kind, where a Docker engine answers: the same verbs, three workers, images built by Docker.

Written against kind's and Docker's documented command lines and kept small: the machines that run
this repository's own tests have no Docker engine, so nothing here is tried by them.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from cluster.images import definitions
from cluster.images.builder import build_arguments
from cluster.images.definitions import HERE, Sources
from cluster.kubernetes import environment, gpus, volumes
from cluster.kubernetes.api_client import client_for
from cluster.machine import shell
from cluster.machine.processes import Service, Supervisor
from cluster.machine.progress import say, step
from cluster.paths import PROGRAM, Layout

NAME = "footplate"
_BASE = "python:3.11-slim"


class Kind:
    """The ``kind`` backend."""

    def __init__(self, layout: Layout) -> None:
        # No root here, so records stay in the cache folder rather than in /run.
        self._layout = Layout(layout.cache, layout.cluster / "run")
        self._supervisor = Supervisor(self._layout)

    def _exists(self) -> bool:
        return NAME in shell.run(["kind", "get", "clusters"]).split()

    def up(self, fake_gpus: int | None) -> None:
        layout = self._layout
        layout.shared.mkdir(parents=True, exist_ok=True)
        if not self._exists():
            config = (
                Path(__file__).with_name("kind.yaml").read_text().replace("SHARED_FOLDER", str(layout.shared))
            )
            with step("kind made a cluster"):
                command = ["kind", "create", "cluster", "--name", NAME, "--wait", "120s"]
                shell.run([*command, "--kubeconfig", layout.kubeconfig, "--config", "-"], stdin=config)
        self._apply_storage_class()
        argv = (sys.executable, str(PROGRAM), "provision-volumes")
        env = {"FOOTPLATE_CACHE": str(layout.cache)}
        self._supervisor.ensure(Service("provisioner", argv, group=None, env=env))
        gpus.apply(client_for(layout.kubeconfig), fake_gpus)
        say("the cluster is running")

    def _apply_storage_class(self) -> None:
        kubectl = environment.tools_folder(self._layout) / "kubectl"
        command: list[str | Path] = [
            kubectl,
            "--kubeconfig",
            self._layout.kubeconfig,
            "apply",
            "--filename=-",
        ]
        # kind's own class stays the default one; ours is asked for by name.
        shell.run(command, stdin=json.dumps(volumes.storage_class(default=False)))

    def down(self) -> None:
        self._supervisor.stop("provisioner")
        if self._exists():
            shell.run(["kind", "delete", "cluster", "--name", NAME])
        self._layout.kubeconfig.unlink(missing_ok=True)

    def status(self) -> bool:
        if not self._exists():
            print("kind cluster: not running")
            return False
        print(environment.nodes_table(client_for(self._layout.kubeconfig)))
        return self._supervisor.running("provisioner")

    def environment(self) -> str:
        return environment.shell_lines(self._layout, self._layout.kubeconfig)

    def build_images(self, sources: Sources = HERE) -> None:
        for image in sources.images():
            with step(f"built image {image.name}"), tempfile.TemporaryDirectory() as folder:
                context = Path(folder)
                key = definitions.export_context(image, sources.folder, context, _BASE)
                arguments = build_arguments(image, _BASE, context, key)
                shell.run(
                    ["docker", "build", *arguments, "--tag", image.tagged(sources.tag), context],
                    env={"DOCKER_BUILDKIT": "1"},
                )

    def load_images(self, sources: Sources = HERE) -> None:
        self.build_images(sources)
        references = [image.tagged(sources.tag) for image in sources.images()]
        with step("kind's nodes have the images"):
            shell.run(["kind", "load", "docker-image", "--name", NAME, *references])
