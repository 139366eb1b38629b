"""A module whose import goes wrong as often as a test wants; each try leaves a file.

`TEST_IMPORTS` names a folder. The n-th import of this module looks there for a file `kill-n` or
`raise-n`, and leaves `tried-n`.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

_folder = Path(os.environ["TEST_IMPORTS"])
_number = len(list(_folder.glob("tried-*"))) + 1
(_folder / f"tried-{_number}").touch()
if (_folder / f"kill-{_number}").exists():
    os.kill(os.getpid(), signal.SIGKILL)
if (_folder / f"raise-{_number}").exists():
    raise OSError(f"the file system was away at try {_number}")
