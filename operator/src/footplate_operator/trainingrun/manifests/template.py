"""Merges the podTemplate of a ComputeProfile into a pod, by the table of docs/operations/profiles.md.

Maps are merged, lists of named items by their names, and any other value is replaced. What a template may
not take is refused when the profile is written (`footplate_contracts.v1alpha1.podtemplate`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from footplate_operator.runtime.kinds import Json

# Path of a list -> the member by which its items are told apart.
MERGE_KEYS: Final[Mapping[str, str]] = {
    "containers": "name",
    "containers.env": "name",
    "containers.volumeMounts": "mountPath",
}
# Lists to whose items those of the template are added.
APPENDED: Final = frozenset(
    {
        "initContainers",
        "volumes",
        "tolerations",
        "imagePullSecrets",
        "topologySpreadConstraints",
        "hostAliases",
        "containers.envFrom",
        "containers.ports",
        "containers.volumeDevices",
        "affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution",
        *(
            f"affinity.{kind}.{when}DuringSchedulingIgnoredDuringExecution"
            for kind in ("podAffinity", "podAntiAffinity")
            for when in ("required", "preferred")
        ),
    }
)
_NODE_TERMS: Final = "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"


def merged(pod: Json, template: Mapping[str, Any], security: Callable[[], Json]) -> Json:
    """`pod` with what `template` says; `security`: the securityContext of containers that state none."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    body = dict(pod["metadata"])
    for name in ("labels", "annotations"):
        body[name] = {**(metadata.get(name) or {}), **body[name]}
    return {**pod, "metadata": body, "spec": _merged(pod["spec"], _secured(pod, spec, security), "")}


def _secured(pod: Json, spec: Mapping[str, Any], security: Callable[[], Json]) -> Json:
    """`spec` whose further containers have the securityContext of the standard that the pod keeps to."""
    known = {container["name"] for container in pod["spec"]["containers"]}
    found = dict(spec)
    for kind in ("containers", "initContainers"):
        if kind in spec:
            found[kind] = [
                container
                if container["name"] in known
                else {**container, "securityContext": security() | (container.get("securityContext") or {})}
                for container in spec[kind]
            ]
    return found


def _merged(ours: Any, theirs: Any, path: str) -> Any:
    """`theirs` over `ours`, which stand at `path` of a pod's spec."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        found = dict(ours)
        for name, value in theirs.items():
            where = f"{path}.{name}".lstrip(".")
            found[name] = _merged(found[name], value, where) if name in found else value
        return found
    if isinstance(ours, list) and isinstance(theirs, list):
        if path in MERGE_KEYS:
            return _by_key(ours, theirs, path, MERGE_KEYS[path])
        if path in APPENDED:
            return ours + [item for item in theirs if item not in ours]
        if path == _NODE_TERMS:
            return [_merged_terms(term, added) for term in ours for added in theirs]
    return theirs


def _by_key(ours: list[Any], theirs: list[Any], path: str, key: str) -> list[Any]:
    """Items that both have are merged, but for variables, of which one has a value or a source."""
    said = {item[key]: item for item in theirs}
    whole = path == "containers.env"
    found = [
        (said[item[key]] if whole else _merged(item, said[item[key]], path)) if item[key] in said else item
        for item in ours
    ]
    known = {item[key] for item in ours}
    return found + [item for item in theirs if item[key] not in known]


def _merged_terms(term: Mapping[str, Any], added: Mapping[str, Any]) -> Json:
    """A term of node affinity that asks for what both do: of several terms Kubernetes takes any."""
    names = dict.fromkeys((*term, *added))
    return {name: [*term.get(name, ()), *added.get(name, ())] for name in names}
