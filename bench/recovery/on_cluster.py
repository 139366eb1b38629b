"""How long real pods on two nodes stand still after a fault, and where the time goes.

    python bench/recovery/on_cluster.py [--faults N] [--nodes [TEXT]]     needs `make install`

Kills a rank, and deletes a worker pod and the pod of worker 0, N times each in one run of 2 x 2 ranks.
The parts are read from what the programs say anyway: log lines with the kubelet's nanosecond time stamps,
and the metric row of the first step of the new generation. One machine, one clock.

With --nodes instead: nodes that lose their power, N times each (bench/recovery/nodes.py).

    detect          fault -> the coordinator opens a new generation
    pod start       the generation is open -> the substitute's agent is here (worker pod only)
    imports         it is here -> it is ready to be in a generation, as all others are
    rendezvous      all are ready -> the generation is sealed
    groups and load sealed -> ranks have formed their groups and loaded the checkpoint
    first step      loaded -> every rank has finished a step
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "dev")]

from bench.recovery import nodes  # noqa: E402

from demo.kube import Kube  # noqa: E402
from tests.support.placement import index_of  # noqa: E402
from tests.support.runs import Runs, changed, runs_in, tiny  # noqa: E402

NAMESPACE = "footplate-bench"
RUN = "recovery"
GREETING = r'message="run .* rank=0\b'  # rank 0 says what it trains, once it has loaded
READY = 'message="ready for a generation"'
PARTS = ("detect", "pod start", "imports", "rendezvous", "groups and load", "first step", "total")
KILL_A_RANK = """
import os, pathlib, signal
for process in pathlib.Path('/proc').glob('[0-9]*'):
    if (process / 'comm').read_text().startswith('rank-'):
        os.kill(int(process.name), signal.SIGKILL)
        raise SystemExit(0)
raise SystemExit('no rank found')
"""


@dataclass(frozen=True)
class Line:
    """One line of a pod's log."""

    time: float
    text: str


def log_lines(runs: Runs, pod: str) -> list[Line]:
    """The pod's log with the kubelet's time stamps, seconds since the Unix epoch."""
    text = runs.kube.kubectl("logs", pod, "-n", NAMESPACE, "--timestamps")
    lines = []
    for line in text.splitlines():
        stamp, _, rest = line.partition(" ")
        whole, _, fraction = stamp.rstrip("Z").partition(".")
        seconds = datetime.fromisoformat(whole + "+00:00").timestamp()
        lines.append(Line(seconds + float(f"0.{fraction or 0}"), rest))
    return lines


def first(lines: list[Line], pattern: str, after: float) -> Line | None:
    """The first line after a time that matches."""
    return next((line for line in lines if line.time > after and re.search(pattern, line.text)), None)


def measure(runs: Runs, fault: Callable[[], float], substitute: bool) -> dict[str, float]:
    """Does `fault`, which returns its time, waits until all ranks step, and takes the time apart."""
    at = fault()

    def recovered() -> dict[str, float] | None:
        coordinator = log_lines(runs, runs.pods(RUN, "coordinator")[-1]["metadata"]["name"])
        opened = first(coordinator, "opened a new generation", at)
        sealed = first(coordinator, "sealed generation", opened.time) if opened else None
        if opened is None or sealed is None:
            return None
        number = re.findall(r"sealed generation (\S+):", sealed.text)[0]
        workers = [log_lines(runs, pod["metadata"]["name"]) for pod in runs.pods(RUN)]
        loaded = [line for lines in workers if (line := first(lines, GREETING, sealed.time))]
        rows = [row for row in runs.metrics(RUN) if row["generation"] == number]
        if not loaded or not rows:
            return None
        here = [
            line.time for line in coordinator if re.search(' joined"', line.text) and line.time > opened.time
        ]
        complete = min(max([opened.time, *here]), sealed.time) if substitute else opened.time
        said = [line.time for lines in workers for line in lines if READY in line.text]
        ready = max([complete, *(time for time in said if time < sealed.time)])
        stepping = rows[0]["time"]
        return {
            "detect": opened.time - at,
            "pod start": complete - opened.time,
            "imports": ready - complete,
            "rendezvous": sealed.time - ready,
            "groups and load": loaded[0].time - sealed.time,
            "first step": stepping - loaded[0].time,
            "total": stepping - at,
        }

    return runs.until("all ranks to step again", recovered, RUN, seconds=60)


