"""`podTemplate` of a ComputeProfile: the part of its schema that rules read, and those rules.

The template is passed through as it is, so its fields have no models. An API server lets rules see only
fields with a schema: the schema here names those that a template must not take, and the names by which
it is merged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Final

from pydantic import Field

from footplate_contracts.names import (
    API_TOKEN_MOUNT,
    GROUP,
    MANAGED_BY_LABEL,
    RUN_CONFIG_MOUNT,
    RUN_SECRET_MOUNT,
)
from footplate_contracts.rules import Refusal, Rule, literal

TRAINER_CONTAINER: Final = "trainer"
VOLUME_PREFIX: Final = "footplate-"
VARIABLE_PREFIX: Final = "FOOTPLATE_"
LABEL_PREFIX: Final = f"{GROUP}/"
HOME: Final = "/home/footplate"
OUR_MOUNTS: Final = (RUN_CONFIG_MOUNT, RUN_SECRET_MOUNT, API_TOKEN_MOUNT, "/tmp", HOME, "/dev/shm")
EVICTION_ANNOTATIONS: Final = (
    "cluster-autoscaler.kubernetes.io/safe-to-evict",
    "karpenter.sh/do-not-disrupt",
)

Schema = dict[str, Any]

_PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
_STRING: Final[Schema] = {"type": "string", "maxLength": 253}
_BOOLEAN: Final[Schema] = {"type": "boolean"}
_INTEGER: Final[Schema] = {"type": "integer"}
_OBJECT: Final[Schema] = {"type": "object", "maxProperties": 64, _PRESERVE: True}
_OBJECTS: Final[Schema] = {"type": "array", "maxItems": 64, "items": _OBJECT}
_STRINGS: Final[Schema] = {"type": "array", "maxItems": 256, "items": {"type": "string", "maxLength": 4096}}
_MAP: Final[Schema] = {
    "type": "object",
    "maxProperties": 64,
    "additionalProperties": {"type": "string", "maxLength": 8192},
}

# Fields of a pod by which the operator and a run's programs find and end each other.
_TAKEN_OF_POD: Final[Mapping[str, Schema]] = {
    "restartPolicy": _STRING,
    "hostname": _STRING,
    "subdomain": _STRING,
    "setHostnameAsFQDN": _BOOLEAN,
    "nodeName": _STRING,
    "activeDeadlineSeconds": _INTEGER,
    "terminationGracePeriodSeconds": _INTEGER,
    "enableServiceLinks": _BOOLEAN,
    "automountServiceAccountToken": _BOOLEAN,
    "serviceAccountName": _STRING,
    "serviceAccount": _STRING,
    "shareProcessNamespace": _BOOLEAN,
    "hostPID": _BOOLEAN,
    "ephemeralContainers": _OBJECTS,
}
# Fields of a pod that a profile states elsewhere.
_STATED_OF_POD: Final[Mapping[str, tuple[Schema, str]]] = {
    "nodeSelector": (_MAP, "scheduling.nodeSelector"),
    "priorityClassName": (_STRING, "scheduling.priorityClassName"),
    "schedulerName": (_STRING, "scheduling.schedulerName"),
    "runtimeClassName": (_STRING, "runtimeClassName"),
    "resourceClaims": (_OBJECTS, "resourceClaims"),
    "hostNetwork": (_BOOLEAN, "network.hostNetwork"),
}
_IDS: Final[Mapping[str, Schema]] = {
    "runAsUser": _INTEGER,
    "runAsGroup": _INTEGER,
    "fsGroup": _INTEGER,
    "supplementalGroups": {"type": "array", "maxItems": 32, "items": _INTEGER},
}
_TAKEN_OF_TRAINER: Final[Mapping[str, Schema]] = {
    "image": {"type": "string", "maxLength": 512},
    "imagePullPolicy": _STRING,
    "command": _STRINGS,
    "args": _STRINGS,
    "workingDir": _STRING,
    "resources": _OBJECT,
    "lifecycle": _OBJECT,
    "livenessProbe": _OBJECT,
    "readinessProbe": _OBJECT,
    "startupProbe": _OBJECT,
    "restartPolicy": _STRING,
    "terminationMessagePath": _STRING,
    "terminationMessagePolicy": _STRING,
}


def _object(description: str, properties: Schema, **more: object) -> Schema:
    return {"type": "object", "description": description, "properties": properties, **more}


def _described(description: str, fields: Mapping[str, Schema]) -> dict[str, Schema]:
    return {name: {**schema, "description": description} for name, schema in fields.items()}


def _list(description: str, items: Schema, most: int) -> Schema:
    return {"type": "array", "description": description, "maxItems": most, "items": items}


def _named(key: str, most: int) -> Schema:
    """An item of a list that has a name, and whatever else Kubernetes knows of it."""
    named: Schema = {"type": "string", "maxLength": most, "description": "as in a pod"}
    return _object("as in a pod", {key: named}, required=[key], **{_PRESERVE: True})


_CONTAINER: Final = _object(
    "as in a pod",
    {
        "name": {"type": "string", "maxLength": 63, "description": "trainer, or that of a sidecar"},
        "env": _list("merged by name", _named("name", 256), 128),
        "volumeMounts": _list("merged by mountPath", _named("mountPath", 512), 64),
        **_described("as in a container; of trainer: refused", _TAKEN_OF_TRAINER),
    },
    required=["name"],
    **{_PRESERVE: True},
)
_POD: Final = _object(
    "as in a pod",
    {
        "containers": _list("merged by name: trainer, or sidecars", _CONTAINER, 8),
        "initContainers": _list(
            "appended; those of restartPolicy Always are sidecars", _named("name", 63), 8
        ),
        "volumes": _list("appended", _named("name", 63), 32),
        "securityContext": _object(
            "as in a pod, but for ids",
            _described("refused: use securityContext of the profile", _IDS),
            **{_PRESERVE: True},
        ),
        "hostIPC": {**_BOOLEAN, "description": "needs securityProfile privileged"},
        **_described("refused: Footplate sets it", _TAKEN_OF_POD),
        **{
            name: {**schema, "description": f"refused: use {field} of the profile"}
            for name, (schema, field) in _STATED_OF_POD.items()
        },
    },
    **{_PRESERVE: True},
)
_METADATA: Final = _object(
    "labels and annotations", _described("merged by key", dict.fromkeys(("labels", "annotations"), _MAP))
)

PodTemplate = Annotated[
    dict[str, Any],
    Field(json_schema_extra={"properties": {"metadata": _METADATA, "spec": _POD}}),
]

_SPEC: Final = "self.podTemplate.spec"
_NO_SPEC: Final = "!has(self.podTemplate) || !has(self.podTemplate.spec)"


def _first(choices: Iterable[tuple[str, str]]) -> str:
    """CEL: the text of the first choice whose condition holds, or an empty one."""
    chain = "".join(f"{condition} ? {literal(text)} : " for condition, text in choices)
    return f"({chain}'')"


def _refused(no_such: str, choices: Iterable[tuple[str, str]], template: str) -> Rule:
    """A rule that is broken where a choice holds; `{}` of the template is the text of the first one."""
    first = _first(choices)
    return Rule(
        f"{no_such} || {first} == ''",
        template.replace("{}", f"{{{first}}}"),
        field="podTemplate",
        refusal=Refusal.FORBIDDEN,
    )


def _each(items: str, condition: str, template: str) -> Rule:
    """A rule that all of a list of the template's spec keep."""
    return Rule(
        f"{_NO_SPEC} || !has({_SPEC}.{items}) || {_SPEC}.{items}.all(item, {condition})",
        template,
        field="podTemplate",
        refusal=Refusal.FORBIDDEN,
    )


