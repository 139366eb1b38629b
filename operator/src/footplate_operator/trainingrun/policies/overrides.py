"""Refuses fields of a run that its profile does not let it override.

The admission policy of the chart refuses the same; a run may be written before its profile is.
"""

from __future__ import annotations

from typing import Final

from footplate_contracts.v1alpha1.computeprofile import (
    USUALLY_OVERRIDABLE,
    ComputeProfileSpec,
    Overridable,
)
from footplate_contracts.v1alpha1.pods import SecurityProfile
from footplate_operator.trainingrun.run import Run

_STATES: Final = {"envFrom": Overridable.ENV, "volumeMounts": Overridable.VOLUMES}


def refusal(run: Run, profile: ComputeProfileSpec) -> str:
    """Return the first field that the run may not state, with the remedy; empty if there is none."""
    name = run.spec.compute.profile
    overridable = USUALLY_OVERRIDABLE if profile.overridable is None else tuple(profile.overridable)
    for field, section in _stated(run, profile).items():
        if field not in overridable:
            allowed = f"only {', '.join(overridable)}" if overridable else "nothing"
            refused = f"{section}.{field}: profile {name} lets a run set {allowed}"
            return f"{refused}; remove it, or use another profile"
    ids = run.spec.trainer.security_context
    restricted = profile.security_profile in (None, SecurityProfile.RESTRICTED)
    if ids is not None and ids.run_as_user == 0 and restricted:
        return (
            "spec.trainer.securityContext.runAsUser: 0 is root, which securityProfile restricted of profile"
            f" {name} refuses; use another id, or another profile"
        )
    return ""


def _stated(run: Run, profile: ComputeProfileSpec) -> dict[Overridable, str]:
    """Return the fields that the run states beside the profile, with their sections."""
    spec, found = run.spec, {}
    for section, part in (("spec", spec), ("spec.compute", spec.compute), ("spec.trainer", spec.trainer)):
        for name in part.model_dump(by_alias=True, exclude_defaults=True):
            if (field := _STATES.get(name, name)) in tuple(Overridable):
                found[Overridable(field)] = section
    if spec.compute.processes_per_node == profile.processes_per_node:
        found.pop(Overridable.PROCESSES_PER_NODE, None)
    return found
