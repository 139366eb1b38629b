"""Build of a program, for records that another build may have to read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import metadata

from footplate_contracts.names import Env


def build_version(distribution: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the build of `distribution` that runs here: 0.3.0, or 0.3.0 (revision) if the image knows it."""
    version, revision = metadata.version(distribution), environment.get(Env.REVISION)
    return f"{version} ({revision})" if revision else version
