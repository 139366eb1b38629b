"""A pytest plugin: nobody imports torch, which would take half of the seconds of the tests without it."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder
from typing import Any


class _Refusal(MetaPathFinder):
    def find_spec(self, fullname: str, *_: Any) -> None:
        if fullname == "torch":
            raise ImportError("tests that import torch are listed in TORCH_TESTS of the Makefile")


sys.meta_path.insert(0, _Refusal())
