"""CarbonIntensity: emissions of a kilowatt-hour in one zone, from a moment on; hourly where available."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from footplate_contracts.v1alpha1.computeprofile import Amount
from footplate_contracts.v1alpha1.types import ApiModel, Time

POINTS_LIMIT: Final = 9000  # a year of hours


class IntensityPoint(ApiModel):
    """Intensity from this moment until the next point."""

    effective_from: Time = Field(alias="from", description="first second to which the intensity applies")
    grams_per_kilowatt_hour: Amount = Field(description="grams of CO2 equivalent per kilowatt-hour")


class CarbonIntensitySpec(ApiModel):
    """A series of intensities of one zone; it overrides the yearly mean."""

    zone: Annotated[str, Field(min_length=1, max_length=16)] = Field(
        description="zone as in energy.carbonZone of profiles, case-insensitive"
    )
    source: Annotated[str, Field(max_length=253)] = Field("", description="origin of the series")
    points: Annotated[list[IntensityPoint], Field(min_length=1, max_length=POINTS_LIMIT)] = Field(
        description="points of the series, in any order"
    )
