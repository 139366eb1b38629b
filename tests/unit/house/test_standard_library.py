"""The folder operator/ must never become the module `operator`."""

from __future__ import annotations

import operator
import sysconfig
from pathlib import Path


def test_operator_is_still_the_standard_librarys() -> None:
    assert Path(operator.__file__).parent == Path(sysconfig.get_path("stdlib"))
    assert operator.add(1, 2) == 3
