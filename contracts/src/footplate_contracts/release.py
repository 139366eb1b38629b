"""Which build of a program wrote something that another build may have to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata

from footplate_contracts.names import Env


def release(distribution: str, environment: Mapping[str, str] = os.environ) -> str:
    """The build of `distribution` that runs here: 0.3.0, or 0.3.0 (its revision) where the image knows it."""
    version, revision = metadata.version(distribution), environment.get(Env.REVISION)
    return f"{version} ({revision})" if revision else version
