"""Merges the podTemplate of a ComputeProfile into a pod, by the table of docs/operations/profiles.md.

An admission policy refuses a template that overrides what a run depends on. If none was in force, the
pod's own values win.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from footplate_contracts.v1alpha1.pods import SecurityProfile
from footplate_contracts.v1alpha1.podtemplate import TRAINER_CONTAINER
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.pods import container_security, merged_env

_NODE_TERMS: Final = ".affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
# Fields of ours that a template replaces.
_REPLACED: Final = (".securityContext.", ".containers.securityContext.", ".dnsPolicy")


def merged(ours: Json, template: Mapping[str, Any], standard: SecurityProfile) -> Json:
    """Merge the spec of `template` into the pod spec `ours`; the sidecars comply with `standard`."""
    theirs = dict(template.get("spec") or {})
    for kind in theirs.keys() & {"containers", "initContainers"}:
        theirs[kind] = [_secured(container, standard) for container in theirs[kind]]
    found: Json = _merged(ours, theirs, "")
    return found


def _secured(container: Json, standard: SecurityProfile) -> Json:
    if container["name"] == TRAINER_CONTAINER:
        return container
    stated = container.get("securityContext") or {}
    return {**container, "securityContext": _merged(container_security(standard), stated, _REPLACED[0])}


def _merged(ours: Any, theirs: Any, path: str) -> Any:
    """Merge `theirs` over `ours`, which are at `path` of a pod's spec."""
    replaced = path.startswith(_REPLACED)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        both = ((name, value) for name, value in theirs.items() if name in ours)
        return {
            **ours,
            **theirs,
            **{name: _merged(ours[name], value, f"{path}.{name}") for name, value in both},
        }
    if isinstance(ours, list) and isinstance(theirs, list) and not replaced:
        return _merged_lists(ours, theirs, path)
    # A value of another type is left to the API server, which refuses it.
    return ours if isinstance(ours, str | int) and not replaced else theirs


def _merged_lists(ours: list[Any], theirs: list[Any], path: str) -> list[Any]:
    if path == ".containers":
        said = {item["name"]: item for item in theirs}
        return [_merged(item, said.pop(item["name"], {}), path) for item in ours] + list(said.values())
    if path == ".containers.env":
        return merged_env(ours, theirs)
    if path == _NODE_TERMS:  # of several terms Kubernetes takes any
        return [_merged(term, added, path) for term in ours for added in theirs]
    return ours + [item for item in theirs if item not in ours]
