"""torch's shared libraries, loaded while other threads go on.

`import torch` loads half a gigabyte of them under the interpreter's lock, and meanwhile the threads that talk
to the coordinator are silent: a third of a second on a free core, many on one that others want, too.
Libraries that are in memory already cost the import nothing. A call through ctypes releases the lock, which
an import does not.
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
    """Return whether all libraries are loaded now; where one cannot be, the import of torch says why."""
    found = importlib.util.find_spec("torch")
    if found is None or found.origin is None:
        return False
    folder = Path(found.origin).parent / "lib"
    dlopen = ctypes.CDLL(None).dlopen
    dlopen.argtypes, dlopen.restype = [ctypes.c_char_p, ctypes.c_int], ctypes.c_void_p
    return all(dlopen(os.fsencode(folder / name), os.RTLD_NOW) is not None for name in _LIBRARIES)
