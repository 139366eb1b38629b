"""Diagnoses that a person may request from a run's ranks while they train."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

from footplate_contracts.base import WireMessage


class DiagnosisKind(StrEnum):
    """Kind of diagnosis that ranks can record while they run."""

    STACKS = "stacks"  # of every thread, into the log; on a hang too
    TRACE = "trace"  # torch profiler
    MEMORY = "memory"  # who holds which memory


class DiagnosisRequest(WireMessage):
    """A person's request for a diagnosis; the recording covers `steps` steps."""

    kind: DiagnosisKind
    steps: int = Field(default=3, ge=1, le=1000)


class Diagnosis(DiagnosisRequest):
    """A request with its number in the coordinator's list."""

    number: int = Field(ge=1, description="number of the request, ascending within an epoch")


def _if_known(diagnosis: Any) -> Any:
    """Return `diagnosis`, or None for a kind that a newer release added, which no program here can record."""
    kind = diagnosis.get("kind") if isinstance(diagnosis, dict) else None
    return None if isinstance(kind, str) and kind not in frozenset(DiagnosisKind) else diagnosis


KnownDiagnosis = Annotated[Diagnosis | None, BeforeValidator(_if_known)]
