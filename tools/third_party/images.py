"""What each image is made of, as its Dockerfile says.

An image's build resolves what our distributions need under constraints.txt. Here the same follows from the
metadata of the packages in this environment, which the same constraints pinned, so nothing is asked of an
index.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT: Final = Path(__file__).resolve().parents[2]
# What runs in an image, whatever runs this.
IMAGE_ENVIRONMENT: Final = {
    "implementation_name": "cpython",
    "os_name": "posix",
    "platform_machine": "x86_64",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": "3.11.2",
    "python_version": "3.11",
    "sys_platform": "linux",
}
_CONTINUED: Final = re.compile(r"\\\n\s*")
_RESOLVED: Final = re.compile(r"python3 requirements\.py ([^>\n]*?) > ")
_OURS: Final = re.compile(r"^COPY (\S+) /src/(\S+)$", re.M)
_DEBIAN: Final = re.compile(r"apt-get install -qq -y --no-install-recommends ([a-z0-9][^&$]*?) &&")


class OtherEnvironment(Exception):
    """The packages in this environment are not those of the images, so nothing can be read in them."""


def require_machine(system: str, machine: str) -> None:
    """Raises OtherEnvironment where wheels are not those of images: they differ in files and metadata."""
    wanted = IMAGE_ENVIRONMENT["platform_system"], IMAGE_ENVIRONMENT["platform_machine"]
    if (system, machine) != wanted:
        raise OtherEnvironment(
            f"docs/third-party/ cannot be made here: it is read in the packages of this environment, which "
            f"are for {system} on {machine or 'an unknown machine'}, and images have those for "
            f"{' on '.join(wanted)}. Torch, for one, needs NVIDIA's packages there and not everywhere. "
            f"Run this on such a machine"
        )


def require_this_machine() -> None:
    """The same of the machine that runs this."""
    require_machine(platform.system(), platform.machine())


def dockerfiles() -> dict[str, str]:
    """The text of each image's Dockerfile, with its lines joined where they go on."""
    table = tomllib.loads((ROOT / "dev" / "cluster" / "images" / "images.toml").read_text())
    return {name: _CONTINUED.sub(" ", (ROOT / row["dockerfile"]).read_text()) for name, row in table.items()}


def own_parts(dockerfile: str) -> list[str]:
    """The folders of our own distributions in an image."""
    return [folder for folder, _ in _OURS.findall(dockerfile)]


def debian_packages(dockerfile: str) -> list[str]:
    """What a Dockerfile installs from Debian beyond its base; build arguments are left out."""
    return sorted(name for names in _DEBIAN.findall(dockerfile) for name in names.split())


def requirements(dockerfile: str) -> list[Requirement]:
    """What an image's build resolves, by the program that the build runs."""
    [arguments] = _RESOLVED.findall(dockerfile)
    command = [sys.executable, "dev/images/requirements.py", *arguments.split()]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return [Requirement(line) for line in printed.splitlines()]


@cache
def needs_of(name: str) -> Sequence[str]:
    """What an installed distribution requires, markers and all.

    Raises:
        OtherEnvironment: an image has it, and this environment does not.
    """
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        raise OtherEnvironment(
            f"docs/third-party/ cannot be made here: an image has the package {name}, which this environment "
            f"has not. `make venv` installs what constraints.txt pins for {platform.system()} on "
            f"{platform.machine()}"
        ) from None


def closure(
    wanted: Iterable[Requirement],
    needs: Callable[[str], Sequence[str]] = needs_of,
    environment: Mapping[str, str] = IMAGE_ENVIRONMENT,
) -> list[str]:
    """Canonical names of `wanted` and of all that they need in an image, sorted."""
    seen: set[tuple[str, str]] = set()
    left = list(wanted)
    while left:
        requirement = left.pop()
        name = canonicalize_name(requirement.name)
        for extra in {"", *requirement.extras}:
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            for line in needs(name):
                needed = Requirement(line)
                if needed.marker is None or needed.marker.evaluate({**environment, "extra": extra}):
                    left.append(needed)
    return sorted({name for name, _ in seen})


@cache
def packages(dockerfile: str) -> list[str]:
    """The Python packages of an image that are not ours."""
    return closure(requirements(dockerfile))
