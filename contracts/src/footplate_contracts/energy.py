"""What the devices of a worker pod have consumed, as its agent measures it.

An agent tells sums that only grow, so whoever reads them needs the newest alone: none is lost with a
message, and none counts twice. What the agent did not measure is not in them, and nothing is guessed here:
of the time that its devices were there, the rest is to be rated by their thermal design power.

Sums that no record of usage can hold are refused. Whoever hears them with other words passes them over, and
reads the rest: what a device shows wrongly ends no run.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticOmit

from footplate_contracts.model import Report, first_error
from footplate_contracts.v1alpha1.types import Whole

MOST_PODS: Final = (
    8192  # of one run, told at once: a gang of the largest size, its spares, and many that ended
)


class PodEnergy(Report):
    """All devices of one pod together, since its agent began.

    Seconds are whole seconds of a device: eight devices that are measured for a minute have 480. They are
    read from a clock's whole seconds, so that a device's parts of a time are together that time.
    """

    pod_uid: str = Field(min_length=1)
    millijoules: Whole = Field(description="consumed in the seconds below, rounded down")
    counter_seconds: Whole = Field(description="for which the devices' own energy counters tell it")
    power_seconds: Whole = Field(description="for which it is their power between two samples")

    def newest(self, other: Self) -> Self:
        """What is known of the pod from two of its words, in whatever order they came."""
        return self.model_copy(
            update={
                "millijoules": max(self.millijoules, other.millijoules),
                "counter_seconds": max(self.counter_seconds, other.counter_seconds),
                "power_seconds": max(self.power_seconds, other.power_seconds),
            }
        )


def _or_none(told: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> PodEnergy | None:
    """The sums, or None; a list that is the context of the reading is told why."""
    try:
        found: PodEnergy | None = read(told)
    except ValidationError as error:
        if isinstance(info.context, list):
            info.context.append(first_error(error))
        return None
    return found


def _or_omitted(told: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> PodEnergy:
    found = _or_none(told, read, info)
    if found is None:
        raise PydanticOmit
    return found


ReadableEnergy = Annotated[PodEnergy | None, WrapValidator(_or_none)]  # None: none can be read
ListedEnergy = Annotated[PodEnergy, WrapValidator(_or_omitted)]  # in a list, which has those that can be read
