"""Prints what distributions need from elsewhere: `requirements.py PYPROJECT[:EXTRA]...`.

Runs inside image builds, where our own distributions are installed from source and everything
else comes in layers below them.
"""

import sys
import tomllib
from pathlib import Path

OURS = "footplate-"

wanted: set[str] = set()
for argument in sys.argv[1:]:
    path, _, extra = argument.partition(":")
    project = tomllib.loads(Path(path).read_text())["project"]
    wanted.update(project["dependencies"])
    if extra:
        wanted.update(project["optional-dependencies"][extra])
print(*sorted(requirement for requirement in wanted if not requirement.startswith(OURS)), sep="\n")