def kill_a_rank(runs: Runs) -> float:
    """SIGKILLs one rank of the first worker; the time at which that was done."""
    pod = runs.pods(RUN)[-1]["metadata"]["name"]
    script = KILL_A_RANK.replace(
        "raise SystemExit(0)", "import time; print(time.time()); raise SystemExit(0)"
    )
    return float(runs.kube.kubectl("exec", pod, "-n", NAMESPACE, "--", "python", "-c", script))


def delete_a_worker(runs: Runs, which: int = -1) -> float:
    """Deletes a running worker pod without grace; `which` in the order of places. The time just before."""
    running = [pod for pod in runs.pods(RUN) if pod["status"]["phase"] == "Running"]
    at = time.time()
    name = sorted(running, key=index_of)[which]["metadata"]["name"]
    runs.kube.kubectl("delete", "pod", name, "-n", NAMESPACE, "--grace-period=0", "--force", "--wait=false")
    return at


def table(title: str, rows: list[dict[str, float]]) -> str:
    """Medians and ranges of each part, in seconds."""
    lines = [f"{title} ({len(rows)} times; seconds: median, min, max)"]
    for part in PARTS:
        values = [row[part] for row in rows]
        lines.append(f"  {part:<16} {statistics.median(values):7.2f} {min(values):7.2f} {max(values):7.2f}")
    return "\n".join(lines)


def main() -> int:
    """Prints the tables and the bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--faults", type=int, default=5, help="faults of each kind (default %(default)s)")
    said = "nodes that lose their power, instead: all cases, or those whose title has TEXT in it"
    parser.add_argument("--nodes", nargs="?", const="", metavar="TEXT", help=said)
    options = parser.parse_args()
    try:
        cases = None if options.nodes is None else nodes.named(options.nodes)
    except ValueError as error:
        parser.error(f"--nodes {error}")
    kube = Kube.of_cluster_tool()
    with runs_in(kube, NAMESPACE, wait=True) as runs:
        if cases is not None:
            nodes.compare(kube, runs, options.faults, cases)
        else:
            _pods(runs, options.faults)
    return 0


def _pods(runs: Runs, faults: int) -> None:
    run = changed(tiny(RUN, NAMESPACE, steps=100_000), "checkpoint.everySteps", 20)
    run = changed(run, "resilience", {"restartLimits": {"UserError": 1000}})
    applied = time.time()
    runs.apply(run)
    rows = runs.until("a history", lambda: runs.metrics_or_none(RUN) or None, RUN, seconds=90)
    print(f"apply -> first training step: {rows[0]['time'] - applied:.1f} s (bar 20 s)")
    kinds: dict[str, tuple[Callable[[], float], bool]] = {
        "rank killed -> all 4 ranks stepping; bar 1.2 s": (lambda: kill_a_rank(runs), False),
        "worker deleted -> all stepping with its substitute; bar 5.5 s": (
            lambda: delete_a_worker(runs),
            True,
        ),
        "pod 0 deleted; bar 1.1 x worker": (lambda: delete_a_worker(runs, which=0), True),
    }
    results: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
    for _ in range(faults):
        for kind, (fault, substitute) in kinds.items():
            runs.wait_step(RUN, runs.status(RUN)["progress"]["step"] + 25)
            results[kind].append(measure(runs, fault, substitute))
    for kind, found in results.items():
        print(table(kind, found))
    print(
        "bars of the parts: detect 1 s, pod start and imports 5 s, rendezvous 0.5 s, groups to first step 3 s"
    )


if __name__ == "__main__":
    sys.exit(main())
