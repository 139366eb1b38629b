"""Energy that the devices of a worker pod have consumed, as its agent measures it.

An agent sends sums that only grow, so a reader needs the newest alone: a lost message loses none, and none
counts twice. The sums leave out what the agent did not measure, and nothing is guessed here: the rest of
the devices' time is rated by their thermal design power.

Sums that no usage record can hold are refused. A receiver drops them and reads the rest of the message: a
device's wrong reading ends no run.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, Self

from pydantic import Field, ValidationError, ValidationInfo, ValidatorFunctionWrapHandler, WrapValidator
from pydantic_core import PydanticOmit

from footplate_contracts.base import WireMessage, first_error
from footplate_contracts.v1alpha1.types import Whole

MOST_PODS: Final = (
    8192  # of one run, told at once: a gang of the largest size, its spares, and many that ended
)


class PodEnergy(WireMessage):
    """Energy of all devices of one pod together, since its agent began.

    Seconds are whole device-seconds: eight devices, measured for a minute, have 480. They are read from a
    clock's whole seconds, so that the parts of a device's time add up to the whole.
    """

    pod_uid: str = Field(min_length=1)
    millijoules: Whole = Field(description="energy used in the seconds below, mJ, rounded down")
    counter_seconds: Whole = Field(description="device-seconds measured by the devices' own energy counters")
    power_seconds: Whole = Field(description="device-seconds measured by power samples")

    def merge(self, other: Self) -> Self:
        """Merge two reports of the pod, in whatever order they came: the larger of each sum."""
        return self.model_copy(
            update={
                "millijoules": max(self.millijoules, other.millijoules),
                "counter_seconds": max(self.counter_seconds, other.counter_seconds),
                "power_seconds": max(self.power_seconds, other.power_seconds),
            }
        )


def _or_none(told: Any, read: ValidatorFunctionWrapHandler, info: ValidationInfo) -> PodEnergy | None:
    """Return the sums, or None if they are invalid; append the error to the context if that is a list."""
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
