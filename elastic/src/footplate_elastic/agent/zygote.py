"""The process that ranks are forked from: everything imported, nothing started.

`import torch` and the trainer take seconds; a fork of a process that has done
it takes milliseconds. For that to be safe the zygote has one thread, so
OpenMP and OpenBLAS are held to one while they load, and it never touches CUDA.

It is driven over a socket of packets, descriptor 3 or as told, and reaps its
children: they are its own, so their ids cannot be used again before it says
so. Ranks die with the zygote, and the zygote with the agent.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from pathlib import Path
from typing import Any, Final, NoReturn

_PR_SET_PDEATHSIG: Final = 1
PACKET: Final = 256 * 1024
CONFIG_EXIT: Final = 78  # ExitCode.CONFIG; spelled here because contracts are imported later, if at all


def die_with_parent(parent: int) -> None:
    """Have this process killed (SIGKILL) when `parent` ends, also if it has ended already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def main(arguments: list[str]) -> int:
    """Run the zygote. `arguments`: descriptor of the socket, pid of the agent, modules to import."""
    control = socket.socket(fileno=int(arguments[0]))
    die_with_parent(int(arguments[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C is the agent's business
    started = time.monotonic()
    gc.disable()  # imports allocate much and free nothing: collections would cost a sixth of the time
    try:
        for name in arguments[2:]:
            importlib.import_module(name)
    except BaseException:  # noqa: BLE001 - the edge of the process: whatever it was, the agent reports it
        _say(control, {"failed": traceback.format_exc()[-4000:]})
        return CONFIG_EXIT
    gc.enable()
    gc.collect()
    gc.freeze()  # a collection in a rank would write to, and so copy, every shared page
    threads = sum(1 for _ in Path("/proc/self/task").iterdir())
    _say(control, {"ready": {"seconds": time.monotonic() - started, "threads": threads}})
    return _serve(control)


def _serve(control: socket.socket) -> int:
    children: set[int] = set()
    signal.signal(signal.SIGCHLD, lambda *_: None)  # only to interrupt nothing and fill the wake-up pipe
    reader, writer = os.pipe()
    os.set_blocking(reader, False)
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    poll = select.poll()
    poll.register(control, select.POLLIN)
    poll.register(reader, select.POLLIN)
    while True:
        ready = {descriptor for descriptor, _ in poll.poll()}
        if reader in ready:
            with contextlib.suppress(BlockingIOError):
                os.read(reader, 4096)
            _reap(control, children)
        if control.fileno() in ready:
            packet, descriptors, _, _ = socket.recv_fds(control, PACKET, 2)
            if not packet:
                return 0  # the agent has ended
            request: dict[str, Any] = json.loads(packet)
            if "kill" in request:
                _kill(request["kill"], request["signal"], children)
            else:
                children.add(_fork(control, request["fork"], descriptors))


def _fork(control: socket.socket, order: dict[str, Any], descriptors: list[int]) -> int:
    zygote = os.getpid()
    pid = os.fork()
    if pid == 0:
        signal.set_wakeup_fd(-1)
        control.close()
        die_with_parent(zygote)
        _become_rank(order, descriptors)
    for descriptor in descriptors:
        os.close(descriptor)
    _say(control, {"started": pid})
    return pid


def _kill(pid: int, number: int, children: set[int]) -> None:
    """Send a signal to a rank; a terminating one also to all processes that it started."""
    if pid in children and number == signal.SIGUSR1:
        os.kill(pid, number)
    elif pid in children:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, number)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)  # it may not have come to setsid yet


def _reap(control: socket.socket, children: set[int]) -> None:
    while children:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is None:
            return
        now = time.time()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(ended.si_pid, signal.SIGKILL)  # what it started; its id is not free before the wait
        _, status = os.waitpid(ended.si_pid, 0)
        children.discard(ended.si_pid)
        _say(control, {"exited": ended.si_pid, "code": os.waitstatus_to_exitcode(status), "time": now})


def _become_rank(order: dict[str, Any], descriptors: list[int]) -> NoReturn:
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for target, descriptor in enumerate(descriptors, start=1):
        os.dup2(descriptor, target)
        os.close(descriptor)
    for name in order["unset"]:
        os.environ.pop(name, None)
    os.environ.update(order["environment"])
    with contextlib.suppress(OSError):
        Path("/proc/self/comm").write_text(f"rank-{os.environ.get('RANK', '')}")  # what ps and top show
    faulthandler.register(signal.SIGUSR1, all_threads=True)  # works while the rank is blocked in C
    code = 1
    try:
        module, _, function = order["entry"].partition(":")
        code = int(getattr(importlib.import_module(module), function)() or 0)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001 - the edge of the process: the agent reads the error file
        traceback.print_exc()
        _record(error)
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _record(error: BaseException) -> None:
    """Write the error where torch's own agents look for it, unless the trainer did."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE", "")
    if not path or Path(path).exists():
        return
    told = {"message": f"{type(error).__name__}: {error}", "extraInfo": {"timestamp": time.time()}}
    with contextlib.suppress(OSError):
        Path(path).write_text(json.dumps({"message": told}))


def _say(control: socket.socket, message: dict[str, Any]) -> None:
    with contextlib.suppress(BrokenPipeError):
        control.send(json.dumps(message).encode())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
