"""Turn of a gang to create its pods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class Turn:
    """Place of a gang in the line of its profile."""

    granted: bool = True  # it may have pods
    place: int = 1
    waiting: int = 1  # gangs in the line, itself included
    contested: bool = False  # another gang could gather now
    yields: bool = False  # a running gang is short of a pod
    retry: datetime | None = None  # when it may gather at the latest, though nothing changes before
