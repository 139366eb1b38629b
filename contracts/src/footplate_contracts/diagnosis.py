"""What a person may ask the ranks of a run while they train."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from footplate_contracts.model import Report


class DiagnosisKind(StrEnum):
    """What ranks can be asked for while they run."""

    STACKS = "stacks"  # of every thread, into the log; on a hang too
    TRACE = "trace"  # torch profiler
    MEMORY = "memory"  # who holds which memory


class DiagnosisRequest(Report):
    """A person's question; what is recorded covers `steps` steps."""

    kind: DiagnosisKind
    steps: int = Field(default=3, ge=1, le=1000)


class Diagnosis(DiagnosisRequest):
    """A request with its place in the coordinator's list."""

    number: int = Field(ge=1, description="counts up within one epoch")


def _if_known(diagnosis: Any) -> Any:
    """None for one of a kind that a newer release added: nobody here could make it."""
    kind = diagnosis.get("kind") if isinstance(diagnosis, dict) else None
    return None if isinstance(kind, str) and kind not in frozenset(DiagnosisKind) else diagnosis


KnownDiagnosis = Annotated[Diagnosis | None, BeforeValidator(_if_known)]
