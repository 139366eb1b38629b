"""Builds the images from the repository's Dockerfiles with buildah, where there is no Docker engine.

Three caches make the common case cheap: an image whose content key is in the store is not built;
one that is built reuses each layer whose instruction and inputs are unchanged; and packages come
from the same uv cache as the developer's virtual environment, torch's 5 GB included.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from cluster import keys
from cluster.images import definitions
from cluster.images.definitions import HERE, REPOSITORY, Image, Sources
from cluster.images.layer_store import LayerStore
from cluster.machine import locks, mounts, packages, shell
from cluster.machine.progress import step
from cluster.paths import Layout

# Not below the cluster's, which `down` empties. Each store has a folder of its own in it.
RUN_ROOT = Path("/run/footplate-images")
KEPT = 3  # older builds of an image that stay, for going back and forth between branches
_SUITE = "bookworm"
_PACKAGES = "python3,python3-venv,ca-certificates"
_LICENCES = "/usr/share/doc/*/copyright"  # go with the packages wherever an image goes
_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*")
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"  # in the image
_UV_CACHE = "/var/cache/uv"  # where the Dockerfiles look for packages


def base_options() -> list[str]:
    excluded = [f"--dpkgopt=path-exclude={pattern}" for pattern in _LEFT_OUT]
    included = f"--dpkgopt=path-include={_LICENCES}"
    return ["--variant=minbase", f"--include={_PACKAGES}", *excluded, included, _SUITE]


def base_reference() -> str:
    """The base image's name, keyed by what goes into it."""
    return f"{REPOSITORY}/base:{keys.content_key([('base', repr(base_options()).encode())])}"


def certificate_options(environ: Mapping[str, str]) -> list[str]:
    """Lets a build trust what this machine trusts, behind a proxy that intercepts TLS."""
    bundle = environ.get("PIP_CERT") or environ.get("SSL_CERT_FILE")
    if not bundle:
        return []
    return ["--volume", f"{bundle}:{_CERTIFICATES}:ro", "--build-arg", f"PIP_CERT={_CERTIFICATES}"]


def keyed_names(sources: Sources = HERE) -> dict[str, str]:
    """Image name -> the name that its sources have now, built or not."""
    base = base_reference()
    return {
        image.name: image.keyed(definitions.key_of(image, sources.folder, base)) for image in sources.images()
    }


def build_arguments(image: Image, base: str, context: Path, key: str) -> list[str]:
    """The part of a build's command line that buildah and Docker have in common.

    The revision that the image tells is its content key: a commit would not say what is not committed,
    and would make another image of unchanged sources.
    """
    target = ["--target", image.target] if image.target else []
    arguments = [word for name, value in image.arguments for word in ("--build-arg", f"{name}={value}")]
    return [
        *("--file", str(context / image.dockerfile), *target),
        *("--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"REVISION={key}", *arguments),
    ]


class Builder:
    """buildah with a store of its own below the cache folder."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._storage = layout.images / "storage"
        self._temporary = layout.images / "tmp"
        self._run_root = RUN_ROOT / keys.content_key([("store", str(self._storage).encode())])
        self.store = LayerStore(self._storage)

    def _buildah(self, *words: str | Path) -> str:
        return shell.run(
            [
                *("buildah", "--root", self._storage, "--runroot", self._run_root, *words),
            ],
            # chroot: the only way that needs no user namespaces and no cgroup v2.
            env={
                "BUILDAH_ISOLATION": "chroot",
                "STORAGE_DRIVER": "overlay",
                "TMPDIR": str(self._temporary),  # torch's layer passes through it: 6 GB
            },
        )

    def build_all(self, sources: Sources = HERE) -> dict[str, str]:
        """Builds what has changed; returns the keyed name of each image."""
        packages.require_root()
        base = base_reference()
        table, wanted = sources.images(), keyed_names(sources)
        if set(wanted.values()) <= set(self.store.names()):
            return wanted
        packages.install(packages.IMAGES)
        with locks.exclusive(self._layout.images / "lock", "building images"):
            present = set(self.store.names())
            self._clear_leftovers()
            if base not in present:
                self._build_base(base)
            missing = [image for image in table if wanted[image.name] not in present]
            # One after the other: two builds that make the same layer at once leave two of it, and
            # buildah then finds neither again (it compares when the layers below were made).
            for image in missing:
                wanted[image.name] = self._build(image, sources.folder, base)
            self._prune(table, set(wanted.values()))
        return wanted

    def export(self, name: str, reference: str, target: Path) -> None:
        """Writes the built image `name` to the OCI archive `target`, in which it is called `reference`."""
        # Locked: a build clears away what it finds half-done, and an export looks like that.
        with locks.exclusive(self._layout.images / "lock", "building images"):
            self._buildah("push", name, f"oci-archive:{target}:{reference}")

    def clear_leftovers(self) -> None:
        """Unmounts what a killed build left, unless a build is going on."""
        with locks.if_free(self._layout.images / "lock") as free:
            if free:
                mounts.unmount_all([self._storage, self._temporary, self._run_root])

    def _clear_leftovers(self) -> None:
        """We hold the lock: nobody builds, and what is mounted was left by a build that was killed."""
        mounts.unmount_all([self._storage, self._temporary, self._run_root])
        shutil.rmtree(self._temporary, ignore_errors=True)
        self._temporary.mkdir(parents=True)
        self._buildah("rm", "--all")

    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(dir=self._temporary)

    def _build_base(self, reference: str) -> None:
        with step("made the base image from Debian packages"), self._folder() as folder:
            archive = Path(folder) / "base.tar"
            shell.run(["mmdebstrap", *base_options(), archive])
            container = self._buildah("from", "scratch").strip()
            self._buildah("add", container, archive, "/")
            self._buildah("commit", "--rm", container, reference)

    def _build(self, image: Image, sources: Path, base: str) -> str:
        cache = self._layout.cache / "uv"
        cache.mkdir(parents=True, exist_ok=True)
        with step(f"built image {image.name}"), self._folder() as folder:
            context = Path(folder)
            key = definitions.export_context(image, sources, context, base)
            reference = image.keyed(key)
            self._buildah(
                *("build-using-dockerfile", "--layers", "--format", "oci"),
                *("--volume", f"{cache}:{_UV_CACHE}", *certificate_options(os.environ)),
                *build_arguments(image, base, context, key),
                *("--tag", reference, context),
            )
        return reference

    def _prune(self, table: Sequence[Image], current: set[str]) -> None:
        """Keeps a few earlier builds of each image; their layers go when none needs them."""
        names = [name for name in self.store.names() if name not in current]
        for image in table:
            earlier = [name for name in names if name.startswith(f"{REPOSITORY}/{image.name}:")]
            for name in earlier[:-KEPT]:
                self._buildah("rmi", "--force", name)
