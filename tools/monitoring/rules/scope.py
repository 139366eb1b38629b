"""Has a rule look at the programs of its own release alone; pure.

Several releases may share a cluster and its Prometheus, and each brings the rules. Rules that looked at all
releases would record each series once for every release, and tell each alert as often. By a ServiceMonitor
`job` is the name of the Service, which begins with the name of the release: here as if that were `footplate`,
and the chart puts its own in the place of it.
"""

from __future__ import annotations

import re
from typing import Final

RELEASE: Final = "footplate"
OPERATOR: Final = f"{RELEASE}-operator"
API: Final = f"{RELEASE}-api"
_OURS: Final = re.compile(r"(?P<name>(?:\w+:)?footplate_[\w:]+)(?P<matchers>\{)?")


def scoped(expression: str) -> str:
    """`expression`, where every series of ours is of the job that has it.

    >>> scoped('footplate_runs{phase="Queued"} > 1')
    'footplate_runs{job="footplate-api",phase="Queued"} > 1'
    >>> scoped("max(footplate_operator_leader_election_master_status)")
    'max(footplate_operator_leader_election_master_status{job="footplate-operator"})'
    """
    return _OURS.sub(_with_job, expression)


def _with_job(found: re.Match[str]) -> str:
    job = OPERATOR if found["name"].startswith("footplate_operator") else API
    return f'{found["name"]}{{job="{job}"' + ("," if found["matchers"] else "}")
