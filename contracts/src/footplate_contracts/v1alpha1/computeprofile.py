"""ComputeProfile: hardware and settings of one kind of node, stated once by the administrator."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar, Final, Self

from pydantic import Field

from footplate_contracts.names import Backend
from footplate_contracts.rules import Rule, forbidden_rule, required_rule
from footplate_contracts.v1alpha1.placement import HOSTNAME, PackPlacement, Placement
from footplate_contracts.v1alpha1.pods import SecurityContext, SecurityProfile
from footplate_contracts.v1alpha1.podtemplate import PodTemplate
from footplate_contracts.v1alpha1.types import ApiModel, Label, Name, Passthrough, StringMap, Time

Amount = Annotated[float, Field(ge=0.0, le=1e9)]
Dollars = Annotated[float, Field(ge=0.0, le=1e6)]


class PeakTflops(ApiModel):
    """Dense peak of one device, TFLOP/s."""

    bf16: Amount = Field(description="dense bf16 peak, without sparsity")
    fp32: Amount = Field(description="dense fp32 peak")


class Gpu(ApiModel):
    """The accelerators of one node."""

    resource: Name = Field("nvidia.com/gpu", description="extended resource of the device plugin")
    count: Annotated[int, Field(ge=1, le=64)] = Field(description="devices per node")
    product: Label = Field(description="product name of the device, as in the label nvidia.com/gpu.product")
    memory_gib: Annotated[float, Field(ge=0.0, le=1e6, alias="memoryGiB")] = Field(
        description="memory of one device, GiB"
    )
    peak_tflops: PeakTflops
    tdp_watts: Amount = Field(description="thermal design power of one device, W")
    resource_claim: Label | None = Field(
        None, description="name in resourceClaims of the claim for the devices, instead of resource"
    )


class Rdma(ApiModel):
    """The extended resource of the RDMA device plugin."""

    resource: Name = Field(description="extended resource of the RDMA device plugin")
    count: Annotated[int, Field(ge=1, le=64)] = Field(description="number that a worker requests")


class Network(ApiModel):
    """Network between ranks of different nodes."""

    rdma: Rdma | None = None
    interfaces: Annotated[str, Field(max_length=256)] = Field(
        "", description="value of NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME; empty: the library's choice"
    )
    nccl: StringMap = Field(default_factory=dict, description="additional NCCL_* variables")
    shared_memory_gib: Annotated[float, Field(ge=0.0, le=1e5, alias="sharedMemoryGiB")] = Field(
        1.0, description="size of /dev/shm, GiB"
    )
    host_network: bool | None = Field(
        None, description="true: workers use the node's network; needs securityProfile privileged"
    )


class Capacity(StrEnum):
    """Terms of the price."""

    ON_DEMAND = "OnDemand"
    SPOT = "Spot"
    RESERVED = "Reserved"


class Price(ApiModel):
    """Dollars of one node."""

    dollars_per_node_hour: Dollars = Field(description="dollars per node and hour")
    capacity: Capacity = Capacity.ON_DEMAND
    effective_from: Time | None = Field(
        None, description="time from which the price applies; default: when it was set"
    )


class EnergyConversion(ApiModel):
    """Conversion of watts into carbon."""

    power_usage_effectiveness: Annotated[float, Field(ge=1.0, le=10.0)] = Field(
        1.2, description="the data centre's total power over the computers' power"
    )
    carbon_zone: Annotated[str, Field(max_length=16)] = Field(
        "",
        description="country code by ISO 3166 alpha-3, such as FRA, or the zone of a CarbonIntensity;"
        " case-insensitive",
    )
    grams_per_kilowatt_hour: Amount | None = Field(
        None, description="carbon intensity, g/kWh; overrides carbonZone"
    )
    node_watts: Amount | None = Field(
        None, description="power of a node without its devices, W; absent: only devices are counted"
    )


class TaintEffect(StrEnum):
    """Effect of a taint, as in a Node."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class DisruptionTaint(ApiModel):
    """Taints of a Node that have this key and, if set, this value and effect."""

    key: Annotated[str, Field(min_length=1, max_length=316)] = Field(description="key of the taint")
    value: Annotated[str, Field(max_length=63)] | None = Field(None, description="its value; default: any")
    effect: TaintEffect | None = Field(None, description="its effect; default: any")


