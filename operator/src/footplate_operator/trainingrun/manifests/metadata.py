"""What every child of a run has: its name, labels and owner."""

from __future__ import annotations

from footplate_contracts.names import coordinator_service_name
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.ownership import owner_reference
from footplate_operator.trainingrun.labels import run_labels
from footplate_operator.trainingrun.run import TRAINING_RUN, Run


def metadata(run: Run, name: str) -> Json:
    """Metadata of a child."""
    return {
        "name": name,
        "namespace": run.namespace,
        "labels": run_labels(run),
        "ownerReferences": [owner_reference(TRAINING_RUN, run)],
    }


def coordinator_host(run: Run) -> str:
    """DNS name of the coordinator; also the name in its certificate."""
    return f"{coordinator_service_name(run.name)}.{run.namespace}.svc"


def certificate_names(run: Run) -> list[str]:
    """Every name under which the coordinator may be asked."""
    short = coordinator_service_name(run.name)
    host = coordinator_host(run)
    return [host, f"{host}.cluster.local", f"{short}.{run.namespace}", short]
