"""The ComputeProfiles of examples/profiles, and the pods that a run has on each."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from ruamel.yaml import YAML

from footplate_contracts.names import WorkerId
from footplate_contracts.v1alpha1.placement import PackPlacement
from footplate_operator.profiles import decode_profile
from footplate_operator.runtime.kinds import Json
from footplate_operator.trainingrun.manifests import coordinator
from footplate_operator.trainingrun.packing import TargetDomain
from footplate_operator.trainingrun.revision import admit
from tests.support.operator_fakes import DEFAULTS, RELEASE
from tests.support.operator_runs import run, spare_pod, worker_pod

FOLDER: Final = Path(__file__).resolve().parents[2] / "examples" / "profiles"
PROFILES: Final = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))


def profile(name: str) -> dict[str, Any]:
    """Return the ComputeProfile of an example, numbers as YAML 1.2 has them."""
    found: dict[str, Any] = YAML(typ="safe", pure=True).load((FOLDER / f"{name}.yaml").read_text())
    return found


def pods(name: str) -> list[Json]:
    """Return a worker, a spare and the coordinator of a run, in domain-a where its profile packs it."""
    subject = run(compute={"profile": name, "nodes": 2, "spares": 1})
    revision = admit(subject, decode_profile(profile(name)), DEFAULTS, [], RELEASE)
    target = _target(revision.frozen.profile.scheduling.pack)
    return [
        worker_pod(subject, revision, WorkerId(1, 0), "10.0.0.9", target=target),
        spare_pod(subject, revision, WorkerId(0, 1), "10.0.0.9", target=target),
        coordinator.pod(subject, revision, 1),
    ]


def _target(pack: PackPlacement | None) -> TargetDomain | None:
    return None if pack is None else TargetDomain(pack, "domain-a")
