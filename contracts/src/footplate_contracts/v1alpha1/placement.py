"""Position of a run's workers relative to each other, as a ComputeProfile or a run states it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import forbidden_rule
from footplate_contracts.v1alpha1.types import ApiModel

TopologyKey = Annotated[str, Field(min_length=1, max_length=316)]
HOSTNAME: Final = "kubernetes.io/hostname"


class PackPlacement(ApiModel):
    """A single domain of a Node label for the workers of a run."""

    topology_key: TopologyKey = Field(
        description="Node label whose value identifies a domain, such as a rack or nvidia.com/gpu.clique"
    )
    required: bool = Field(
        False,
        description="true: all workers, substitutes and spares use one domain, and the run waits until one"
        " has room for all; false: they prefer one domain",
    )


class Spread(ApiModel):
    """Domains of a Node label over which the workers of a run are spread as evenly as there is room."""

    topology_key: TopologyKey = Field(description="Node label whose value identifies a domain")


class Placement(ApiModel):
    """Position of a run's workers relative to each other."""

    pack: PackPlacement | None = Field(
        None, description="one domain for all workers; ranks that share a tensor or a pipeline share a domain"
    )
    spread: Spread | None = Field(None, description="even distribution over domains")

    rules: ClassVar = (
        forbidden_rule(
            "!(has(self.pack) && has(self.spread))",
            "spread by {self.spread.topologyKey} contradicts pack into one {self.pack.topologyKey};"
            " remove one of them",
            field="spread",
        ),
    )
