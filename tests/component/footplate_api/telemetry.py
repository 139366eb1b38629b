"""A run whose telemetry is sent and read back over HTTP."""

from __future__ import annotations

from typing import Any

from tests.component.footplate_api.builders import RUNS
from tests.component.footplate_api.conftest import Api

GPT = f"{RUNS}/gpt"


async def created(api: Api, name: str = "gpt") -> str:
    """The uid of a new run."""
    answer = await api.client.post(RUNS, json={"metadata": {"name": name}, "spec": {}})
    return str(answer.json()["uid"])


async def sent(api: Api, body: dict[str, Any]) -> Any:
    """The receipt of a batch of the run gpt."""
    headers = await api.coordinator(body["runUid"])
    answer = await api.client.post(f"{GPT}/telemetry", json=body, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def history(api: Api, **parameters: Any) -> Any:
    """The history of the run gpt."""
    answer = await api.client.get(f"{GPT}/metrics", params=parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()
