"""Scripts that print the project's figures; each is run as ``python -m bench.<area>.<script>``."""

import sys
from pathlib import Path

# The tools of the development cluster are no installed package.
sys.path.append(str(Path(__file__).resolve().parents[1] / "dev"))
