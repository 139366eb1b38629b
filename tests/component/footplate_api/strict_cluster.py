"""A Kubernetes API for whoever sends anything at all: it refuses what a real one refuses."""

from __future__ import annotations

import re
from typing import Any, Final

import jsonschema_rs

from footplate_api.errors import ClusterRefused
from footplate_api.kubernetes.client import Manifest
from footplate_api.runs.manifest_schemas import spec
from tests.component.footplate_api.fakes import FakeCluster

_NAME: Final = re.compile(r"[a-z0-9]([-.a-z0-9]*[a-z0-9])?")
_TEXTS: Final = ("labels", "annotations")
_KNOWN: Final = {"name", "namespace", *_TEXTS}
_SPEC: Final = jsonschema_rs.Draft202012Validator(spec())


class StrictCluster(FakeCluster):
    """Knows of metadata what every object has, and gives uid, version and time itself."""

    def __init__(self, any_spec: bool = True) -> None:
        super().__init__()
        self._any_spec = any_spec

    def admit(self, namespace: str, manifest: Manifest) -> str:
        self._answer()
        metadata: dict[str, Any] = dict(manifest["metadata"])
        for name in sorted(set(metadata) - _KNOWN):
            raise ClusterRefused(f'strict decoding error: unknown field "metadata.{name}"', status=400)
        for field in _TEXTS:
            if not _texts(metadata.get(field, {})):
                raise ClusterRefused(f"json: cannot unmarshal metadata.{field}", status=400)
        for wrong in () if self._any_spec else _SPEC.iter_errors(manifest["spec"]):
            raise ClusterRefused(f"spec: Invalid value: {wrong.message}", status=422)
        name = metadata.get("name")
        if not isinstance(name, str) or not 0 < len(name) <= 253 or not _NAME.fullmatch(name):
            raise ClusterRefused("metadata.name: Invalid value: a lowercase RFC 1123 subdomain", status=422)
        return super().admit(namespace, manifest)


def _texts(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(text, str) for text in value.values())
