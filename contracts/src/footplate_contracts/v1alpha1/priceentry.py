"""PriceEntry: one line of the price book, which is never changed.

An entry holds from `effectiveFrom` to `effectiveTo`, or until a later one of the same profile, capacity and
region begins. A correction is another entry that supersedes it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Final

from pydantic import Field

from footplate_contracts.rules import FieldValueErrorReason, Rule
from footplate_contracts.v1alpha1.computeprofile import Capacity, Dollars
from footplate_contracts.v1alpha1.types import ApiModel, Name, Time

OF_A_PROFILE: Final = "ComputeProfile "
"""How the source of an entry begins that the operator makes of a profile's price, and no other entry's."""


class PriceEntrySpec(ApiModel):
    """Price of an hour of a node."""

    profile: Name = Field(description="ComputeProfile of the nodes")
    capacity: Capacity = Field(Capacity.ON_DEMAND, description="terms of purchase of the nodes")
    provider: Annotated[str, Field(max_length=63)] = Field("", description="informative, such as aws")
    region: Annotated[str, Field(max_length=63)] = Field(
        "", description="topology.kubernetes.io/region; empty: all regions without an entry of their own"
    )
    dollars_per_node_hour: Dollars = Field(description="dollars per node and hour")
    effective_from: Time = Field(description="first second to which the price applies")
    effective_to: Time | None = Field(None, description="first second to which the price no longer applies")
    source: Annotated[str, Field(max_length=253)] = Field("", description="origin of the price")
    created_by: Annotated[str, Field(max_length=253)] = Field("", description="author of the entry")
    supersedes: Annotated[str, Field(max_length=253)] = Field(
        "", description="name of the entry that this one replaces, from its beginning"
    )

    rules: ClassVar = (
        Rule("self == oldSelf", "an entry cannot be changed; create another that supersedes it"),
        Rule(
            "!has(self.effectiveTo) || timestamp(self.effectiveFrom) < timestamp(self.effectiveTo)",
            "effectiveTo {self.effectiveTo} must be later than effectiveFrom {self.effectiveFrom}",
            field="effectiveTo",
            refusal=FieldValueErrorReason.INVALID,
        ),
    )
