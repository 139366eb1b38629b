"""torch's shared libraries, loaded while other threads go on.

`import torch` loads half a gigabyte of them under the interpreter's lock, and whoever speaks to the
coordinator meanwhile is silent: a third of a second on a free core, many on one that others want, too.
What is in memory already costs the import nothing. A call through ctypes gives the lock up, as an
import does not.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path
from typing import Final

# In torch's own order: what all depend on, CUDA's among them, then everything that `torch._C` is made of.
_LIBRARIES: Final = ("libtorch_global_deps.so", "libtorch_python.so")


def load() -> bool:
    """Whether all are in memory now; where one cannot be loaded, the import of torch says why."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    folder = Path(found.origin).parent / "lib"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    return all(dlopen(os.fsencode(folder / name), os.RTLD_NOW) is not None for name in _LIBRARIES)
