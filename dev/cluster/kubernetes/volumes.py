"""ReadWriteMany volumes: every claim of the class ``footplate-shared``, in any namespace, gets a
folder of this machine, which all nodes see.

A reconcile loop rather than one big volume made beforehand: claims of several runs and tests must
not see each other's files, and a deleted claim must give its space back. Folders are writable for
everybody because kubelets change no owner of a hostPath and training pods are no root.
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

from cluster.errors import ClusterError
from cluster.kubernetes.api_client import MERGE_PATCH, ApiClient, ApiError
from cluster.machine import mounts, shell

STORAGE_CLASS = "footplate-shared"
PROVISIONER = "footplate.dev/shared-folder"
WATCH_SECONDS = 30  # then everything is looked at again, whatever the watch missed
_MANAGED = "pv.kubernetes.io/provisioned-by"
_ENFORCE = "footplate.dev/enforce-size"
_SUFFIXES = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
}
_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"


def storage_class(*, default: bool) -> dict[str, Any]:
    """The class whose claims are served here."""
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": STORAGE_CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": str(default).lower()},
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "volumeBindingMode": "Immediate",
    }


def wants_volume(claim: dict[str, Any]) -> bool:
    """Whether a claim is ours to serve and has no volume yet."""
    spec, status = claim["spec"], claim.get("status", {})
    return (
        spec.get("storageClassName") == STORAGE_CLASS
        and not spec.get("volumeName")
        and status.get("phase", "Pending") == "Pending"
        and "deletionTimestamp" not in claim["metadata"]
    )


def volume_name(claim: dict[str, Any]) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def folder_name(claim: dict[str, Any]) -> str:
    """For a person who looks at the folders; the uid keeps two lives of one name apart."""
    metadata = claim["metadata"]
    return f"{metadata['namespace']}-{metadata['name']}-{metadata['uid'][:8]}"


def size_limit(claim: dict[str, Any]) -> int | None:
    """Bytes at which the volume is full; None for as much as the disk holds.

    Only claims with the annotation ``footplate.dev/enforce-size: "true"`` have a limit: those of
    tests of what a full volume does.
    """
    if claim["metadata"].get("annotations", {}).get(_ENFORCE) != "true":
        return None
    return quantity(claim["spec"]["resources"]["requests"]["storage"])


def quantity(text: str) -> int:
    """The value of a Kubernetes quantity in whole units, ``64Mi`` or ``1G``."""
    for suffix, factor in _SUFFIXES.items():
        if text.endswith(suffix):
            return int(float(text.removesuffix(suffix)) * factor)
    return int(text)


def volume(claim: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The PersistentVolume that serves ``claim`` from ``folder``."""
    metadata = claim["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": volume_name(claim), "annotations": {_MANAGED: PROVISIONER}},
        "spec": {
            "accessModes": claim["spec"]["accessModes"],
            "capacity": {"storage": claim["spec"]["resources"]["requests"]["storage"]},
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "hostPath": {"path": str(folder), "type": "DirectoryOrCreate"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
        },
    }


def is_released(volume: dict[str, Any]) -> bool:
    """Whether a volume of ours lost its claim and should go with its folder."""
    annotations = volume["metadata"].get("annotations", {})
    # "Failed" is where the controller manager puts a hostPath it cannot delete itself.
    return (
        annotations.get(_MANAGED) == PROVISIONER
        and volume.get("status", {}).get("phase") in ("Released", "Failed")
        and volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete"
    )


class Provisioner:
    """Applies the decisions above to one cluster and one folder."""

    def __init__(self, api: ApiClient, root: Path) -> None:
        self._api = api
        self._root = root

    def reconcile(self) -> None:
        for claim in self._api.get(_CLAIMS)["items"]:
            if wants_volume(claim):
                self._create(claim)
        for candidate in self._api.get(_VOLUMES)["items"]:
            if is_released(candidate):
                self._delete(candidate)

    def _create(self, claim: dict[str, Any]) -> None:
        folder = self._root / folder_name(claim)
        folder.mkdir(parents=True, exist_ok=True)
        limit = size_limit(claim)
        if limit is not None and not folder.is_mount():
            # Kept in memory: the one file system of a given size that needs no image file.
            shell.run(["mount", "-t", "tmpfs", "-o", f"size={limit}", "footplate", folder])
        folder.chmod(0o777)  # mkdir's own mode is cut by the umask
        try:
            self._api.call("POST", _VOLUMES, volume(claim, folder))
            print(f"made {folder.name}", flush=True)
        except ApiError as error:
            if error.status != 409:  # made a moment ago; the claim is not bound yet
                raise

    def _delete(self, released: dict[str, Any]) -> None:
        name = released["metadata"]["name"]
        folder = Path(released["spec"]["hostPath"]["path"])
        if folder.parent == self._root:
            mounts.unmount_all([folder])
            shutil.rmtree(folder, ignore_errors=True)
        # Only the controller manager looks at this finalizer, and only to wait for us.
        patch = {"metadata": {"finalizers": None}}
        try:
            self._api.call("DELETE", f"{_VOLUMES}/{name}")
            self._api.call("PATCH", f"{_VOLUMES}/{name}", patch, MERGE_PATCH)
        except ApiError as error:
            if error.status != 404:
                raise
        print(f"removed {folder.name}", flush=True)


def serve(api: ApiClient, root: Path) -> None:
    """Runs for ever: one look at everything after each change of a claim, and now and then."""
    provisioner = Provisioner(api, root)
    while True:
        try:
            provisioner.reconcile()
            for _ in api.watch(f"{_CLAIMS}?resourceVersion=0", WATCH_SECONDS):
                provisioner.reconcile()
        except ClusterError as error:  # of the API server, or of a mount: look again
            print(error, flush=True)
            time.sleep(1)
