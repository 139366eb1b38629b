"""One run: whether it learns, how fast, what interrupts it, what it costs, and what its GPUs do."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from tools.monitoring.board import Board, Section, choice, namespaces
from tools.monitoring.dashboards.runs import COLORS
from tools.monitoring.expressions import Expression, Like, Match, label_values, level, rate
from tools.monitoring.names import Counter, Foreign, Gauge, Recorded
from tools.monitoring.panels import (
    HOUR,
    KILOWATT_HOUR,
    MILLISECONDS,
    Limits,
    Panel,
    Query,
    Unit,
    single,
    trend,
)

CHOSEN: Final = {"namespace": "$namespace", "name": "$run"}


def _of(name: Gauge | Recorded, *by: str) -> Expression:
    return level(name, **CHOSEN).max(*by)


def _progress() -> list[Panel]:
    """How far it is."""
    return [
        single(
            "Phase",
            "What the run does now. Empty a quarter of an hour after its end: choose a time range that "
            "ends before.",
            Unit.PLAIN,
            Query(_of(Gauge.RUN_STATUS, "phase"), "{{phase}}"),
            history=False,
            named=True,
            width=3,
        ),
        single(
            "Progress",
            "Steps done of all steps.",
            Unit.RATIO,
            Query(_of(Gauge.RUN_PROGRESS)),
            width=3,
        ),
        single(
            "Ends",
            "When its steps will be done at the speed that it had. Not of what has ended.",
            Unit.FROM_NOW,
            Query(_of(Gauge.RUN_ESTIMATED_END) * MILLISECONDS),
            history=False,
            width=3,
        ),
        single(
            "Last step",
            "How long ago a step was finished. Long validations, rollouts and checkpoints that training "
            "waits for belong to it; a run that hangs is restarted by its bound for hangs.",
            Unit.SECONDS,
            Query(level(Gauge.RUN_LAST_STEP, **CHOSEN).age().max()),
            limits=Limits.rising(120, 600),
            width=3,
        ),
    ]


def _safety() -> list[Panel]:
    """What a failure would lose, and what failures have cost."""
    return [
        single(
            "Last checkpoint",
            "How long ago the newest durable checkpoint was complete: what a failure of its nodes would "
            "lose now.",
            Unit.SECONDS,
            Query(level(Gauge.RUN_LAST_CHECKPOINT, **CHOSEN).age().max()),
            limits=Limits.rising(2 * HOUR, 6 * HOUR),
            width=3,
        ),
        single(
            "Goodput",
            "Of all time since it was admitted, the share in which it trained on what it kept. The rest "
            "was spent on starting, recovering, and steps that were done again.",
            Unit.RATIO,
            Query(_of(Gauge.RUN_GOODPUT)),
            limits=Limits.falling(0.9, 0.8),
            width=3,
        ),
        single(
            "Restarts",
            "How often it was interrupted in all. `kubectl get trun -o yaml` lists the attempts with "
            "their causes.",
            Unit.COUNT,
            Query(_of(Recorded.RUN_RESTARTS)),
            limits=Limits.rising(5, 20),
            width=3,
        ),
        single(
            "Cost",
            "What its pods have cost so far, by the price book. Empty where that has no price.",
            Unit.DOLLARS,
            Query(_of(Recorded.RUN_COST)),
            width=3,
        ),
    ]


def _now() -> Section:
    return Section("Now", [*_progress(), *_safety()])


def _learning() -> Section:
    return Section(
        "Learning",
        [
            trend(
                "Loss",
                "Mean over the valid tokens of a step's global batch, in nats. It should fall; a jump "
                "that stays, with a gradient norm that grew before it, is a learning rate that is too "
                "high or a bad part of the data.",
                Unit.PLAIN,
                Query(_of(Gauge.RUN_LOSS), "loss"),
                from_zero=False,
            ),
            trend(
                "Gradient norm",
                "Global, before it is clipped.",
                Unit.PLAIN,
                Query(_of(Gauge.RUN_GRADIENT_NORM), "gradient norm"),
                width=6,
            ),
            trend(
                "Learning rate",
                "Of each step, as the schedule has it.",
                Unit.PLAIN,
                Query(_of(Gauge.RUN_LEARNING_RATE), "learning rate"),
                width=6,
            ),
        ],
    )


def _speed() -> Section:
    return Section(
        "Speed",
        [
            trend(
                "What a step's time goes into",
                "Seconds of the newest step. data: training waits for its input. communication: for the "
                "slowest rank (on CPUs alone; on GPUs it is within compute). checkpoint, validation: "
                "beside the steps. rollout, scoring: of the samples that it learns from.",
                Unit.SECONDS,
                Query(_of(Gauge.RUN_STEP_BREAKDOWN, "part"), "{{part}}"),
                stacked=True,
            ),
            trend(
                "Tokens a second",
                "Valid tokens of a step by its time, of the whole run.",
                Unit.A_SECOND,
                Query(_of(Gauge.RUN_TOKENS_PER_SECOND), "tokens/s"),
                width=6,
            ),
            trend(
                "Model FLOPs utilization",
                "Share of the devices' peak that the model's own computations take, with attention "
                "counted in full (as torchtitan and PaLM do) or only its causal half (as Megatron does). "
                "Empty where the device's peak is not known.",
                Unit.RATIO,
                Query(_of(Gauge.RUN_MFU, "convention"), "{{convention}}"),
                width=6,
            ),
            trend(
                "Step",
                "Where the run is. It falls back where steps after the last checkpoint were lost.",
                Unit.COUNT,
                Query(_of(Gauge.RUN_STEP), "step"),
                width=8,
            ),
            trend(
                "Time of a step",
                "From one row of its history to the next: with everything between two steps.",
                Unit.SECONDS,
                Query(_of(Gauge.RUN_STEP_SECONDS), "step"),
                width=8,
            ),
            trend(
                "Memory of rank 0",
                "The peak of its device's allocator; on a CPU its resident memory.",
                Unit.BYTES,
                Query(_of(Gauge.RUN_MEMORY), "memory"),
                width=8,
            ),
        ],
    )


def _interruptions() -> Section:
    return Section(
        "Interruptions",
        [
            trend(
                "Phases",
                "What the run did when.",
                Unit.COUNT,
                Query(_of(Gauge.RUN_STATUS, "phase"), "{{phase}}"),
                counted=True,
                colors=COLORS,
                top=1,
                width=8,
            ),
            trend(
                "Pods",
                "Pods that run it, by what they are there for. Spares wait for a worker to be lost.",
                Unit.COUNT,
                Query(level(Gauge.RUN_MEMBERSHIP, **CHOSEN).count("role"), "{{role}}"),
                stacked=True,
                width=8,
            ),
            trend(
                "Waits for checkpoints",
                "Share of its time that training stood still for checkpoints. Beyond a few hundredths: "
                "save less often, or asynchronously.",
                Unit.RATIO,
                Query(rate(Counter.RUN_CHECKPOINT_SECONDS, **CHOSEN).max(), "standing still"),
                limits=Limits.rising(0.05, 0.2),
                width=8,
            ),
            single(
                "Checkpoints left out",
                "Since the last durable one: its storage fails or is full. Training goes on, and a "
                "failure would lose all of it.",
                Unit.COUNT,
                Query(_of(Gauge.RUN_CHECKPOINTS_SKIPPED)),
                limits=Limits.none(),
                width=12,
            ),
            single(
                "Telemetry given up, a second",
                "Rows and records of checkpoints that the history will never have: refused by the API, or "
                "without room where they waited for it. Training is not concerned.",
                Unit.A_SECOND,
                Query(rate(Counter.RUN_TELEMETRY_DROPPED, **CHOSEN).sum()),
                width=12,
            ),
        ],
    )


def _money() -> Section:
    return Section(
        "Cost, energy and carbon",
        [
            single(
                "Energy",
                "What its devices have consumed so far: measured by counter or power where there is one, "
                "otherwise rated by their thermal design power.",
                Unit.KILOWATT_HOURS,
                Query(_of(Recorded.RUN_ENERGY) / KILOWATT_HOUR),
                height=8,
            ),
            single(
                "Carbon",
                "What generating that energy has emitted so far, by the intensities of its zone.",
                Unit.GRAMS,
                Query(_of(Recorded.RUN_CARBON)),
                height=8,
            ),
            trend(
                "Spent in an hour",
                "What the run costs in an hour at the speed of now.",
                Unit.DOLLARS,
                Query((rate(Counter.RUN_COST, **CHOSEN) * HOUR).max(), "dollars an hour"),
                width=8,
            ),
            trend(
                "Power",
                "What its devices consume, by how it is known: counter and power are measured, rated "
                "follows from the thermal design power of devices that tell nothing.",
                Unit.WATTS,
                Query(rate(Counter.RUN_ENERGY, **CHOSEN).max("method"), "{{method}}"),
                stacked=True,
                width=8,
            ),
        ],
    )


# Of workers and spares, by how they are named: the pods of a whole cluster would take seconds to join.
PODS: Final = Like("$run-[sw][0-9]+-[0-9]+")
# By which labels DCGM's exporter names the pod that uses a device, and how a device is called then. The
# second where Prometheus does not honour its labels: `pod` is that of the exporter itself.
NAMED: Final = {
    ("namespace", "pod"): "{{pod}} {{gpu}}",
    ("exported_namespace", "exported_pod"): "{{exported_pod}} {{gpu}}",
}
Devices = Callable[[Foreign], Expression]


def _device(on: tuple[str, str], name: Foreign) -> Expression:
    namespace, pod = on
    labels: dict[str, Match] = {namespace: "$namespace", pod: PODS}
    return level(name, **labels).max(*on, "gpu")


def _of_devices(measure: Callable[[Devices], Expression]) -> list[Query]:
    """What `measure` makes of the numbers of the devices of the run's pods."""
    queries = []
    for on, legend in NAMED.items():
        members = level(Gauge.RUN_MEMBERSHIP, **CHOSEN)
        for label, source in zip(on, ("namespace", "pod"), strict=True):
            members = members if label == source else members.relabelled(label, source)
        queries.append(Query(measure(partial(_device, on)).joined(members.max(*on), on, ()), legend))
    return queries


