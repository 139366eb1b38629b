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
    capacity: Capacity = Field(Capacity.ON_DEMAND, description="how they are bought")
    provider: Annotated[str, Field(max_length=63)] = Field("", description="for people, such as aws")
    region: Annotated[str, Field(max_length=63)] = Field(
        "", description="topology.kubernetes.io/region; empty: those that have no entry of their own"
    )
    dollars_per_node_hour: Dollars = Field(description="dollars of one node for one hour")
    effective_from: Time = Field(description="the first second in which it holds")
    effective_to: Time | None = Field(None, description="the first second in which it does not any more")
    source: Annotated[str, Field(max_length=253)] = Field("", description="where the price is from")
    created_by: Annotated[str, Field(max_length=253)] = Field("", description="who wrote it")
    supersedes: Annotated[str, Field(max_length=253)] = Field(
        "", description="name of the entry that this one takes the place of, as if that had never been"
    )

    rules: ClassVar = (
        Rule("self == oldSelf", "an entry cannot be changed; write another that supersedes it"),
        Rule(
            "!has(self.effectiveTo) || timestamp(self.effectiveFrom) < timestamp(self.effectiveTo)",
            "effectiveTo {self.effectiveTo} must be later than effectiveFrom {self.effectiveFrom}",
            field="effectiveTo",
            refusal=FieldValueErrorReason.INVALID,
        ),
    )