# Who sets them, and where that is written: docs/decisions/ADR-0054. None of a kind of capacity is among
# them, and no recommendation: only ends that are announced.
DISRUPTION_TAINTS: Final = (
    "node.kubernetes.io/unschedulable",
    "aws-node-termination-handler/spot-itn",
    "aws-node-termination-handler/scheduled-maintenance",
    "aws-node-termination-handler/asg-lifecycle-termination",
    "cloud.google.com/impending-node-termination",
    "remediator.aks.microsoft.com/unschedulable",
    "remediator.kubernetes.azure.com/unschedulable",
    "karpenter.sh/disrupted",
    "karpenter.sh/disruption",
    "ToBeDeletedByClusterAutoscaler",
)


def _usual_disruption_taints() -> list[DisruptionTaint]:
    return [DisruptionTaint(key=key) for key in DISRUPTION_TAINTS]


class Scheduling(ApiModel):
    """Selection of the profile's nodes."""

    node_selector: StringMap = Field({}, description="labels of the profile's nodes")
    tolerations: Annotated[list[Passthrough], Field(max_length=32)] = Field([], description="as in a pod")
    topology_key: Annotated[str, Field(max_length=316)] = Field(
        HOSTNAME, description="node label over which the workers of a run are spread"
    )
    placement: Placement | None = Field(None, description="pack or spread, instead of topologyKey")
    priority_class_name: Name | None = Field(None, description="default for the run's priorityClassName")
    scheduler_name: Name | None = Field(None, description="scheduler of workers, as in a pod")
    disruption_taints: Annotated[list[DisruptionTaint], Field(max_length=32)] = Field(
        default_factory=_usual_disruption_taints,
        description="taints that announce a node's end: runs save and leave it, unless tolerations match. A"
        " cordon is node.kubernetes.io/unschedulable: workers leave once a substitute waits",
    )

    rules: ClassVar = (
        forbidden_rule(
            f"!has(self.placement) || self.topologyKey == '{HOSTNAME}'",
            "topologyKey {self.topologyKey} spreads workers, as placement.spread does; remove it when"
            " placement is set",
            field="topologyKey",
        ),
    )

    def with_placement(self, placement: Placement | None) -> Self:
        """Return the same with a run's own placement, if it states one."""
        if placement is None:
            return self
        return self.model_copy(update={"placement": placement, "topology_key": HOSTNAME})

    @property
    def pack(self) -> PackPlacement | None:
        """Domain label into which a run's workers are packed; None where they are not."""
        return self.placement.pack if self.placement else None

    @property
    def spread_key(self) -> str:
        """Node label over which a run's workers are spread."""
        spread = self.placement.spread if self.placement else None
        return spread.topology_key if spread else self.topology_key

    @property
    def placement_key(self) -> str:
        """Topology key of the placement; empty where none is stated."""
        return self.pack.topology_key if self.pack else self.spread_key if self.placement else ""


class ResourceClaim(ApiModel):
    """A claim of dynamic resource allocation that each worker pod has."""

    list_key: ClassVar = "name"

    name: Label = Field(description="name of the claim in the pod")
    resource_claim_template_name: Name = Field(
        description="name of a ResourceClaimTemplate in the run's namespace; each pod gets a claim from it"
    )


class Overridable(StrEnum):
    """Fields of a run, in `spec`, `spec.compute` or `spec.trainer`, that override a profile."""

    PROCESSES_PER_NODE = "processesPerNode"
    PRIORITY_CLASS_NAME = "priorityClassName"
    ENV = "env"
    RESOURCES = "resources"
    VOLUMES = "volumes"
    SERVICE_ACCOUNT_NAME = "serviceAccountName"
    POD_LABELS = "podLabels"
    POD_ANNOTATIONS = "podAnnotations"
    SECURITY_CONTEXT = "securityContext"
    TOLERATIONS = "tolerations"
    NODE_SELECTOR = "nodeSelector"
    RUNTIME_CLASS_NAME = "runtimeClassName"
    SCHEDULER_NAME = "schedulerName"
    PLACEMENT = "placement"


# Those that every run could state when profiles had no list.
USUALLY_OVERRIDABLE: Final = tuple(Overridable)[:8]
Capability = Annotated[str, Field(pattern=r"^[A-Z][A-Z_]*$", max_length=32)]

_IS_PRIVILEGED: Final = "has(self.securityProfile) && self.securityProfile == 'privileged'"
_SAID_PROFILE: Final = "has(self.securityProfile) ? self.securityProfile : 'restricted'"
_PRODUCT: Final = "nvidia.com/gpu.product"  # label of nodes, as NVIDIA's feature discovery sets it
_SELECTED: Final = "self.scheduling.nodeSelector"
_PRODUCT_ASKED: Final = f"('{_PRODUCT}' in {_SELECTED} ? {_SELECTED}['{_PRODUCT}'] : self.gpu.product)"


