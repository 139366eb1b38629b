"""What the programs show of themselves over a day, and the exporters of nodes of their devices; pure.

Series are those of the programs' own instruments. Each is asked once, as it would be at the day's end;
before, counters have counted their part of that, and gauges go up and down.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from tools.monitoring.names import Foreign

from footplate_api.app import ROUTERS
from footplate_api.instruments import ApiMetrics as ApiMetrics
from footplate_api.system.cost_metrics import Pod
from footplate_contracts.names import Cause, Phase
from footplate_contracts.v1alpha1.status import TimeStatus
from footplate_operator.runtime.metrics import Metrics as OperatorMetrics
from footplate_operator.trainingrun.metrics import RunMetrics
from footplate_operator.trainingrun.recovery import CompletedRecovery, RecoveryPart

SCRAPED: Final = {  # what Prometheus itself adds of each scrape, and about what it is
    "up": 1.0,
    "scrape_duration_seconds": 0.04,
    "scrape_samples_scraped": 4000.0,
    "scrape_samples_post_metric_relabeling": 4000.0,
    "scrape_series_added": 0.0,
}
GPUS: Final = 8  # of a node
DEVICE: Final = {  # a device's numbers at work
    Foreign.GPU_UTILIZATION: 95,
    Foreign.GPU_MEMORY_USED: 70_000,
    Foreign.GPU_MEMORY_FREE: 11_000,
    Foreign.GPU_POWER: 640,
    Foreign.GPU_TEMPERATURE: 66,
}


def labels(**values: str) -> str:
    """As a sample has them between its braces."""
    return ",".join(f'{name}="{value}"' for name, value in values.items())


@dataclass(frozen=True)
class Target:
    """A pod that is scraped, and the labels that come from that."""

    job: str
    instance: str

    @property
    def labels(self) -> str:
        """Without those that what it exposes has itself."""
        service = labels(container=self.job, endpoint="metrics", service=self.job)
        return labels(job=self.job, instance=self.instance) + "," + service


def stamped(text: str, target: Target, at: float) -> Iterator[str]:
    """The samples of an exposition as OpenMetrics has them, with the time."""
    added = target.labels
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        name, brace, rest = line.partition("{")
        if brace:
            yield f"{name}{{{added},{rest} {at}\n"
        else:
            name, _, value = line.partition(" ")
            yield f"{name}{{{added}}} {value} {at}\n"


class Program:
    """A replica, whose instruments showed `text` at the end of the day."""

    def __init__(self, target: Target, text: str) -> None:
        self._counted: list[tuple[str, float]] = []  # what stands before the value, the value
        self._measured: list[tuple[str, float]] = []
        self._moments: list[str] = []
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                both = target.labels + "".join(f",{labels(**{k: v})}" for k, v in sample.labels.items())
                series = f"{sample.name}{{{both}}}"
                if family.type in ("counter", "histogram"):
                    self._counted.append((series, sample.value))
                elif family.name.endswith("_timestamp_seconds"):
                    self._moments.append(series)
                else:
                    self._measured.append((series, sample.value))
        self._measured += [(f"{name}{{{target.labels}}}", value) for name, value in SCRAPED.items()]

    def lines(self, at: float, share: float, chance: Random) -> Iterator[str]:
        """What is scraped when that share of the day is over."""
        for series, value in self._counted:
            yield f"{series} {int(value * share)} {at}\n"
        for series, value in self._measured:
            shown = value if value in (0, 1) else value * chance.uniform(0.8, 1.2)
            yield f"{series} {shown} {at}\n"
        for series in self._moments:
            yield f"{series} {at - chance.uniform(0, 5)} {at}\n"


def api(chance: Random) -> str:
    """What a replica of the API exposes of itself at the end of a day."""
    metrics = ApiMetrics()
    for route in (route for router in ROUTERS for route in router.routes):
        for method in getattr(route, "methods", None) or ():
            for status in ("200", "404", "429"):
                metrics.requests.labels(method, route.path, status).inc(chance.randint(0, 100_000))
            for _ in range(200):
                metrics.request_seconds.labels(method, route.path).observe(chance.expovariate(20))
    for counter in (metrics.ingested_rows, metrics.ingested_points, metrics.mirror_events):
        counter.inc(chance.randint(100_000, 10_000_000))
    for state in ("in_use", "idle"):
        metrics.connections.labels(state).set(chance.randint(2, 8))
    metrics.loop_lag.set(0.02)
    metrics.in_flight.set(3)
    metrics.database_bytes.set(4e9)
    metrics.database_free_bytes.labels("volume").set(2e10)
    metrics.mirror_last_event.set(1)
    metrics.usage_records_taken.inc(5_000)
    metrics.objects_skipped.labels("PriceEntries").inc(400)
    metrics.audit_refusals_left_out.inc(2_000)
    return generate_latest(metrics.registry).decode()


def operator(chance: Random, *, leads: bool) -> str:
    """What a replica of the operator exposes at the end of a day."""
    metrics = OperatorMetrics()
    metrics.leading.set(leads)
    metrics.loop_lag.set(0.01)
    if leads:
        _lead(metrics, metrics.registry, chance)
    return metrics.text().decode()


def _lead(metrics: OperatorMetrics, registry: CollectorRegistry, chance: Random) -> None:
    runs = RunMetrics(registry)
    runs.count_runs({phase.value: chance.randint(2, 20) for phase in Phase})
    runs.count_restarts({}, {cause.value: chance.randint(0, 300) for cause in Cause})
    for cause in Cause:
        for _ in range(60):
            runs.count_recovery(
                CompletedRecovery(cause, {part: chance.expovariate(0.3) for part in RecoveryPart})
            )
    runs.count_time(None, TimeStatus(**{name: chance.uniform(1e3, 1e6) for name in TimeStatus.model_fields}))
    metrics.reconciles.labels("success").inc(2_000_000)
    metrics.reconciles.labels("error").inc(900)
    metrics.depth.set(3)
    for _ in range(5000):
        metrics.seconds.observe(chance.expovariate(30))
        metrics.waited.observe(chance.expovariate(30))
    for kind in ("TrainingRun", "Pod", "Node", "ComputeProfile", "TrainingRunRevision"):
        metrics.watch_heard.labels(kind).set(1)
    for verb, code in (("GET", "404"), ("PATCH", "409"), ("POST", "201")):
        metrics.requests.labels(verb, code).inc(50_000)


@dataclass(frozen=True)
class Node:
    """One with devices, and NVIDIA's exporter for them."""

    number: int

    def lines(self, at: float, pod: Pod | None, chance: Random) -> Iterator[str]:
        """What is scraped while `pod` has all of its devices; half of the scrapes honour labels."""
        instance = f"10.1.{self.number // 250}.{self.number % 250}:9400"
        target = labels(job="dcgm-exporter", instance=instance)
        added = target + "," + labels(Hostname=f"gpu-{self.number}", modelName="NVIDIA H100 80GB HBM3")
        honoured = self.number % 2 == 0
        if not honoured:
            added += "," + labels(namespace="gpu-operator", pod=f"dcgm-exporter-{self.number:05}")
        if pod is not None:
            before = "" if honoured else "exported_"
            owner = {f"{before}namespace": pod.namespace, f"{before}pod": pod.pod}
            added += "," + labels(**owner, **{f"{before}container": "trainer"})
        for gpu in range(GPUS):
            device = labels(gpu=str(gpu), device=f"nvidia{gpu}", UUID=f"GPU-{self.number:04}-{gpu}")
            for name, value in DEVICE.items():
                shown = int(value * (chance.uniform(0.9, 1.05) if pod else 0.1))
                yield f"{name}{{{added},{device}}} {shown} {at}\n"
        for name, value in SCRAPED.items():
            yield f"{name}{{{target}}} {value} {at}\n"
