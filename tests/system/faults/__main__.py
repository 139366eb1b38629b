"""`make faults`: every cell of the matrix, simulated and on pods, and the page of what came of them.

    python -m tests.system.faults [--family F] [--fault NAME] [--phase P]... [--where W] [--sample] [--again]
        [--page]
    python -m tests.system.faults --only-page | --proven

What has been played on these trees of the product is not played again, unless it is red and `--again` asks
for it. The page is written when nothing was chosen, after the sample, and when `--page` asks for it: what was
not played on these trees stays there, as stale. `--only-page` writes it and plays nothing; `--proven` fails
unless the record has the sample, green and of these trees.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from demo.kube import ROOT, Kube
from footplate_contracts.v1alpha1.training import Stage
from tests.support.matrix import CELLS, FAULTS, POD_CELLS, SAMPLE, Family, Phase
from tests.support.settle import settle
from tests.support.simulation import virtual_loop
from tests.support.simulation.cells import play as play_simulated
from tests.support.simulation.world import Simulation
from tests.system.faults import page
from tests.system.faults.evidence import product_trees, unproven
from tests.system.faults.ground import Ground, cluster, ground_in
from tests.system.faults.over_cluster import CLUSTER
from tests.system.faults.play import play, undisturbed
from tests.system.faults.results import (
    HISTORIES,
    PAGE,
    PODS,
    RANDOM,
    SIMULATED,
    Kept,
    Key,
    Result,
    missing,
    record,
    recorded,
)
from tests.system.faults.scenes import Cell, scenes
from tests.system.faults.training import stage_of

NAMESPACE: Final = "footplate-faults"


def main() -> int:
    """The exit status: 1 where a cell or a history is red."""
    arguments = _parser().parse_args()
    kept = Kept(product_trees())
    if arguments.proven:
        return _proven(kept.trees)
    if arguments.only_page:
        _write_page(kept)
        return 0
    print(f"results are kept in {kept.folder}", flush=True)
    chosen = [cell for cell in CELLS if _chosen(cell, arguments)]
    on_pods = [cell for cell in POD_CELLS if cell in chosen]
    if arguments.sample:
        on_pods = [(FAULTS[name], phase) for name, phase in SAMPLE]
    elif arguments.where != PODS:
        _simulated(_to_play(chosen, SIMULATED, kept, arguments.again), kept)
    if not _partial(arguments):
        _histories(kept)
    if arguments.where != SIMULATED:
        _on_pods(_to_play(on_pods, PODS, kept, arguments.again), kept)
    results = kept.read()
    if arguments.page or arguments.sample or not _partial(arguments):
        _write_page(kept)
    played = [result for result in results.values() if _mine(result, chosen, on_pods)]
    if not _partial(arguments):
        played.append(results[RANDOM])
    red = [result for result in played if not result.green]
    print(f"{len(played) - len(red)} green, {len(red)} red", flush=True)
    return 1 if red else 0


def _proven(trees: Mapping[str, str]) -> int:
    """The exit status: 1 where a cell of the sample is not green on `trees`."""
    found = unproven(SAMPLE, recorded(), trees)
    for line in found:
        print(line)
    if found:
        print(f"{len(found)} of {len(SAMPLE)} cells prove nothing of this product: run `make faults-sample`")
    return 1 if found else 0


def _write_page(kept: Kept) -> None:
    """The page and what it is made of: these results, and what was recorded of other cells."""
    known: dict[Key, Result] = {**recorded(), **kept.read()}
    keys = [RANDOM]
    for where, cells in ((SIMULATED, CELLS), (PODS, POD_CELLS)):
        keys += [(fault.name, phase.value, where) for fault, phase in cells]
    there = {key: known[key] for key in keys if key in known}
    record(there.values())
    made = page.Made(datetime.now(UTC), _machine(), kept.trees)
    (ROOT / PAGE).write_text(page.page(there, made))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--family", choices=[family.value for family in Family], help="of faults")
    parser.add_argument("--fault", choices=list(FAULTS), help="by its name")
    phases = [phase.value for phase in Phase]
    parser.add_argument("--phase", choices=phases, action="append", help="of the run; several are played")
    parser.add_argument("--where", choices=[SIMULATED, PODS], help="there alone")
    parser.add_argument("--sample", action="store_true", help="a fixed choice, on pods only")
    parser.add_argument("--again", action="store_true", help="what is red, too")
    parser.add_argument("--page", action="store_true", help="write the page, whatever was chosen")
    parser.add_argument("--only-page", action="store_true", help="write the page, and play nothing")
    parser.add_argument(
        "--proven", action="store_true", help="check that the recorded sample is fresh and green"
    )
    return parser


def _partial(arguments: argparse.Namespace) -> bool:
    chosen = arguments.family, arguments.fault, arguments.phase, arguments.where, arguments.sample
    return any(chosen)


def _chosen(cell: Cell, arguments: argparse.Namespace) -> bool:
    fault, phase = cell
    return (
        arguments.family in (None, fault.family.value)
        and arguments.fault in (None, fault.name)
        and (arguments.phase is None or phase.value in arguments.phase)
    )


def _mine(result: Result, simulated: Sequence[Cell], on_pods: Sequence[Cell]) -> bool:
    cells = on_pods if result.where == PODS else simulated
    return (FAULTS.get(result.fault), result.phase) in cells


def _to_play(cells: Sequence[Cell], where: str, kept: Kept, again: bool) -> list[Cell]:
    names = [(fault.name, phase.value) for fault, phase in cells]
    wanted = missing(names, where, kept.read(), again)
    return [(FAULTS[name], Phase(phase)) for name, phase in wanted]


def _machine() -> str:
    return f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores"


# -- simulated -----------------------------------------------------------------------------


def _simulated(cells: Sequence[Cell], kept: Kept) -> None:
    with ProcessPoolExecutor() as pool:
        names = [(fault.name, phase.value) for fault, phase in cells]
        for result in pool.map(_simulate, names):
            kept.add([result])
            _print(result)


def _simulate(cell: tuple[str, str]) -> Result:
    """Play one cell in this process."""
    logging.disable(logging.CRITICAL)  # a thousand warnings, all of which are meant
    name, phase = cell
    result = Result(name, phase, SIMULATED)

    async def whole() -> None:
        outcome = await play_simulated(Simulation(0, nodes=7), FAULTS[name], Phase(phase))
        result.seconds, result.causes = outcome.seconds, list(outcome.causes)
        result.detected = outcome.detected

    try:
        virtual_loop.run(whole())
    except Exception as error:  # noqa: BLE001 - the edge of a cell: whatever it was makes this one red
        result.error = f"{type(error).__name__}: {error}"
    return result


def _histories(kept: Kept) -> None:
    """The random ones, unless they have ended well already."""
    known = kept.read().get(RANDOM)
    if known is not None and known.green:
        return
    command = [sys.executable, "-m", "pytest", "tests/simulation/test_histories.py", "-q"]
    environment = os.environ | {"HISTORIES": str(HISTORIES)}
    ended = subprocess.run(
        [*command, "--numprocesses", "2", "--dist", "worksteal"], cwd=ROOT, check=False, env=environment
    ).returncode
    kept.add([Result(*RANDOM, error=f"pytest ended with {ended}" if ended else "")])


# -- on pods -------------------------------------------------------------------------------


def _on_pods(cells: Sequence[Cell], kept: Kept) -> None:
    if not cells:
        return
    kube = Kube.of_cluster_tool()
    with _whole(kube), ground_in(kube, NAMESPACE) as ground:
        stages = dict.fromkeys(stage_of(phase) for _, phase in cells)
        expected = {stage: _expected(ground, kept, stage) for stage in stages}
        for number, scene in enumerate(scenes(cells, CLUSTER.keys())):
            begun = time.monotonic()
            mark = f"{int(time.time()) % 100_000:05d}"
            results = play(ground, scene, expected, mark)
            kept.add(results)
            for result in results:
                _print(result)
            print(f"scene {number + 1}: {time.monotonic() - begun:.0f} s", flush=True)
            if any(fault.name in CLUSTER for fault, _ in scene):
                _mend(kube)


@contextmanager
def _whole(kube: Kube) -> Iterator[None]:
    """The cluster is whole when the block begins, and again after it."""
    _mend(kube)
    try:
        yield
    finally:
        _mend(kube)


def _mend(kube: Kube) -> None:
    cluster("up")
    settle(kube)


def _expected(ground: Ground, kept: Kept, stage: Stage) -> list[dict[str, object]]:
    """The history of a run of `stage` that nothing happens to."""
    file = kept.folder / f"undisturbed-{stage.value}.json"
    if not file.exists():
        rows = undisturbed(ground, stage)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(rows))
    found: list[dict[str, object]] = json.loads(file.read_text())
    return found


def _print(result: Result) -> None:
    what = f"{result.fault}, {result.phase}, {result.where}: {result.seconds} s"
    causes = f" {' '.join(result.causes)}" if result.causes else ""
    print(f"{'green' if result.green else 'RED  '} {what}{causes}", flush=True)
    if not result.green:
        print("      " + result.error.replace("\n", "\n      "), flush=True)


if __name__ == "__main__":
    sys.exit(main())