class ComputeProfileSpec(ApiModel):
    """A node, as a worker pod uses it."""

    gpu: Gpu | None = None
    network: Network = Network()
    processes_per_node: Annotated[int, Field(ge=1, le=64)] = Field(
        1, description="ranks per worker pod; with GPUs, one per GPU"
    )
    backend: Backend = Backend.NCCL
    resources: Passthrough = Field(
        default_factory=dict, description="requests and limits of a worker, without GPUs and RDMA"
    )
    price: Price | None = None
    energy: EnergyConversion | None = None
    scheduling: Scheduling = Scheduling()
    resource_claims: Annotated[list[ResourceClaim], Field(max_length=16)] | None = Field(
        None, description="claims for devices (dynamic resource allocation) of the trainer container"
    )
    security_context: SecurityContext | None = Field(
        None, description="ids of all pods of a run; default: 1000 for all; {}: the platform's choice"
    )
    security_profile: SecurityProfile | None = Field(
        None, description="Pod Security standard for workers; default: restricted"
    )
    capabilities: Annotated[list[Capability], Field(max_length=16)] | None = Field(
        None, description="added to the trainer container, such as IPC_LOCK; needs securityProfile privileged"
    )
    runtime_class_name: Name | None = Field(None, description="runtime class of workers, as in a pod")
    pod_labels: StringMap | None = Field(None, description="additional labels of workers")
    pod_annotations: (
        Annotated[dict[str, Annotated[str, Field(max_length=8192)]], Field(max_length=64)] | None
    ) = Field(None, description="additional annotations of workers, such as Multus networks")
    overridable: Annotated[list[Overridable], Field(max_length=len(Overridable))] | None = Field(
        None,
        description="fields that a run with this profile may set; others are rejected. Default:"
        f" {', '.join(USUALLY_OVERRIDABLE)}",
    )
    pod_template: PodTemplate | None = Field(
        None, description="merged into worker pods last, by the keys in docs/operations/profiles.md"
    )

    rules: ClassVar = (
        required_rule(
            "self.backend != 'nccl' || has(self.gpu)",
            "backend nccl needs gpu; set it, or use backend gloo",
            field="gpu",
        ),
        Rule(
            "!has(self.gpu) || self.processesPerNode == self.gpu.count",
            "processesPerNode {self.processesPerNode} must equal gpu.count {self.gpu.count}:"
            " one rank drives one device",
            field="processesPerNode",
        ),
        Rule(
            "!has(self.gpu) || !has(self.network.rdma) || self.network.rdma.resource != self.gpu.resource",
            "network.rdma.resource {self.network.rdma.resource} is the GPUs' resource; set that of the RDMA"
            " device plugin",
            field="network.rdma.resource",
        ),
        Rule(
            f"!has(self.gpu) || {_PRODUCT_ASKED} == self.gpu.product",
            "gpu.product {self.gpu.product} differs from the product in scheduling.nodeSelector,"
            f" {{{_PRODUCT_ASKED}}}; change one of them",
            field="gpu.product",
        ),
        Rule(
            "!has(self.gpu) || !has(self.gpu.resourceClaim) || (has(self.resourceClaims)"
            " && self.resourceClaims.exists(claim, claim.name == self.gpu.resourceClaim))",
            "gpu.resourceClaim {self.gpu.resourceClaim} is missing from resourceClaims; add that claim there",
            field="gpu.resourceClaim",
        ),
        Rule(
            f"!has(self.network.hostNetwork) || !self.network.hostNetwork || ({_IS_PRIVILEGED})",
            f"network.hostNetwork true needs securityProfile privileged, not {{{_SAID_PROFILE}}};"
            " change one of them",
            field="network.hostNetwork",
        ),
        Rule(
            f"!has(self.capabilities) || self.capabilities.size() == 0 || ({_IS_PRIVILEGED})",
            f"capabilities need securityProfile privileged, not {{{_SAID_PROFILE}}}; change one of them",
            field="capabilities",
        ),
        Rule(
            "!has(self.securityContext) || !has(self.securityContext.runAsUser)"
            f" || self.securityContext.runAsUser != 0 || ({_SAID_PROFILE}) != 'restricted'",
            "securityContext.runAsUser 0 is root, which securityProfile restricted forbids; use another id,"
            " or securityProfile baseline",
            field="securityContext.runAsUser",
        ),
    )
