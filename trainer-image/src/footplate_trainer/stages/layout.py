"""Rejects a layout that cannot work, before any rank starts."""

from __future__ import annotations

from footplate_contracts.runconfig import RunConfig
from footplate_planning import compatibility
from footplate_trainer.errors import UserMistake


def require_layout(config: RunConfig, world_size: int) -> None:
    """Raise UserMistake with every reason why `config` cannot run on `world_size` ranks."""
    problems = compatibility.find_problems(config, world_size)
    if problems:
        raise UserMistake("\n".join(problems))
