"""The ComputeProfiles that there are, and those that this release cannot read."""

from __future__ import annotations

from dataclasses import dataclass, field

from footplate_contracts.v1alpha1.computeprofile import ComputeProfileSpec
from footplate_operator.runtime.kinds import Json
from footplate_operator.runtime.objects import Undecodable
from footplate_operator.trainingrun.run import decode_profile


@dataclass
class Profiles:
    """Both by name."""

    specs: dict[str, ComputeProfileSpec] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)  # why it cannot be read

    def put(self, body: Json) -> None:
        """A version of a ComputeProfile."""
        name = body["metadata"]["name"]
        self.drop(name)
        try:
            self.specs[name] = decode_profile(body)
        except Undecodable as error:
            self.broken[name] = str(error)

    def drop(self, name: str) -> None:
        """It is gone, or about to be put again."""
        self.specs.pop(name, None)
        self.broken.pop(name, None)
