"""All that the server imports which tests' ranks are forked from, in the way that an agent's zygote does.

A collection in a rank would go through all that was imported and copy its pages: 0.2 s of CPU and 60 MB.
"""

from __future__ import annotations

import gc
import importlib

gc.disable()  # imports allocate much and free nothing
for _name in ("footplate_trainer.warm", "tests.support.ranks"):
    importlib.import_module(_name)
gc.enable()
gc.collect()
gc.freeze()
