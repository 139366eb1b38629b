"""What every child of a run has: its name, labels and owner."""

from __future__ import annotations

from footplate_contracts.names import API_VERSION, coordinator_service_name
from footplate_operator.runtime.kinds import Json, Kind, kind_of
from footplate_operator.trainingrun.labels import run_labels
from footplate_operator.trainingrun.run import Run


def metadata(run: Run, name: str) -> Json:
    """Metadata of a child."""
    return {
        "name": name,
        "namespace": run.namespace,
        "labels": run_labels(run),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": "TrainingRun",
                "name": run.name,
                "uid": run.uid,
                "controller": True,
                "blockOwnerDeletion": False,
            }
        ],
    }


def coordinator_host(run: Run) -> str:
    """DNS name of the coordinator; also the name in its certificate."""
    return f"{coordinator_service_name(run.name)}.{run.namespace}.svc"


def certificate_names(run: Run) -> list[str]:
    """Every name under which the coordinator may be asked."""
    short = coordinator_service_name(run.name)
    host = coordinator_host(run)
    return [host, f"{host}.cluster.local", f"{short}.{run.namespace}", short]


def identity(body: Json) -> tuple[Kind, str]:
    """Kind and name of a manifest."""
    return kind_of(body), body["metadata"]["name"]
