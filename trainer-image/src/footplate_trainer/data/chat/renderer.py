"""Renders conversations in a process that can be killed.

Nothing inside an interpreter can stop a template that loops, or a template that multiplies a text until
memory is exhausted. So templates run in a process of their own, with limits of CPU time and memory in the
kernel. Its environment is empty, and so has no credentials; it writes no file. The sandbox limits what a
template may read and call (`template`).

Lines of JSON go in and out: first the template and its settings, then many conversations in one line, each
answered by a line of its own.
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime
from types import TracebackType
from typing import IO, Any, Final, Self

from footplate_trainer.data.chat.template import (
    MOST_CHARACTERS,
    ChatTemplate,
    Conversation,
    ConversationPrefix,
    ConversationRefused,
    PrefixEnding,
    RenderedText,
    TemplateFault,
)
from footplate_trainer.process_limits import set_rlimit

SECONDS: Final = 10  # of the CPU, for a part of one conversation: then its template loops; and for all parts
MOST_TOGETHER: Final = 2 * MOST_CHARACTERS  # in all parts of one conversation
_BYTES: Final = 1 << 30  # of address space


@dataclass(frozen=True)
class RenderRequest:
    """A conversation, and the parts of it to render."""

    conversation: Conversation
    parts: Sequence[ConversationPrefix]


Answer = list[RenderedText] | ConversationRefused
# Renders each request, wherever that is done; raises TemplateFault at the one that it is about.
Render = Callable[[Sequence[RenderRequest]], Iterator[Answer]]


def in_process_renderer(template: ChatTemplate) -> Render:
    """Return a function that renders in this process, without limits."""

    def render(requests: Sequence[RenderRequest]) -> Iterator[Answer]:
        for request in requests:
            try:
                yield _rendered(template, request)
            except ConversationRefused as refused:
                yield refused

    return render


class Renderer:
    """A renderer in another process; a context manager that ends it."""

    def __init__(
        self,
        source: str,
        name: str,
        special: dict[str, Any] | None = None,
        now: datetime | None = None,
        seconds: int = SECONDS,
    ) -> None:
        """Start the process; arguments as in ChatTemplate. TemplateFault if the template cannot be read."""
        self._name = name
        self._seconds = seconds
        self._set_up = {
            "source": source,
            "name": name,
            "special": special or {},
            "now": (now or datetime.now()).isoformat(),
            "seconds": seconds,
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def __call__(self, requests: Sequence[RenderRequest]) -> Iterator[Answer]:
        """See Render."""
        if self._process is None:
            self._start()
        self._tell([asdict(request) for request in requests])
        for _ in requests:
            kind, content = self._answer()
            if kind == "refused":
                yield ConversationRefused(content)
            else:
                yield [RenderedText(text, tuple((a, b) for a, b in spans)) for text, spans in content]

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-m", __spec__.name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={},
        )
        self._tell(self._set_up)
        self._answer()

    def _tell(self, told: object) -> None:
        assert self._process is not None and self._process.stdin is not None
        # What it says of its end is read below, as an answer that is missing.
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(told).encode() + b"\n")
            self._process.stdin.flush()

    def _answer(self) -> tuple[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise self._ended(self._process)
        kind, content = json.loads(line)
        if kind == "fault":
            self._end()
            raise TemplateFault(content)
        return kind, content

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _ended(self, process: subprocess.Popen[bytes]) -> TemplateFault:
        process.communicate()
        self._process = None
        code = process.returncode
        if code in (-signal.SIGXCPU, -signal.SIGKILL):
            what = f"takes more than {self._seconds} seconds for one text, probably in a loop"
        else:
            what = f"ended the process that renders it (code {code})"
        return TemplateFault(f"chat template {self._name} {what}; pass another one as --chat-template")


def serve(lines: IO[bytes], out: IO[bytes], bound: Callable[[int], None]) -> None:
    """Answer each line of `lines` on `out`; calls `bound(seconds)` before each part of a conversation."""

    def answer(kind: str, content: object) -> None:
        out.write(json.dumps([kind, content]).encode() + b"\n")
        out.flush()

    told = json.loads(lines.readline())
    seconds, now = told.pop("seconds"), datetime.fromisoformat(told.pop("now"))
    try:
        template = ChatTemplate(**told, now=now)
    except TemplateFault as fault:
        answer("fault", str(fault))
        return
    answer("ready", None)
    for line in lines:
        for request in json.loads(line):
            conversation = Conversation(**request["conversation"])
            parts = [
                ConversationPrefix(part["turns"], PrefixEnding(part["ending"])) for part in request["parts"]
            ]
            try:
                rendered = _rendered(template, RenderRequest(conversation, parts), seconds, bound)
            except ConversationRefused as refused:
                answer("refused", str(refused))
            except TemplateFault as fault:
                answer("fault", str(fault))
            else:
                answer("texts", [[text.text, text.generated] for text in rendered])


def _rendered(
    template: ChatTemplate,
    request: RenderRequest,
    seconds: int | None = None,
    bound: Callable[[int], None] = lambda _: None,
) -> list[RenderedText]:
    """Render all parts of a conversation; ConversationRefused if they are too much together.

    A conversation of n turns may have 2n parts, each with all the turns before it: a long time is then not
    the template's fault.
    """
    rendered: list[RenderedText] = []
    characters, begun = 0, time.process_time()
    for part in request.parts:
        if seconds is not None:
            bound(seconds)
        rendered.append(template.render(request.conversation, part))
        characters += len(rendered[-1].text)
        much = f"has more than {MOST_TOGETHER:,} characters" if characters > MOST_TOGETHER else ""
        if seconds is not None and time.process_time() - begun > seconds:
            much = f"takes more than {seconds} seconds"
        if much and len(request.parts) > 1:
            raise ConversationRefused(
                f"its {len(request.conversation.messages)} turns must be rendered one by one, as chat "
                f"template {template.name} has no {{% generation %}}, and that {much}; cut the conversation, "
                "train on its last turn only (--mask completion), or pass a template that marks answers as "
                "--chat-template"
            )
    return rendered


def _bound(seconds: int) -> None:
    """Limit the process to some `seconds` more of CPU time."""
    set_rlimit(resource.RLIMIT_CPU, int(time.process_time()) + 1 + seconds)


if __name__ == "__main__":
    set_rlimit(resource.RLIMIT_CORE, 0)
    set_rlimit(resource.RLIMIT_FSIZE, 0)
    set_rlimit(resource.RLIMIT_AS, _BYTES)
    serve(sys.stdin.buffer, sys.stdout.buffer, _bound)
