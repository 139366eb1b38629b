"""Every status that runs of a namespace ever had, with the moment at which it was seen.

A watch and no polling: the moment is exact, and eight runs side by side cost no more than one.
"""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from tests.support.runs import Json

_RENEWED: Final = 60  # seconds after which a watch is begun anew, whatever came of it
_PAUSE: Final = 0.2  # seconds before it is begun anew after a failure


@dataclass(frozen=True)
class Seen:
    """A status, and when it was seen (Unix time)."""

    time: float
    status: Json

    @property
    def phase(self) -> str:
        """Of the run."""
        return str(self.status.get("phase", ""))


class Watch:
    """A thread that follows the runs of one namespace through `kubectl proxy`."""

    def __init__(self, host: str, port: int, namespace: str) -> None:
        self._where = (host, port)
        self._path = f"/apis/footplate.dev/v1alpha1/namespaces/{namespace}/trainingruns?watch=1"
        self._seen: dict[str, list[Seen]] = defaultdict(list)
        self._news = threading.Condition()
        self._over = False
        self._thread = threading.Thread(target=self._follow, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """End it; the thread ends with its connection."""
        self._over = True

    def history(self, name: str) -> list[Seen]:
        """What was seen of a run, oldest first."""
        with self._news:
            return list(self._seen[name])

    def status(self, name: str) -> Json:
        """The newest status; empty before there was one."""
        with self._news:
            seen = self._seen[name]
            return seen[-1].status if seen else {}

    def until(self, name: str, reached: Callable[[Json], Any], seconds: float) -> Json:
        """The first status that has `reached` it.

        Raises AssertionError once the run has ended otherwise, and TimeoutError with the newest status
        after `seconds`.
        """
        deadline = time.monotonic() + seconds
        with self._news:
            while True:
                status = self._seen[name][-1].status if self._seen[name] else {}
                if reached(status):
                    return status
                assert status.get("phase") not in ("Succeeded", "Failed"), f"{name} ended: {told(status)}"
                rest = deadline - time.monotonic()
                if rest <= 0:
                    raise TimeoutError(f"{name} after {seconds:.0f} s: {told(status)}")
                self._news.wait(rest)

    def _follow(self) -> None:
        while not self._over:
            with suppress(OSError, http.client.HTTPException, ValueError):
                self._read()
            time.sleep(_PAUSE)

    def _read(self) -> None:
        connection = http.client.HTTPConnection(*self._where, timeout=_RENEWED + 5)
        try:
            connection.request("GET", f"{self._path}&timeoutSeconds={_RENEWED}")
            answer = connection.getresponse()
            while answer.status == http.HTTPStatus.OK and not self._over and (line := answer.readline()):
                event = json.loads(line)
                if event["type"] in ("ADDED", "MODIFIED"):
                    self._note(event["object"])
        finally:
            connection.close()

    def _note(self, run: Json) -> None:
        name, status = run["metadata"]["name"], run.get("status", {})
        with self._news:
            seen = self._seen[name]
            if not seen or seen[-1].status != status:
                seen.append(Seen(time.time(), status))
                self._news.notify_all()


def told(status: Json) -> str:
    """A status in a line, as a person looks at it first."""
    step = status.get("progress", {}).get("step", 0)
    false = [
        f"{item['type']}={item['status']} {item['reason']}: {item['message']}"
        for item in status.get("conditions", [])
        if item["status"] != "True"
    ]
    return f"{status.get('phase')}, step {step}, {status.get('failures')}; {'; '.join(false)}"
