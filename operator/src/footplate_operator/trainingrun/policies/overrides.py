"""What a run says of its pods beside its profile, and may not say.

The admission policy of the chart refuses the same; a run may be written before its profile is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from footplate_contracts.v1alpha1.computeprofile import (
    USUALLY_OVERRIDABLE,
    ComputeProfileSpec,
    Overridable,
)
from footplate_contracts.v1alpha1.pods import SecurityProfile
from footplate_contracts.v1alpha1.podtemplate import TRAINER_CONTAINER
from footplate_operator.trainingrun.run import Run

_SECTIONS: Final = {
    Overridable.PROCESSES_PER_NODE: "spec.compute",
    Overridable.PLACEMENT: "spec.compute",
    Overridable.PRIORITY_CLASS_NAME: "spec",
}


def refusal(run: Run, profile: ComputeProfileSpec) -> str:
    """The first field that the run may not state, with the remedy; empty where there is none."""
    name = run.spec.compute.profile
    overridable = USUALLY_OVERRIDABLE if profile.overridable is None else tuple(profile.overridable)
    for field in _stated(run, profile):
        if field not in overridable:
            return (
                f"{_SECTIONS.get(field, 'spec.trainer')}.{field}: profile {name} lets a run state"
                f" {', '.join(overridable) or 'nothing'} only; remove it, or use another profile"
            )
    for what in _replaced(run, profile.pod_template or {}):
        return (
            f"spec.trainer.{what}: the podTemplate of profile {name} says it, too; remove it, or use another"
            " name"
        )
    ids = run.spec.trainer.security_context
    restricted = profile.security_profile in (None, SecurityProfile.RESTRICTED)
    if ids is not None and ids.run_as_user == 0 and restricted:
        return (
            "spec.trainer.securityContext.runAsUser: 0 is root, which securityProfile restricted of profile"
            f" {name} refuses; use another id, or another profile"
        )
    return ""


def _stated(run: Run, profile: ComputeProfileSpec) -> list[Overridable]:
    """What the run says of its pods beside the profile."""
    spec, trainer = run.spec, run.spec.trainer
    processes = spec.compute.processes_per_node
    stated: Mapping[Overridable, bool] = {
        Overridable.PROCESSES_PER_NODE: processes not in (None, profile.processes_per_node),
        Overridable.PRIORITY_CLASS_NAME: spec.priority_class_name is not None,
        Overridable.ENV: bool(trainer.env or trainer.env_from),
        Overridable.RESOURCES: trainer.resources is not None,
        Overridable.VOLUMES: bool(trainer.volumes or trainer.volume_mounts),
        Overridable.SERVICE_ACCOUNT_NAME: trainer.service_account_name is not None,
        Overridable.POD_LABELS: bool(trainer.pod_labels),
        Overridable.POD_ANNOTATIONS: bool(trainer.pod_annotations),
        Overridable.SECURITY_CONTEXT: trainer.security_context is not None,
        Overridable.TOLERATIONS: trainer.tolerations is not None,
        Overridable.NODE_SELECTOR: trainer.node_selector is not None,
        Overridable.RUNTIME_CLASS_NAME: trainer.runtime_class_name is not None,
        Overridable.SCHEDULER_NAME: trainer.scheduler_name is not None,
        Overridable.PLACEMENT: spec.compute.placement is not None,
    }
    return [field for field, is_stated in stated.items() if is_stated]


def _replaced(run: Run, template: Mapping[str, Any]) -> Iterator[str]:
    """What of the run the template would replace."""
    metadata, spec = template.get("metadata") or {}, template.get("spec") or {}
    trainers = [item for item in spec.get("containers") or () if item["name"] == TRAINER_CONTAINER]
    trainer = run.spec.trainer
    ours: tuple[tuple[str, list[Any], set[Any]], ...] = (
        ("env", [variable.name for variable in trainer.env], _names(trainers, "env", "name")),
        ("volumes", [volume.get("name") for volume in trainer.volumes], _names([spec], "volumes", "name")),
        (
            "volumeMounts",
            [mount.get("mountPath") for mount in trainer.volume_mounts],
            _names(trainers, "volumeMounts", "mountPath"),
        ),
        ("podLabels", list(trainer.pod_labels), set(metadata.get("labels") or ())),
        ("podAnnotations", list(trainer.pod_annotations), set(metadata.get("annotations") or ())),
    )
    for field, stated, taken in ours:
        yield from (f"{field} {name}" for name in stated if name in taken)


def _names(parts: list[Any], items: str, key: str) -> set[Any]:
    return {item.get(key) for part in parts for item in part.get(items) or ()}
