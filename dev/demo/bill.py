"""`make bill`: what a run costs, from the question before it begins to the bill of its team.

A run of a team is tried, submitted, restarted, suspended, resumed, and stopped by its budget. Its bill is
then told by `kubectl`, by the API, and by Kubernetes' own times of its pods, and all three must be the same.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any, Final, TypeVar

import yaml

from demo.api import Api, team_apis
from demo.display import heading
from demo.kube import ROOT, DemoError, Kube
from demo.pod_times import PodTimes, dollars, span, watched

RUN: Final = "billed"
TEAM: Final = "vision"
PROFILE: Final = "local-cpu"
# Dollars an hour of a whole node, by how it was bought: ten cents a second, and four.
HOURLY: Final = {"OnDemand": Fraction(360), "Spot": Fraction(144)}
SPOT: Final = {"karpenter.sh/capacity-type": "spot"}
BUDGET: Final = 50.0  # dollars, when it is submitted
LEFT: Final = 0.5  # dollars, when it is lowered
WAIT_SECONDS: Final = 240.0
_CENTS: Final = Fraction(1, 20_000)  # half of what the last shown digit says
T = TypeVar("T")


@dataclass(frozen=True)
class Bill:
    """Who asks what of one run in one namespace."""

    kube: Kube
    namespace: str
    run: str
    team: Api
    finance: Api
    times: PodTimes

    @property
    def path(self) -> str:
        """Of the run, in the API."""
        return f"/v1/namespaces/{self.namespace}/runs/{self.run}"

    def status(self) -> dict[str, Any]:
        """Of the run, by kubectl."""
        found = self.kube.get("trainingrun", self.run, "-n", self.namespace)
        status: dict[str, Any] = (found or {}).get("status", {})
        return status

    def kubectl(self, *arguments: str) -> str:
        """What it says, shown with the command."""
        show(f"$ kubectl {' '.join(arguments)}")
        said = self.kube.kubectl(*arguments, "-n", self.namespace).rstrip()
        show(said)
        return said

    def change(self, spec: Mapping[str, Any]) -> None:
        """Of the run's spec, by kubectl."""
        self.kubectl("patch", "trun", self.run, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def until(self, what: str, found: Callable[[], T | None]) -> T:
        """What `found` gives once it gives anything; DemoError where it does not in time."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            if (value := found()) is not None:
                return value
            if time.monotonic() >= deadline:
                raise DemoError(f"waited {WAIT_SECONDS:.0f} s for {what}: {json.dumps(self.status())[:2000]}")
            time.sleep(0.5)

    def trains(self, attempt: int) -> int:
        """The step once this attempt trains."""

        def reached() -> int | None:
            status = self.status()
            numbers = [known["number"] for known in status.get("attempts", ())]
            step: int = status.get("progress", {}).get("step", 0)
            return step if status.get("phase") == "Running" and max(numbers, default=0) >= attempt else None

        return self.until(f"attempt {attempt} to train", reached)

    def rests(self, reason: str) -> dict[str, Any]:
        """The status once the run is suspended for this reason and all its pods have ended."""

        def reached() -> dict[str, Any] | None:
            status = self.status()
            reasons = {known["reason"] for known in status.get("conditions", ())}
            return status if status.get("phase") == "Suspended" and reason in reasons else None

        status = self.until(f"the run to be suspended ({reason})", reached)
        if not self.times.ended(WAIT_SECONDS):
            raise DemoError(f"pods of {self.run} have not ended {WAIT_SECONDS:.0f} s after it was suspended")
        return status


def show(text: str) -> None:
    """A line as it is: a transcript is read by programs, too."""
    print(text, flush=True)


def play(kube: Kube, namespace: str, manifest: Mapping[str, Any]) -> None:
    """All of it; DemoError where two of the three bills differ.

    Args:
        manifest: of a run that would train for minutes.
    """
    run = manifest["metadata"]["name"]
    with team_apis(kube, namespace) as (team, finance), watched(kube, namespace, run) as times:
        bill = Bill(kube, namespace, run, team, finance, times)
        priced = price(bill)
        submit(bill, manifest)
        disturb(bill)
        exceed(bill)
        compare(bill, priced)


def price(bill: Bill) -> int:
    """Finance states what nodes cost; the second from which on they do."""
    heading(f"1. Prices of nodes of {PROFILE}: on demand, and as spot")
    for capacity, hourly in HOURLY.items():
        if _price(bill, capacity) != hourly:
            entry = {"profile": PROFILE, "capacity": capacity, "dollarsPerNodeHour": float(hourly)}
            said = bill.finance.post("/v1/prices", {**entry, "source": "make bill"})
            show(f"POST /v1/prices: {said['id']} from {said['effectiveFrom']}")
        known = partial(_has_price, bill, capacity, hourly)
        bill.until(f"the API to know the price of {capacity}", known)
    show(bill.kube.kubectl("get", "priceentries").rstrip())
    return int(time.time()) + 1


def _has_price(bill: Bill, capacity: str, hourly: Fraction) -> bool | None:
    return True if _price(bill, capacity) == hourly else None


def _price(bill: Bill, capacity: str) -> Fraction | None:
    """That is in force."""
    for known in bill.finance.get(f"/v1/profiles/{PROFILE}")["prices"]:
        if known["capacity"] == capacity and not known["region"]:
            return Fraction(str(known["dollarsPerNodeHour"]))
    return None


def submit(bill: Bill, manifest: Mapping[str, Any]) -> None:
    """The team asks what an hour costs, and submits."""
    heading("2. The team asks what an hour of its run would cost, and submits it with a budget")
    collection = f"/v1/namespaces/{bill.namespace}/runs"
    tried = bill.team.post(f"{collection}?dryRun=true", manifest)
    show(f"POST {collection}?dryRun=true: {json.dumps(tried['hourly'])}")
    made = bill.team.post(collection, manifest, {"Idempotency-Key": f"bill-{time.time_ns()}"})
    show(f"POST {collection}: {made['name']}, uid {made['uid']}")
    bill.trains(1)


def disturb(bill: Bill) -> None:
    """A worker goes, and somebody suspends the run for a while."""
    heading("3. A worker is deleted: a second attempt")
    worker = f"footplate.dev/run={bill.run},footplate.dev/role=worker,footplate.dev/index=1"
    bill.kubectl("delete", "pod", "-l", worker, "--wait=false")
    show(f"trains again at step {bill.trains(2)}")

    heading("4. Suspended and resumed")
    bill.change({"suspend": True})
    cost = bill.rests("Suspended")["cost"]
    show(f"suspended at {cost['dollars']} dollars; it costs nothing meanwhile")
    bill.change({"suspend": False})
    bill.trains(3)


def exceed(bill: Bill) -> None:
    """The budget is lowered, and spent."""
    spent = bill.status()["cost"]["dollars"]
    heading(f"5. {spent} dollars are spent, and the budget is lowered to {LEFT} more")
    bill.change({"budget": {"dollars": round(spent + LEFT, 2)}})
    bill.rests("BudgetExceeded")
    uid = (bill.kube.get("trainingrun", bill.run, "-n", bill.namespace) or {})["metadata"]["uid"]
    about = f"involvedObject.kind=TrainingRun,involvedObject.uid={uid}"
    bill.kubectl("get", "events", "--field-selector", about, "--sort-by=.metadata.creationTimestamp")


def _agrees(bill: Bill, dollars: float) -> bool | None:
    """Whether the status says so much, to the cent.

    That a pod had ended some seconds before this was known is told with the next write of progress.
    """
    return True if round(bill.status()["cost"]["dollars"], 2) == round(dollars, 2) else None


def compare(bill: Bill, priced: int) -> None:
    """The bill by Kubernetes' own times, by the run's status and by the API; and what is idle beside.

    Args:
        priced: the second from which on nodes have their prices.
    """
    heading("6. The bill, by team and by attempt")
    path = f"{bill.path}/cost?pods=true"
    told = bill.until("the API to have the end of every pod", lambda: _ended(bill.team.get(path)))
    for attempt in told["attempts"]:
        show(f"attempt {attempt['attempt']}: {attempt['dollars']:.4f} dollars, {_seconds(attempt)}")
    for row in bill.team.get("/v1/costs?groupBy=label:team")["rows"]:
        amount = "nobody knows how many" if row["dollars"] is None else f"{row['dollars']:.4f}"
        show(f"team {row['group']['label:team'] or '(none)'}: {amount} dollars")
    total = told["total"]["dollars"]
    bill.until(f"kubectl get trun to say {total} dollars, as REST", lambda: _agrees(bill, total))
    bill.kubectl("get", "trun", bill.run)
    own = by_kubernetes(bill, told)
    if abs(Fraction(str(total)) - own) > _CENTS:
        raise DemoError(f"the bill is {total} dollars; by the pods' own times {float(own)}")
    show(f"by Kubernetes' own times of {len(bill.times.pods)} pods: {float(own):.4f} dollars")
    cluster(bill, priced)


def _ended(cost: Mapping[str, Any]) -> Mapping[str, Any] | None:
    return cost if cost["pods"] and all(pod["end"] and not pod["estimated"] for pod in cost["pods"]) else None


def _seconds(amounts: Mapping[str, Any]) -> str:
    return f"{amounts['nodeSeconds']} seconds of a node"


def by_kubernetes(bill: Bill, told: Mapping[str, Any]) -> Fraction:
    """Dollars by the pods' own times, each of which must be the bill's to the second."""
    nodes = {node["metadata"]["name"]: node for node in (bill.kube.get("nodes") or {})["items"]}
    billed = {pod["uid"]: (pod["start"], pod["end"]) for pod in told["pods"]}
    own = {uid: tuple(map(_written, span(pod))) for uid, pod in bill.times.pods.items() if span(pod)[0]}
    if billed != own:
        raise DemoError(f"pods held their nodes {own} by Kubernetes, {billed} by the bill")
    pods = [bill.times.pods[uid] for uid in own]
    return sum((dollars(pod, nodes, _hourly(nodes[pod["spec"]["nodeName"]])) for pod in pods), Fraction(0))


def _hourly(node: Mapping[str, Any]) -> Fraction:
    spot = SPOT.items() <= node["metadata"]["labels"].items()
    return HOURLY["Spot" if spot else "OnDemand"]


def cluster(bill: Bill, priced: int) -> None:
    """All runs and what is idle are what the nodes cost, of the last minute that has been told.

    Args:
        priced: the second from which on they have their prices.
    """
    until = int(time.time()) - 5
    since = max(until - 60, priced)
    window = f"from={_written(since)}&to={_written(until)}"
    query = f"groupBy=namespace&idle=true&formerNamespaces=true&{window}"
    rows = bill.finance.get(f"/v1/costs?{query}")["rows"]
    for row in rows:
        show(f"{row['kind']} {row['group']['namespace'] or ''}: {row['dollars']:.4f} dollars")
    nodes = (bill.kube.get("nodes") or {})["items"]
    whole = (until - since) * sum(map(_hourly, nodes), Fraction(0)) / 3600
    spent = sum((Fraction(str(row["dollars"])) for row in rows), Fraction(0))
    show(f"{len(nodes)} nodes for {until - since} s: {float(whole):.4f}; runs and idle: {float(spent):.4f}")
    if abs(spent - whole) > len(rows) * _CENTS:
        raise DemoError(f"runs and idle together are {float(spent)} dollars, the nodes {float(whole)}")


def _written(second: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(second))


def manifest() -> dict[str, Any]:
    """tiny-decoder on all three nodes, longer, under a team's name and with a budget."""
    run: dict[str, Any] = yaml.safe_load((ROOT / "examples/tiny-decoder.yaml").read_text())
    run["metadata"] = {"name": RUN, "labels": {"team": TEAM}}
    spec = run["spec"]
    spec["compute"]["nodes"] = 3
    spec["training"] |= {"steps": 100_000, "globalBatchSize": 12, "microBatchSize": 2}
    spec["training"]["optimizer"]["learningRate"] = 0.003  # "3e-3" is a text to PyYAML
    spec["checkpoint"]["uri"] = f"/shared/checkpoints/{RUN}"
    spec["budget"] = {"dollars": BUDGET}
    return run