def _gpus() -> Section:
    from_dcgm = (
        "From NVIDIA's DCGM exporter, if Prometheus scrapes it; the variable job has to be All, or name "
        "its job, too."
    )
    used, free = Foreign.GPU_MEMORY_USED, Foreign.GPU_MEMORY_FREE

    def drawn(
        title: str,
        description: str,
        unit: Unit,
        measure: Callable[[Devices], Expression],
        limits: Limits | None = None,
    ) -> Panel:
        return trend(title, f"{description} {from_dcgm}", unit, *_of_devices(measure), limits=limits)

    return Section(
        "GPUs",
        [
            drawn(
                "GPU utilization",
                "Share of the time in which a kernel ran. One device that is far below the others is the "
                "straggler that they wait for.",
                Unit.RATIO,
                lambda of: of(Foreign.GPU_UTILIZATION) / 100,
            ),
            drawn(
                "GPU memory",
                "Used share of the memory of each device.",
                Unit.RATIO,
                lambda of: of(used) / (of(used) + of(free)),
                Limits.rising(0.95, 0.99),
            ),
            drawn("GPU power", "What each device draws.", Unit.WATTS, lambda of: of(Foreign.GPU_POWER)),
            drawn(
                "GPU temperature",
                "Above about 85 °C devices slow down.",
                Unit.CELSIUS,
                lambda of: of(Foreign.GPU_TEMPERATURE),
                Limits.rising(80, 88),
            ),
        ],
    )


BOARD: Final = Board(
    uid="footplate-run",
    title="Run",
    description="One run: whether it learns, how fast, what interrupts it, what it costs, and its GPUs.",
    variables=[
        namespaces(several=False),
        choice("run", label_values(Gauge.RUN_STATUS, "name", namespace="$namespace"), several=False),
    ],
    sections=[_now(), _learning(), _speed(), _interruptions(), _money(), _gpus()],
)
