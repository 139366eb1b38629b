"""Lets ``python3 dev/cluster`` work before any virtual environment exists.

Python puts this very folder first on ``sys.path``; its parent belongs there instead, so that the
modules are ``cluster.*`` here, in the tests and in mypy alike.
"""

import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent)

from cluster.cli import main  # noqa: E402  (the line above makes it importable)

sys.exit(main(sys.argv[1:]))
