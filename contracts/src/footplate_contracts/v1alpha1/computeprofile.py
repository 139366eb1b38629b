"""ComputeProfile: what one node of a kind gives, stated once by the administrator."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Refusal, Rule, refuse
from footplate_contracts.v1alpha1.types import Label, Name, Part, Passthrough, StringMap, Time

Amount = Annotated[float, Field(ge=0.0, le=1e9)]


class PeakTflops(Part):
    """Dense peak of one device, TFLOP/s."""

    bf16: Amount
    fp32: Amount


class Gpu(Part):
    """The accelerators of one node."""

    resource: Name = "nvidia.com/gpu"
    count: Annotated[int, Field(ge=1, le=64)]
    product: Label
    memory_gib: Annotated[float, Field(ge=0.0, le=1e6, alias="memoryGiB")]
    peak_tflops: PeakTflops
    tdp_watts: Amount


class Rdma(Part):
    """The extended resource of the RDMA device plugin."""

    resource: Name
    count: Annotated[int, Field(ge=1, le=64)]


class Network(Part):
    """How ranks of different nodes reach each other."""

    rdma: Rdma | None = None
    interfaces: Annotated[str, Field(max_length=256)] = Field(
        "", description="NCCL_SOCKET_IFNAME and GLOO_SOCKET_IFNAME; empty: the library's choice"
    )
    nccl: StringMap = Field(default_factory=dict, description="further NCCL_* variables")
    shared_memory_gib: Annotated[float, Field(ge=0.0, le=1e5, alias="sharedMemoryGiB")] = 1.0


class Backend(StrEnum):
    """Collective library."""

    NCCL = "nccl"
    GLOO = "gloo"


class Capacity(StrEnum):
    """What the price is for."""

    ON_DEMAND = "onDemand"
    SPOT = "spot"


class Price(Part):
    """Dollars of one node."""

    dollars_per_node_hour: Amount
    capacity: Capacity = Capacity.ON_DEMAND
    effective_from: Time | None = None


class Energy(Part):
    """What turns watts into carbon."""

    power_usage_effectiveness: Annotated[float, Field(ge=1.0, le=10.0)] = 1.2
    carbon_zone: Annotated[str, Field(max_length=16)] = ""
    grams_per_kilowatt_hour: Amount | None = None


class Scheduling(Part):
    """Where such nodes are."""

    node_selector: StringMap = {}
    tolerations: Annotated[list[Passthrough], Field(max_length=32)] = []
    topology_key: Annotated[str, Field(max_length=316)] = Field(
        "kubernetes.io/hostname", description="workers of one run are spread over this key"
    )
    priority_class_name: Name | None = None


class ComputeProfileSpec(Part):
    """One node, as a worker pod uses it."""

    gpu: Gpu | None = None
    network: Network = Network()
    processes_per_node: Annotated[int, Field(ge=1, le=64)] = 1
    backend: Backend = Backend.NCCL
    resources: Passthrough = Field(
        default_factory=dict, description="requests and limits of a worker beside GPUs and RDMA"
    )
    price: Price | None = None
    energy: Energy | None = None
    scheduling: Scheduling = Scheduling()
    pod_template: Passthrough | None = None

    rules: ClassVar = (
        Rule(
            "self.backend != 'nccl' || has(self.gpu)",
            "backend nccl needs gpu; state it, or use backend gloo",
            field="gpu",
            refusal=Refusal.REQUIRED,
        ),
        Rule(
            "!has(self.gpu) || self.processesPerNode == self.gpu.count",
            "processesPerNode {self.processesPerNode} must equal gpu.count {self.gpu.count}:"
            " one rank drives one device",
            field="processesPerNode",
        ),
        refuse("podTemplate"),
    )
