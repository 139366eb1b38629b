"""The command line: one verb each for what a developer does with the cluster."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cluster import paths
from cluster.backends.choice import Backend, choose
from cluster.backends.native import Native
from cluster.errors import ClusterError
from cluster.images.builder import keyed_names
from cluster.images.definitions import TAG, Sources
from cluster.kubernetes import envtest, volumes
from cluster.kubernetes.api_client import client_for
from cluster.machine import locks
from cluster.machine.progress import say
from cluster.native import faults
from cluster.native.network import Node
from cluster.paths import REPO, Layout
from cluster.programs import binaries


def _gpus(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{count} is negative; a node has 0 or more GPUs")
    return count


_FAULTS = {  # verb -> what it is about, and what it does
    "unplug": (("node",), "take a node's network away"),
    "plug-in": (("node",), "undo `unplug`"),
    "part": (("node", "other"), "let two nodes not reach each other's pods"),
    "join": (("node", "other"), "undo `part`"),
    "cut-pod": (("node", "address"), "cut the pod of an address off, which stands on the node"),
    "mend-pod": (("node", "address"), "undo `cut-pod`"),
    "kill-node": (("node",), "end all of a node at once"),
    "power-on": (("node",), "undo `kill-node`"),
    "hide-image": (("node", "image"), "take an image away from the node"),
    "show-image": (("node", "image"), "undo `hide-image`"),
    "stop": (("component",), "end a component such as kube-apiserver or node-3-kubelet"),
    "start": (("component",), "undo `stop`"),
    "pause": (("component",), "let a component stand still"),
    "resume": (("component",), "undo `pause`"),
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="python3 dev/cluster", description="The local Kubernetes.")
    verbs = top.add_subparsers(dest="verb", required=True, metavar="VERB")
    up = verbs.add_parser("up", help="start the cluster, or what of it has ended")
    up.add_argument(
        "--fake-gpus",
        type=_gpus,
        default=os.environ.get("FAKE_GPUS"),
        metavar="N",
        help="nvidia.com/gpu of each node (or FAKE_GPUS=N); 0 takes them away",
    )
    up.add_argument("--load", action="store_true", help="build and load the images too, side by side")
    verbs.add_parser("down", help="stop it and leave nothing behind but caches and logs")
    verbs.add_parser("status", help="nodes, components, versions, caches; 1 when it is not running")
    verbs.add_parser("env", help='for eval "$(...)": KUBECONFIG, kubectl and helm')
    locked = verbs.add_parser("locked", help="run a command while no other has the lock file")
    locked.add_argument("file", type=Path)
    locked.add_argument("command", nargs=argparse.REMAINDER)
    programs = verbs.add_parser("binaries", help="build the programs into the cache")
    programs.add_argument("name", nargs="*", help="these alone; without, all that the cluster consists of")
    for verb, text in (
        ("images", "build the images whose sources have changed"),
        ("load", "build them and give them to every node"),
    ):
        images = verbs.add_parser(verb, help=text)
        images.add_argument("--from", dest="folder", type=Path, default=REPO, help="of another checkout")
        images.add_argument("--tag", default=TAG, help=f"by which pods find them (default: {TAG})")
    registry = verbs.add_parser("registry", help="let nodes pull images from a registry")
    registry.add_argument("address", help="as in an image's name; to nodes the machine is 10.88.0.1")
    registry.add_argument("--ca-file", type=Path, help="its authority; without, it is asked by plain HTTP")
    verbs.add_parser("image-keys", help="print the name and the content key of each image")
    for verb, (words, text) in _FAULTS.items():
        fault = verbs.add_parser(verb, help=f"{text}, for tests; `up` mends it")
        for word in words:
            fault.add_argument(word)
    verbs.add_parser("helm-path", help="print where helm is, building it if need be")
    verbs.add_parser("envtest", help="run an API server without nodes until interrupted")
    verbs.add_parser("provision-volumes")  # run by `up`; a person has no use for it
    return top


def _envtest(layout: Layout) -> None:
    with envtest.temporary(layout) as server:
        print(f"export KUBECONFIG={shlex.quote(str(server.kubeconfig))}", flush=True)
        say(f"API server at {server.url}; Ctrl-C ends it")
        envtest.wait_for_interrupt()


def _up(backend: Backend, fake_gpus: int | None, load: bool) -> None:
    if not load:
        backend.up(fake_gpus)
        return
    # From an empty cache, compiling keeps the processor busy and images the network and the disk.
    with ThreadPoolExecutor(max_workers=1) as pool:
        built = pool.submit(backend.build_images)
        backend.up(fake_gpus)
        built.result()
    backend.load_images()


def _locked(file: Path, command: Sequence[str]) -> int:
    """Exit status of the command."""
    with locks.exclusive(file, f"holding {file}"):
        return subprocess.run(command, check=False).returncode


def _image_keys() -> None:
    for name, keyed in keyed_names().items():
        print(name, keyed.rpartition(":")[2])


def _faults(options: argparse.Namespace, backend: Backend, layout: Layout) -> dict[str, Callable[[], object]]:
    """What the verbs of _FAULTS do, all but two of them whatever the backend is."""

    def pair() -> tuple[Node, Node]:
        return faults.find(options.node), faults.find(options.other)

    return {
        "unplug": lambda: faults.unplug(faults.find(options.node)),
        "plug-in": lambda: faults.plug_in(faults.find(options.node)),
        "part": lambda: faults.part(*pair()),
        "join": lambda: faults.join(*pair()),
        "cut-pod": lambda: faults.cut_pod(faults.find(options.node), options.address),
        "mend-pod": lambda: faults.mend_pod(faults.find(options.node), options.address),
        "kill-node": lambda: faults.kill(faults.find(options.node)),
        "power-on": lambda: _native(backend).power_on(faults.find(options.node)),
        "hide-image": lambda: _native(backend).hide_image(faults.find(options.node), options.image),
        "show-image": lambda: _native(backend).show_image(faults.find(options.node), options.image),
        "stop": lambda: faults.stop(layout, options.component),
        "start": lambda: _native(backend).start(options.component),
        "pause": lambda: faults.pause(layout, options.component),
        "resume": lambda: faults.resume(layout, options.component),
    }


def _native(backend: Backend) -> Native:
    if not isinstance(backend, Native):
        raise ClusterError("only CLUSTER=native can change a part of the cluster by itself")
    return backend


def _run(options: argparse.Namespace, layout: Layout) -> int:
    if options.verb == "locked":
        return _locked(options.file, options.command)
    backend = choose(layout)
    actions: dict[str, Callable[[], object]] = {
        "up": lambda: _up(backend, options.fake_gpus, options.load),
        "down": backend.down,
        "env": lambda: print(backend.environment()),
        "binaries": lambda: binaries.build_all(layout, binaries.named(options.name)),
        "images": lambda: backend.build_images(Sources(options.folder.resolve(), options.tag)),
        "load": lambda: backend.load_images(Sources(options.folder.resolve(), options.tag)),
        "image-keys": _image_keys,
        "registry": lambda: _native(backend).use_registry(options.address, options.ca_file),
        **_faults(options, backend, layout),
        "helm-path": lambda: print(binaries.build(binaries.HELM, layout) / "helm"),
        "envtest": lambda: _envtest(layout),
        "provision-volumes": lambda: volumes.serve(client_for(layout.kubeconfig), layout.shared),
    }
    if options.verb == "status":
        return 0 if backend.status() else 1
    actions[options.verb]()
    return 0


def main(arguments: Sequence[str]) -> int:
    """Runs one verb; every error we foresaw is one paragraph on standard error."""
    options = parser().parse_args(arguments)
    # Where ip, iptables and sysctl are; a root shell that was opened by `su` may not look there.
    os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"
    try:
        return _run(options, paths.layout())
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # `status | head` has read enough; what is still buffered must not be written on exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
