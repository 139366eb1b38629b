"""The operator, which looks at records of usage as soon as it leads, and at certificates every second."""

from __future__ import annotations

from footplate_operator import __main__ as operator
from footplate_operator.runtime import periodic_checks
from footplate_operator.usage import sweep


def main() -> int:
    vars(sweep)["FIRST_SECONDS"] = 2
    vars(periodic_checks)["LOOK_SECONDS"] = 1.0
    return operator.main()
