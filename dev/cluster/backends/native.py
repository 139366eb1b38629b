"""A cluster out of plain processes, for machines without a container engine.

``up`` has two ways. A cluster that was completed is repaired: what runs is left alone, what ended
is started. Anything else (nothing, or what a killed ``up`` left) is cleaned away first, by the
same code as ``down``, and built from nothing: there is no half-way state to reason about.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster.errors import ClusterError, NotReady
from cluster.images import oci
from cluster.images.builder import Builder
from cluster.images.definitions import HERE, Sources
from cluster.kubernetes import environment, gpus
from cluster.kubernetes.api_client import ApiClient, ApiError, client_for
from cluster.machine import cgroups, locks, packages
from cluster.machine.processes import Service, Supervisor
from cluster.machine.progress import say, step
from cluster.machine.records import write_whole
from cluster.native import cleanup, control_plane, faults, network, node_images, nodes, render
from cluster.native.network import NODES, Node
from cluster.native.nodes import Ctr, Programs
from cluster.paths import PROGRAM, Layout
from cluster.programs import binaries

READY_SECONDS = 90.0
_POLL_SECONDS = 0.1
_AUTHENTICATION = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


class Native:
    """The native backend; one instance per command."""

    name = "native"

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.supervisor = Supervisor(layout)
        self._marker = layout.run / "complete"
        self._home = layout.run / "home"

    # -- up ------------------------------------------------------------------

    def up(self, fake_gpus: int | None) -> None:
        """Brings the cluster to where every node is Ready."""
        packages.require_root()
        packages.install(packages.CLUSTER)
        programs = self._programs()
        with locks.exclusive(self.layout.run / "lock", "changing this machine's cluster"):
            self._refuse_foreign()
            if not self._completed():
                self._clean("removed what an interrupted command left")
                self._start_from_nothing(programs)
            else:
                self._repair(programs)
            gpus.apply(client_for(self.layout.kubeconfig), fake_gpus)

    def _programs(self) -> Programs:
        built = binaries.build_all(self.layout)
        return Programs(
            kubernetes=built["kubernetes"],
            containerd=built["containerd"],
            coredns=built["coredns"],
            pause=built["pause"],
        )

    def _completed(self) -> bool:
        """Whether an ``up`` came to its end since the machine booted."""
        try:
            marker = json.loads(self._marker.read_text())
        except (OSError, ValueError):
            return False
        return bool(marker.get("boot") == boot_id())

    def _refuse_foreign(self) -> None:
        try:
            home = self._home.read_text()
        except OSError:
            return
        if home != str(self.layout.cache) and self._completed():
            raise ClusterError(
                f"this machine's cluster belongs to the cache folder {home}; use it with "
                f"FOOTPLATE_CACHE={home}, or take it down first"
            )

    def _start_from_nothing(self, programs: Programs) -> None:
        layout = self.layout
        write_whole(self._home, str(layout.cache))
        cleanup.reset_files(layout)
        with step("made the network, control groups and certificates"):
            cgroups.create(control_plane.GROUP)
            for node in NODES:
                cgroups.create(node.name)
            network.connect()
            control_plane.write_credentials(layout, programs.kubernetes)
        started = time.monotonic()
        with ThreadPoolExecutor(max_workers=2) as pool:
            containerds = pool.submit(self._start_containerds, programs, True)
            self._start_control_plane(programs)
            containerds.result()
        say("API server and containerds answer", time.monotonic() - started)
        with step(f"nodes {', '.join(node.name for node in NODES)} are Ready"):
            self._start_nodes(programs)
            self._wait_until_ready()
        write_whole(self._marker, json.dumps({"boot": boot_id()}))

    def _repair(self, programs: Programs) -> None:
        faults.mend_all(self.layout)
        for node in NODES:
            if self.supervisor.running(f"{node.name}-containerd"):
                node_images.show_all(Ctr(programs, self.layout, node))
        for name in {node.name for node in NODES} - registered_nodes(client_for(self.layout.kubeconfig)):
            self.supervisor.end(f"{name}-kubelet")  # it registers its node as it starts, and never again
        ended = [name for name in self.supervisor.names() if not self.supervisor.running(name)]
        if ended:
            with step(f"started {', '.join(ended)} again"):
                network.connect()
                self._start_containerds(programs, False)
                self._start_control_plane(programs)
                self._start_nodes(programs)
        self._wait_until_ready()
        say("the cluster is running")

    def _start_control_plane(self, programs: Programs) -> None:
        layout, ensure = self.layout, self.supervisor.ensure
        kubernetes = programs.kubernetes
        ensure(control_plane.etcd(layout, kubernetes))
        ensure(control_plane.api_server(layout, kubernetes))
        # The kubeconfigs of nodes take as long to make as the API server takes to start.
        for node in NODES:
            if not (layout.config / node.name / "kubelet.conf").exists():
                nodes.write_kubelet_credentials(layout, programs, node)
        api = client_for(layout.config / "super-admin.conf")
        self._wait(lambda: _answers(api), "kube-apiserver")
        # Earlier, both exit over a missing ConfigMap (_AUTHENTICATION).
        ensure(control_plane.controller_manager(layout, kubernetes))
        ensure(control_plane.scheduler(layout, kubernetes))
        control_plane.apply_bootstrap_objects(layout, kubernetes)
        ensure(control_plane.coredns(layout, programs.coredns))
        ensure(self._provisioner())

    def _provisioner(self) -> Service:
        argv = (sys.executable, str(PROGRAM), "provision-volumes")
        env = {"FOOTPLATE_CACHE": str(self.layout.cache)}
        return Service("provisioner", argv, control_plane.GROUP, env=env)

    def _start_containerds(self, programs: Programs, fresh: bool) -> None:
        archive = self.layout.cluster / "pause.tar"
        if not archive.exists():
            archive.parent.mkdir(parents=True, exist_ok=True)
            oci.write_pause_archive(render.PAUSE_IMAGE, programs.pause / "pause", archive)
        with ThreadPoolExecutor(max_workers=len(NODES)) as pool:
            list(pool.map(lambda node: self._start_containerd(programs, node, fresh), NODES))

    def _start_containerd(self, programs: Programs, node: Node, fresh: bool) -> None:
        nodes.write_config(self.layout, node)
        nodes.start_containerd(self.layout, programs, self.supervisor, node, fresh)
        ctr = Ctr(programs, self.layout, node)
        if render.PAUSE_IMAGE not in ctr.images():
            ctr.run("images", "import", self.layout.cluster / "pause.tar")
        node_images.show_all(ctr)
        node_images.announce(ctr)

    def _start_nodes(self, programs: Programs) -> None:
        for node in NODES:
            nodes.start_kubelet(self.layout, programs, self.supervisor, node)

    # -- after a fault ---------------------------------------------------------

    def power_on(self, node: Node) -> None:
        """Starts a node that lost its power; returns before it is Ready."""
        with locks.exclusive(self.layout.run / "lock", "changing this machine's cluster"):
            programs = self._programs()
            self._start_containerd(programs, node, False)
            nodes.start_kubelet(self.layout, programs, self.supervisor, node)
        say(f"{node.name} is powered on")

    def start(self, component: str) -> None:
        """Starts a component that has ended; returns before it is of use."""
        with locks.exclusive(self.layout.run / "lock", "changing this machine's cluster"):
            service = self._services(self._programs()).get(component)
            if service is None:
                known = ", ".join(sorted(self.supervisor.names()))
                raise ClusterError(f"{component} is no component that can be started; there are {known}")
            self.supervisor.ensure(service)
        say(f"{component} runs")

    def use_registry(self, address: str, ca: Path | None) -> None:
        """Every node may pull from a registry, until the cluster is down."""
        if not self._completed():
            raise ClusterError("there is no cluster whose nodes could pull images: `up` first")
        for node in NODES:
            nodes.use_registry(self.layout, node, address, ca)
        say(f"nodes pull from {address}, {'trusting ' + ca.name if ca else 'by plain HTTP'}")

    def hide_image(self, node: Node, reference: str) -> None:
        """The node has the image under another name only, until it is shown again or loaded."""
        node_images.rename(Ctr(self._programs(), self.layout, node), reference, node_images.hidden(reference))
        say(f"{node.name} has no {reference}")

    def show_image(self, node: Node, reference: str) -> None:
        """Undoes ``hide_image``."""
        node_images.rename(Ctr(self._programs(), self.layout, node), node_images.hidden(reference), reference)
        say(f"{node.name} has {reference} again")

    def _services(self, programs: Programs) -> dict[str, Service]:
        """Each component of the control plane and of nodes, by its name."""
        layout, kubernetes = self.layout, programs.kubernetes
        found = [
            control_plane.etcd(layout, kubernetes),
            control_plane.api_server(layout, kubernetes),
            control_plane.controller_manager(layout, kubernetes),
            control_plane.scheduler(layout, kubernetes),
            control_plane.coredns(layout, programs.coredns),
            self._provisioner(),
        ]
        for node in NODES:
            found.append(nodes.containerd_service(layout, programs, node))
            found.append(nodes.kubelet_service(layout, programs, node))
            found.append(nodes.kube_proxy_service(layout, programs, node))
        return {service.name: service for service in found}

    # -- waiting -------------------------------------------------------------

    def _wait(self, condition: Callable[[], bool], *services: str) -> None:
        """Waits for the condition while the services live."""
        deadline = time.monotonic() + READY_SECONDS
        while not condition():
            for service in services:
                self.supervisor.check(service)
            if time.monotonic() > deadline:
                raise NotReady(f"not ready after {READY_SECONDS:.0f} s; look into {self.layout.logs}")
            time.sleep(_POLL_SECONDS)

    def _wait_until_ready(self) -> None:
        api = client_for(self.layout.kubeconfig)
        wanted = {node.name for node in NODES}
        self._wait(lambda: wanted <= ready_nodes(api), *self.supervisor.names())

    # -- down ----------------------------------------------------------------

    def down(self) -> None:
        packages.require_root()
        with locks.exclusive(self.layout.run / "lock", "changing this machine's cluster"):
            self._clean("the cluster is down")
        Builder(self.layout).clear_leftovers()

    def _clean(self, text: str) -> None:
        self._marker.unlink(missing_ok=True)
        homes = {self.layout.cache}
        if self._home.exists():
            homes.add(Path(self._home.read_text()))
        if cleanup.leftovers(homes):
            with step(text):
                cleanup.clean(homes)
        elif text.endswith("down"):
            say("there is no cluster")
        self._home.unlink(missing_ok=True)

    # -- images --------------------------------------------------------------

    def build_images(self, sources: Sources = HERE) -> dict[str, str]:
        return Builder(self.layout).build_all(sources)

    def load_images(self, sources: Sources = HERE) -> None:
        """Builds what changed, and gives every node what it lacks."""
        keyed = self.build_images(sources)
        if not self._completed():
            raise ClusterError("images are built, but there is no cluster to load them into: `up` first")
        store = Builder(self.layout).store
        built = {image.tagged(sources.tag): store.get(keyed[image.name]) for image in sources.images()}
        programs = self._programs()

        def load(node: Node) -> None:
            ctr = Ctr(programs, self.layout, node)
            present = ctr.images()
            for reference, image in built.items():
                if present.get(reference) != image.digest:
                    with step(f"{node.name} has {reference.rpartition('/')[2]}"):
                        marker = self.layout.node(node.name) / "loading"
                        node_images.load(ctr, image, reference, marker)

        # A lock of the images, not of the cluster: an `up` may repair it meanwhile.
        with (
            locks.exclusive(self.layout.images / "lock", "building images"),
            ThreadPoolExecutor(max_workers=len(NODES)) as pool,
        ):
            list(pool.map(load, NODES))

    # -- for people ------------------------------------------------------------

    def environment(self) -> str:
        return environment.shell_lines(self.layout, self.layout.kubeconfig)

    def status(self) -> bool:
        if not self._completed():
            print("native cluster: not running")
            print(environment.caches(self.layout))
            return False
        names = self.supervisor.names()
        ended = [name for name in names if not self.supervisor.running(name)]
        api = client_for(self.layout.kubeconfig)
        print(environment.nodes_table(api))
        print(f"components: {len(names) - len(ended)} of {len(names)} running")
        for name in ended:
            print(f"  ended: {name}, see {self.supervisor.log(name)}")
        print(environment.versions())
        print(environment.caches(self.layout))
        return not ended and {node.name for node in NODES} <= ready_nodes(api)


def _answers(api: ApiClient) -> bool:
    """Whether the API server is ready, and has published what its clients' authentication needs.

    It does the second a moment after it says the first, and on a busy machine the moment is long.
    """
    try:
        api.get("/readyz")
        api.get(_AUTHENTICATION)
    except ApiError:
        return False
    return True


def registered_nodes(api: ApiClient) -> set[str]:
    """Names of the nodes that there are; all of them while the API server cannot be reached."""
    try:
        return {node["metadata"]["name"] for node in api.get("/api/v1/nodes")["items"]}
    except ApiError:
        return {node.name for node in NODES}


def ready_nodes(api: ApiClient) -> set[str]:
    """Names of the nodes that are Ready; none while the API server cannot be reached."""
    try:
        listed = api.get("/api/v1/nodes")["items"]
    except ApiError:
        return set()
    return {
        node["metadata"]["name"]
        for node in listed
        for condition in node.get("status", {}).get("conditions", [])
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
