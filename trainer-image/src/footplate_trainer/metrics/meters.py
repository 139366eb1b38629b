"""What a step cost, as fields of its metric row. Pure: clocks belong to the loop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from footplate_planning.flops import Convention, flops_per_token, utilisation
from footplate_planning.shape import ModelShape
from footplate_trainer.metrics.stopwatch import StepPart


@dataclass(frozen=True)
class UtilisationMeter:
    """Model FLOPs utilisation in the two common conventions; `tflops` of one device, None if unknown."""

    shape: ModelShape
    length: int  # of a sequence, tokens
    step_tokens: int  # places in a global batch; padding is computed like the rest
    devices: int
    tflops: float | None
    decoder_length: int = 0  # tokens of the decoder's sequence behind an encoder

    def fields(self, seconds: float) -> dict[str, float]:
        """`mfu` and `mfu_causal` of a step that took `seconds`; nothing where the peak is unknown."""
        if not self.tflops:
            return {}
        rate = self.step_tokens / seconds
        conventions = {"mfu": Convention.FULL, "mfu_causal": Convention.CAUSAL}
        return {
            field: utilisation(
                flops_per_token(self.shape, self.length, convention, self.decoder_length),
                rate,
                self.devices,
                self.tflops,
            )
            for field, convention in conventions.items()
        }


def second_fields(parts: Mapping[StepPart, float]) -> dict[str, float]:
    """Seconds by part as fields of a row."""
    return {f"{part}_seconds": seconds for part, seconds in parts.items()}