def our_labels(labels: str, absent: str, field: str, path: str) -> Rule:
    """A rule that `labels`, a map of the profile, has none by which a run's pods are found."""
    return Rule(
        f"{absent} || {labels}.all(label, !label.startsWith('{LABEL_PREFIX}')"
        f" && label != '{MANAGED_BY_LABEL}')",
        f"{path} has labels by which Footplate finds its pods, of {LABEL_PREFIX} or {MANAGED_BY_LABEL};"
        " remove them",
        field=field,
        refusal=Refusal.FORBIDDEN,
    )


def _rules_of_pod() -> Iterable[Rule]:
    """Rules about the template's metadata and pod-level fields."""
    holds = "podTemplate.spec.{} holds a run together, and Footplate sets it; remove it"
    yield _refused(_NO_SPEC, [(f"has({_SPEC}.{name})", name) for name in _TAKEN_OF_POD], holds)
    yield _refused(
        _NO_SPEC,
        [
            (f"has({_SPEC}.{name})", f"{name} has its own field in a profile; use {field}")
            for name, (_, field) in _STATED_OF_POD.items()
        ],
        "podTemplate.spec.{}",
    )
    context = f"{_SPEC}.securityContext"
    yield _refused(
        f"{_NO_SPEC} || !has({context})",
        [(f"has({context}.{name})", name) for name in _IDS],
        "podTemplate.spec.securityContext.{} has its own field in a profile; use securityContext",
    )
    metadata = "!has(self.podTemplate) || !has(self.podTemplate.metadata)"
    yield our_labels(
        "self.podTemplate.metadata.labels",
        f"{metadata} || !has(self.podTemplate.metadata.labels)",
        "podTemplate",
        "podTemplate.metadata.labels",
    )
    annotations = "self.podTemplate.metadata.annotations"
    yield _refused(
        f"{metadata} || !has({annotations})",
        [(f"'{name}' in {annotations}", name) for name in EVICTION_ANNOTATIONS],
        "podTemplate.metadata.annotations {} keeps autoscalers from evicting a run's pods; remove it",
    )


