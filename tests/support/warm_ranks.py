"""All that the server imports which tests' ranks are forked from, in the way that an agent's zygote does.

A collection in a rank would go through all that was imported and copy its pages: 0.2 s of CPU and 60 MB.
What a rank runs stands in a test's module mostly, whose imports would cost each rank 0.1 s; and as much would
one that opens a model's folder pay for CEL's grammar and the CRD's rules.
"""

from __future__ import annotations

import gc
import importlib
from pathlib import Path

_MODULES = (
    "footplate_trainer.warm",
    "footplate_trainer.parallel.pipeline_parallel",
    "pytest",
    "tests.support.layouts",
    "tests.support.ranks",
    "tests.support.reinforced",
    "tests.support.training",
)

gc.disable()  # imports allocate much and free nothing
for _name in _MODULES:
    importlib.import_module(_name)
importlib.import_module("tests.support.tiny").tiny_config(Path("/shards"), Path("/run"))
gc.enable()
gc.collect()
gc.freeze()
