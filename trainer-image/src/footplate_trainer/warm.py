"""Imports everything that a rank needs.

Imports are nearly all of a rank's start-up time. An agent runs one process
that imported this module, and forks ranks from it in milliseconds; so neither this module
nor its imports may start a thread or touch a device.
`fully_shard` and the distributed checkpoint import much of torch only on their
first call: the modules that they import are named here.
"""

from __future__ import annotations

import importlib

_MODULES = (
    "footplate_trainer.stages.programs",
    "numpy.ma",
    "numpy.random",
    "torch._dynamo",
    "torch.utils.serialization.config",
)

for _name in _MODULES:
    importlib.import_module(_name)