def _rules_of_lists() -> Iterable[Rule]:
    """Rules about the template's volumes and containers."""
    yield _each(
        "volumes",
        f"!item.name.startsWith('{VOLUME_PREFIX}')",
        f"podTemplate.spec.volumes has a volume whose name begins with {VOLUME_PREFIX}, as Footplate's"
        " do; rename it",
    )
    yield _each(
        "initContainers",
        f"item.name != '{TRAINER_CONTAINER}'",
        f"podTemplate.spec.initContainers has one of the name {TRAINER_CONTAINER}, which is that of the"
        " container that trains; rename it",
    )
    taken = _first((f"has(item.{name})", name) for name in _TAKEN_OF_TRAINER)
    yield _each(
        "containers",
        f"item.name != '{TRAINER_CONTAINER}' || {taken} == ''",
        f"podTemplate.spec.containers: {TRAINER_CONTAINER} has one of {', '.join(_TAKEN_OF_TRAINER)}, which"
        " Footplate sets; remove it, and use resources of the profile for resources",
    )
    yield _each(
        "containers",
        f"item.name != '{TRAINER_CONTAINER}' || !has(item.env)"
        f" || item.env.all(variable, !variable.name.startsWith('{VARIABLE_PREFIX}'))",
        f"podTemplate.spec.containers: {TRAINER_CONTAINER} has a variable whose name begins with"
        f" {VARIABLE_PREFIX}: by those Footplate's programs find each other; remove it",
    )
    paths = [literal(path) for mount in OUR_MOUNTS for path in (mount, f"{mount}/")]
    yield _each(
        "containers",
        f"item.name != '{TRAINER_CONTAINER}' || !has(item.volumeMounts)"
        f" || item.volumeMounts.all(mount, !(mount.mountPath in [{', '.join(paths)}]))",
        f"podTemplate.spec.containers: {TRAINER_CONTAINER} mounts something over a folder of Footplate's"
        f" ({', '.join(OUR_MOUNTS)}); use another mountPath",
    )


TEMPLATE_RULES: Final = (*_rules_of_pod(), *_rules_of_lists())
