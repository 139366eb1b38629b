"""What ranks of the trainer's tests run: importable by the fork server."""

from __future__ import annotations

from pathlib import Path

from footplate_contracts.runconfig import RunConfig
from footplate_trainer.link import StandaloneLink
from footplate_trainer.stages import pretrain


def train(config: RunConfig, metrics: Path | None = None) -> int:
    """Train to the end as one rank; the exit code."""
    return int(pretrain.main(config, StandaloneLink(), pretrain.Options(metrics)))
