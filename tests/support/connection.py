"""One connection to an API server, for what tests ask of it all the time.

A kubectl takes up to a quarter of a second of a core to start; these machines have two.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient
from kubernetes.config import new_client_from_config

Json = dict[str, Any]
_IMPERSONATION = {"--as": "Impersonate-User", "--as-group": "Impersonate-Group"}


def ask(
    kubeconfig: Path, method: str, path: str, body: Json | None = None, who: Sequence[str] = ()
) -> tuple[int, Json]:
    """Status code and decoded answer of a request to the server that `kubeconfig` names; a PATCH merges.

    `who` are kubectl's flags that say as whom: `--as=NAME` and one `--as-group=GROUP` at most.
    """
    client = _client(kubeconfig)
    kind = "merge-patch+json" if method == "PATCH" else "json"
    whom = {_IMPERSONATION[flag]: name for flag, _, name in (part.partition("=") for part in who)}
    answer = client.call_api(
        method,
        client.configuration.host + path,
        header_params={"Accept": "application/json", "Content-Type": f"application/{kind}", **whom},
        body=body,
    )
    decoded: Json = json.loads(answer.read())
    return answer.status, decoded


def refused(status: int) -> bool:
    """Whether the server answered with an error."""
    return status >= HTTPStatus.BAD_REQUEST


@cache
def _client(kubeconfig: Path) -> ApiClient:
    """One for all threads: it keeps its connections."""
    return new_client_from_config(str(kubeconfig))
