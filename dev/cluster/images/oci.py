"""Makes an image archive of one program, without any image tool.

The pause image holds a single static program; a build from a Dockerfile would be the slowest way
to make 2 MB of it, and the cluster needs it before anything else.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_PREFIX = "application/vnd.oci.image"
_NAME = "io.containerd.image.name"


def tar(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A tar of named contents and modes that is the same bytes every time."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, (content, mode) in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), mode
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _descriptor(kind: str, content: bytes, **extra: Any) -> dict[str, Any]:
    return {
        "mediaType": f"{_PREFIX}.{kind}",
        "digest": digest(content),
        "size": len(content),
        **extra,
    }


def _encode(document: dict[str, Any]) -> bytes:
    return json.dumps(document, sort_keys=True).encode()


def single_program_archive(image: str, name: str, program: bytes) -> bytes:
    """An OCI archive of ``image``: one layer with one program, which is its entry point."""
    started = {"Entrypoint": [f"/{name}"], "User": "65535:65535"}
    return whole_archive(image, [tar({name: (program, 0o755)})], started)


def whole_archive(image: str, layers: Sequence[bytes], started: dict[str, Any]) -> bytes:
    """An OCI archive of ``image`` with these layers, from the lowest up; ``started`` is how it is run."""
    config = _encode(
        {
            "architecture": "amd64",
            "os": "linux",
            "config": started,
            "rootfs": {"type": "layers", "diff_ids": [digest(layer) for layer in layers]},
        }
    )
    manifest = _encode(
        {
            "schemaVersion": 2,
            "mediaType": f"{_PREFIX}.manifest.v1+json",
            "config": _descriptor("config.v1+json", config),
            "layers": [_descriptor("layer.v1.tar", layer) for layer in layers],
        }
    )
    return archive(image, manifest, [*layers, config])


def archive(image: str, manifest: bytes, blobs: list[bytes]) -> bytes:
    """An OCI archive that names ``image``, with those of its blobs that are given."""
    named = _descriptor("manifest.v1+json", manifest, annotations={_NAME: image})
    index = _encode({"schemaVersion": 2, "manifests": [named]})
    files = {
        "oci-layout": (_encode({"imageLayoutVersion": "1.0.0"}), 0o644),
        "index.json": (index, 0o644),
    }
    for blob in (*blobs, manifest):
        files[f"blobs/sha256/{digest(blob).removeprefix('sha256:')}"] = (blob, 0o644)
    return tar(files)


def write_pause_archive(image: str, program: Path, target: Path) -> None:
    target.write_bytes(single_program_archive(image, "pause", program.read_bytes()))
