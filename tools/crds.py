"""Our CRDs, from the models of their specs: the only way they are written."""

from __future__ import annotations

from tools.schemas import Schema, first_line, structural_schema, validation

from footplate_contracts.names import GROUP, VERSION
from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.carbonintensity import CarbonIntensitySpec
from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_contracts.v1alpha1.noderecord import NodeRecordSpec, NodeRecordStatus
from footplate_contracts.v1alpha1.priceentry import PriceEntrySpec
from footplate_contracts.v1alpha1.status import TrainingRunStatus
from footplate_contracts.v1alpha1.trainingrun import TrainingRun, TrainingRunSpec
from footplate_contracts.v1alpha1.usagerecord import UsageRecordSpec


def _definition(
    kind: str,
    plural: str,
    short: str,
    *,
    scope: str,
    schema: Schema,
    columns: list[Schema],
    subresources: Schema,
) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/part-of": "footplate"},
        },
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["footplate"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": subresources,
                    "additionalPrinterColumns": columns,
                }
            ],
        },
    }


def _column(name: str, path: str, kind: str = "string", description: str = "", priority: int = 0) -> Schema:
    column: Schema = {"name": name, "type": kind, "jsonPath": path}
    if description:
        column["description"] = description
    if priority:
        column["priority"] = priority
    return column


def _root(
    description: str, spec: Schema, status: Schema | None, *rules: Rule, spec_required: bool = True
) -> Schema:
    properties: Schema = {
        "apiVersion": {"type": "string"},
        "kind": {"type": "string"},
        "metadata": {"type": "object"},
        "spec": spec,
    }
    if status is not None:
        properties["status"] = status
    root: Schema = {"type": "object", "description": description, "properties": properties}
    if spec_required:
        root["required"] = ["spec"]
    if rules:
        root["x-kubernetes-validations"] = [validation(rule) for rule in rules]
    return root


def training_run() -> Schema:
    """The CRD of TrainingRun."""
    age = _column("Age", ".metadata.creationTimestamp", "date")
    return _definition(
        "TrainingRun",
        "trainingruns",
        "trun",
        scope="Namespaced",
        schema=_root(
            first_line(TrainingRun),
            structural_schema(TrainingRunSpec),
            structural_schema(TrainingRunStatus),
            *TrainingRun.rules,
        ),
        columns=[
            _column("Stage", ".spec.stage"),
            _column("Phase", ".status.phase"),
            _column("Reason", ".status.conditions[?(@.type=='Progressing')].reason"),
            _column("Step", ".status.progress.step", "integer"),
            _column("Progress", ".status.progress.percentage", "number", "percent of totalSteps"),
            _column("Nodes", ".status.world.nodes", "integer"),
            _column("Restarts", ".status.restarts", "integer"),
            _column("Goodput", ".status.goodput", "number", "productive share of the wall time"),
            _column("Cost", ".status.cost.dollars", "number", "dollars"),
            age,
            _column("Loss", ".status.progress.loss", "number", priority=1),
            _column("Message", ".status.conditions[?(@.type=='Progressing')].message", priority=1),
        ],
        subresources={
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.compute.nodes",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
    )


def compute_profile() -> Schema:
    """The CRD of ComputeProfile."""
    return _definition(
        "ComputeProfile",
        "computeprofiles",
        "cprof",
        scope="Cluster",
        schema=_root("What one node of a kind gives.", structural_schema(ComputeProfileSpec), None),
        columns=[
            _column("Product", ".spec.gpu.product"),
            _column("Processes", ".spec.processesPerNode", "integer"),
            _column("Backend", ".spec.backend"),
            _column("Dollars/h", ".spec.price.dollarsPerNodeHour", "number"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        subresources={},
    )


def node_record() -> Schema:
    """The CRD of NodeRecord."""
    return _definition(
        "NodeRecord",
        "noderecords",
        "nrec",
        scope="Cluster",
        schema=_root(
            "What is known of a node's health. The operator neither writes nor reads it yet.",
            structural_schema(NodeRecordSpec),
            structural_schema(NodeRecordStatus),
            spec_required=False,
        ),
        columns=[
            _column("Exclude", ".spec.exclude", "boolean"),
            _column("Until", ".status.excludedUntil", "date"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        subresources={"status": {}},
    )


def usage_record() -> Schema:
    """The CRD of UsageRecord."""
    return _definition(
        "UsageRecord",
        "usagerecords",
        "usage",
        scope="Cluster",
        schema=_root(
            "Which pods held which nodes for how long. The operator writes it; the API takes it away.",
            structural_schema(UsageRecordSpec),
            None,
        ),
        columns=[
            _column("Kind", ".spec.owner.kind"),
            _column("Namespace", ".spec.owner.namespace"),
            _column("Owner", ".spec.owner.name"),
            _column("Completed", ".spec.completed", "boolean"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        subresources={},
    )


def price_entry() -> Schema:
    """The CRD of PriceEntry."""
    return _definition(
        "PriceEntry",
        "priceentries",
        "price",
        scope="Cluster",
        schema=_root(
            "One line of the price book, which nobody changes or takes back.",
            structural_schema(PriceEntrySpec),
            None,
        ),
        columns=[
            _column("Profile", ".spec.profile"),
            _column("Capacity", ".spec.capacity"),
            _column("Region", ".spec.region"),
            _column("Dollars/h", ".spec.dollarsPerNodeHour", "number"),
            _column("From", ".spec.effectiveFrom"),
            _column("To", ".spec.effectiveTo"),
            _column("Supersedes", ".spec.supersedes", priority=1),
            _column("Source", ".spec.source", priority=1),
            _column("By", ".spec.createdBy", priority=1),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        subresources={},
    )


def carbon_intensity() -> Schema:
    """The CRD of CarbonIntensity."""
    return _definition(
        "CarbonIntensity",
        "carbonintensities",
        "carbon",
        scope="Cluster",
        schema=_root(
            "What a kilowatt-hour emits in one zone, from a moment on.",
            structural_schema(CarbonIntensitySpec),
            None,
        ),
        columns=[
            _column("Zone", ".spec.zone"),
            _column("Source", ".spec.source"),
            _column("Age", ".metadata.creationTimestamp", "date"),
        ],
        subresources={},
    )


def all_definitions() -> dict[str, Schema]:
    """File name -> CRD, for `make gen` and for tests."""
    definitions = (
        training_run(),
        compute_profile(),
        node_record(),
        usage_record(),
        price_entry(),
        carbon_intensity(),
    )
    return {f"{definition['metadata']['name']}.yaml": definition for definition in definitions}
