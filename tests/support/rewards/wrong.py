"""Reward functions, most of which do something that they should not.

Their processes import this as module `wrong`, so it stands alone. An answer `bad` is what they
stumble over; `folder` is a column that says where they may leave word.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

kept: list[object] = []


def right(texts: list[str], answer: list[str]) -> list[bool]:
    return [text == expected for text, expected in zip(texts, answer, strict=True)]


def counts(texts: list[str], folder: list[str]) -> list[int]:
    with (Path(folder[0]) / "asked").open("a") as asked:
        asked.writelines(f"{text}\n" for text in texts)
    return [len(text) for text in texts]


def sums(texts: list[str], folder: list[str]) -> list[int]:
    with (Path(folder[0]) / "asked").open("a") as asked:
        asked.write("." * len(texts))
    return [len(text) for text in texts]


async def waits(texts: list[str]) -> list[float]:
    async def one(text: str) -> float:
        await asyncio.sleep(0.2)
        return float(len(text))

    return list(await asyncio.gather(*map(one, texts)))


def raises(texts: list[str]) -> list[float]:
    if "bad" in texts:
        raise ValueError("a bad answer,\nin two lines")
    return [1.0] * len(texts)


def exits(texts: list[str]) -> list[float]:
    return _unless_bad(texts, lambda: os._exit(3))


def leaves(texts: list[str]) -> list[float]:
    return _unless_bad(texts, lambda: sys.exit("enough"))


def dies(texts: list[str]) -> list[float]:
    return _unless_bad(texts, lambda: os.kill(os.getpid(), signal.SIGSEGV))


def sleeps(texts: list[str], folder: list[str]) -> list[float]:
    if "bad" in texts:
        (Path(folder[0]) / "asleep").write_text(str(os.getpid()))
        time.sleep(600)
    return [1.0] * len(texts)


def not_a_number(texts: list[str]) -> list[float]:
    return [float("nan") if text == "bad" else 1.0 for text in texts]


def huge(texts: list[str]) -> list[float]:
    return [-1e308 if text == "bad" else 1e12 for text in texts]


def wide(completions: list[list[dict[str, str]]]) -> list[float]:
    """Of answers to conversations, as TRL's functions are given them."""
    return [1e12 if len(message["content"]) % 2 else -1e12 for [message] in completions]


def too_wide(texts: list[str]) -> list[float]:
    return [1e308 if len(text) % 2 else -1e308 for text in texts]


def too_few(texts: list[str]) -> list[float]:
    return [1.0] * (len(texts) - 1)


def prints(texts: list[str]) -> list[float]:
    for number in range(20_000):
        print(f"line {number}", "x" * 100)
    print("\x1b[31mred", file=sys.stderr)
    os.write(1, b"\xff no line end")
    return [1.0] * len(texts)


def leaks(texts: list[str]) -> list[float]:
    import numpy as np

    while "bad" in texts:
        kept.append(
            np.zeros(1 << 28, dtype=np.uint8)
        )  # which takes addresses, and no memory before it is used
    return [float(len(kept))] * len(texts)


def forks(texts: list[str], folder: list[str]) -> list[float]:
    """One child answers, too; another one sleeps."""
    if os.fork() == 0:
        return [-1.0] * len(texts)
    if (child := os.fork()) == 0:
        time.sleep(600)
    (Path(folder[0]) / "child").write_text(str(child))
    return [1.0] * len(texts)


def closes(texts: list[str]) -> list[float]:
    return _unless_bad(texts, lambda: os.closerange(3, 100))


def closes_and_stays(texts: list[str]) -> list[float]:
    def close() -> None:
        os.closerange(3, 100)
        time.sleep(600)

    return _unless_bad(texts, close)


def scribbles(texts: list[str]) -> list[float]:
    def write() -> None:
        for descriptor in range(3, 20):
            try:
                os.write(descriptor, b"\x00" * 7 + b"\x04true")
            except OSError:
                continue

    return _unless_bad(texts, write)


def looks(texts: list[str], folder: list[str]) -> list[float]:
    """Leaves word of all that it can see of the rank."""
    files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.exists()]
    (Path(folder[0]) / "seen").write_text(json.dumps([dict(os.environ), files]))
    return [0.0] * len(texts)


def wants(texts: list[str], difficulty: list[float]) -> list[float]:
    return difficulty


number = 5


def _unless_bad(texts: list[str], do: Callable[[], Any]) -> list[float]:
    if "bad" in texts:
        do()
    return [1.0] * len(texts)


def tells_its_key(texts: list[str]) -> list[str]:
    key = os.environ["JUDGE_KEY"]
    print("calling with", key, flush=True)
    if "bad" in texts:
        raise RuntimeError("x" * 270 + key)
    return [f"401 for {key}"] * len(texts)
