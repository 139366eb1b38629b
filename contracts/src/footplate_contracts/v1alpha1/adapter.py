"""`spec.model.adapter`: low-rank matrices that are trained in place of the network's own."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from footplate_contracts.rules import Rule
from footplate_contracts.v1alpha1.types import ApiModel, Probability


class AdapterName(StrEnum):
    """Kind of adapter."""

    LORA = "lora"


class Adapter(ApiModel):
    """Low-rank adapters: W x becomes W x + alpha / rank B A x in some linear layers; all else is frozen."""

    name: AdapterName = AdapterName.LORA
    rank: Annotated[int, Field(ge=1, le=65_536)] = Field(8, description="rows of A and columns of B")
    alpha: Annotated[float, Field(ge=0.0, le=1e6)] | None = Field(
        None, description="scale: the adapter's output is multiplied by alpha / rank; default: rank"
    )
    dropout: Probability = Field(0.0, description="dropout probability of the adapters' inputs")
    target_modules: (
        Annotated[
            list[Annotated[str, Field(min_length=1, max_length=253)]], Field(min_length=1, max_length=64)
        ]
        | None
    ) = Field(
        None,
        description="linear layers with an adapter, by the end of their names, such as query or"
        " attention.output; * matches any text; default: all layers in blocks",
    )

    rules: ClassVar = (
        Rule(
            "!has(self.alpha) || self.alpha > 0.0", "alpha must be above 0, not {self.alpha}", field="alpha"
        ),
        Rule("self.dropout < 1.0", "dropout must be below 1, not {self.dropout}", field="dropout"),
    )
