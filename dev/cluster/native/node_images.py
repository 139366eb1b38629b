"""Gives a node an image by hard links: two seconds for 6 GB, and one copy on disk and in the page
cache for all nodes.

For each layer the node lacks: prepare a snapshot on the layer below, fill its folder with links to
the builder's (layers are read-only, so sharing them is safe), commit it under its chain id. The
image's own import then finds every layer unpacked and reads no layer data at all.
"""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path

from cluster.errors import ClusterError
from cluster.images import oci
from cluster.images.layer_store import Layer, StoredImage
from cluster.machine import shell
from cluster.native.nodes import Ctr

_HIDDEN = "-hidden"  # at the end of a tag
_ROOT_LABEL = "containerd.io/gc.root"


def writable_folder(mount: str) -> Path:
    """The folder to fill, in the output of ``ctr snapshots prepare --target``.

    The lowest snapshot is a bind mount of its folder, others are overlays with an upper folder.
    """
    overlay = re.search(r"upperdir=([^,\s]+)", mount)
    bind = re.search(r"-t bind (\S+) ", mount)
    found = overlay or bind
    if found is None:
        raise ClusterError(f"cannot tell the snapshot's folder from {mount!r}")
    return Path(found.group(1))


def archive(image: StoredImage, reference: str) -> bytes:
    """An OCI archive of the image without its layers."""
    return oci.archive(reference, image.manifest, [image.config])


def _snapshots(ctr: Ctr) -> set[str]:
    return {row.split()[0] for row in ctr.run("snapshots", "list").splitlines()[1:] if row.strip()}


def _link(ctr: Ctr, layer: Layer, parent: str | None) -> None:
    # A crash can leave the preparation behind; then it is of unknown completeness.
    working = f"load-{layer.chain.removeprefix('sha256:')}"
    ctr.attempt("snapshots", "remove", working)
    mount = ctr.run("snapshots", "prepare", "--target", "/unused", working, *([parent] if parent else []))
    shell.run(["cp", "-al", f"{layer.folder}/.", writable_folder(mount)])
    ctr.run("snapshots", "commit", layer.chain, working)


def load(ctr: Ctr, image: StoredImage, reference: str, marker: Path) -> None:
    """Makes the image available to the node's kubelet under ``reference``.

    ``marker`` is a file that exists for the time of it, and longer only if we are killed.
    """
    present = _snapshots(ctr)
    if marker.exists():
        _release(ctr, present)
    marker.touch()
    _link_all(ctr, image, present)
    with tempfile.NamedTemporaryFile(suffix=".tar") as temporary:
        temporary.write(archive(image, reference))
        temporary.flush()
        # --local: the other way insists on layer data even for layers that are unpacked.
        ctr.run("images", "import", "--local", temporary.name)
    _release(ctr, [layer.chain for layer in image.layers])
    for old in superseded(ctr.images()):
        ctr.attempt("images", "remove", old)
    marker.unlink()


def _link_all(ctr: Ctr, image: StoredImage, present: set[str]) -> None:
    parent: str | None = None
    for layer in image.layers:
        if layer.chain not in present:
            _link(ctr, layer, parent)
        parent = layer.chain


def _release(ctr: Ctr, snapshots: Iterable[str]) -> None:
    """Lets containerd collect snapshots that no image holds: ctr protects what it makes for ever."""
    for snapshot in snapshots:
        ctr.run("snapshots", "label", snapshot, f"{_ROOT_LABEL}=")


def superseded(names: dict[str, str]) -> list[str]:
    """Images that have no tag any more, among names and what they point to.

    Beside each tag there is the image's bare digest, which stays when the tag moves on. A kubelet
    would clear it away when the disk gets full; here it is done at once, 6 GB being what they are.
    """
    tagged = {target for name, target in names.items() if not name.startswith("sha256:")}
    return sorted(
        name for name, target in names.items() if name.startswith("sha256:") and target not in tagged
    )


def announce(ctr: Ctr) -> None:
    """Makes a containerd that was just started offer its images to the kubelet.

    On its start it offers only images whose layer data it has; ours have none. A changed label
    makes it look at an image again.
    """
    for reference in ctr.images():
        ctr.run("images", "label", reference, f"footplate.dev/announced={time.time_ns()}")


def hidden(reference: str) -> str:
    """The name under which an image is kept that a node is not to have."""
    return f"{reference}{_HIDDEN}"


def rename(ctr: Ctr, reference: str, name: str) -> None:
    """The image ``reference`` has the name ``name`` from now on, and no other tag."""
    ctr.run("images", "tag", "--force", reference, name)
    ctr.run("images", "remove", reference)
    ctr.run("images", "label", name, f"footplate.dev/announced={time.time_ns()}")


def show_all(ctr: Ctr) -> None:
    """Each hidden image has its own name again."""
    for reference in ctr.images():
        if reference.endswith(_HIDDEN):
            rename(ctr, reference, reference.removesuffix(_HIDDEN))
