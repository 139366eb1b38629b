"""`make demo`: from nothing to a trained model, with the ordinary tools.

`python dev/demo` runs it all; `python dev/demo install` stops after the Helm
release, for tests and for those who want to go on by hand. `python dev/demo bill`
bills a run instead.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

# `python dev/demo` puts this folder on the path; its package is one above.
sys.path[0] = str(Path(__file__).resolve().parents[1])

from demo import bill  # noqa: E402
from demo.api import api_of  # noqa: E402
from demo.display import console, heading, loss_curve, plain_line, step_bar  # noqa: E402
from demo.install import install  # noqa: E402
from demo.kube import DemoError, Kube  # noqa: E402

RUN = "tiny-decoder"
DEADLINE_SECONDS = 600.0
LINE_SECONDS = 5.0  # between two lines of a log file
PROMPT = "The for statement is used to"


def main(arguments: list[str]) -> int:
    """Exit status 1 with the reason when a part fails."""
    started = time.monotonic()
    try:
        kube = install()
        if arguments[:1] == ["bill"]:
            forget_earlier_run(kube, bill.RUN)
            pack(kube)
            bill.play(kube, "default", bill.manifest())
            kube.kubectl("delete", "trainingrun", bill.RUN, "--wait=false")
            console.print(f"\nmake bill took {time.monotonic() - started:.0f} s")
        elif arguments[:1] != ["install"]:
            demonstrate(kube)
            console.print(f"\nmake demo took {time.monotonic() - started:.0f} s")
    except DemoError as error:
        console.print(f"[red]demo:[/red] {error}", markup=True)
        return 1
    return 0


def demonstrate(kube: Kube) -> None:
    """Data, run, curve, checkpoint, text, and where to go from here."""
    heading("1. Data: the Python documentation as token shards")
    forget_earlier_run(kube, RUN)
    pack(kube)
    print(kube.kubectl("logs", "job/pack-python-docs", "--tail=3").rstrip(), flush=True)

    heading("2. kubectl apply -f examples/tiny-decoder.yaml")
    print(kube.kubectl("apply", "--filename", "examples/tiny-decoder.yaml").rstrip(), flush=True)
    follow(kube)

    heading("3. The history, from the API, as the service account of examples/reader.yaml")
    with api_of(kube, "default") as api:
        history = api.get(f"/v1/namespaces/default/runs/{RUN}/metrics?names=loss")
    print(loss_curve(history["step"], history["loss"]), flush=True)

    heading("4. The checkpoint, and text sampled from it")
    status = (kube.get("trainingrun", RUN) or {}).get("status", {})
    console.print(f"checkpoint: {status['checkpoint']['uri']}")
    print(sample(kube), flush=True)

    heading("5. kubectl get trun")
    print(kube.kubectl("get", "trun", RUN).rstrip(), flush=True)
    print(NEXT, flush=True)


def pack(kube: Kube) -> None:
    """Data for runs; does no work twice."""
    kube.kubectl("apply", "--filename", "examples/data-python-docs.yaml")
    kube.kubectl("wait", "--for=condition=complete", "job/pack-python-docs", "--timeout=300s")


def forget_earlier_run(kube: Kube, run: str) -> None:
    """Removes what an earlier demo left, its checkpoints too: each demo trains anew."""
    if kube.get("trainingrun", run) is None:
        return
    kube.kubectl("delete", "trainingrun", run, "--wait=true")
    one_shot(kube, "forget", ["rm", "-rf", f"/shared/checkpoints/{run}"])


def follow(kube: Kube) -> None:
    """Shows the run until it has ended; DemoError if it failed or took too long."""
    deadline = time.monotonic() + DEADLINE_SECONDS
    live = console.is_terminal
    with step_bar() as bar:
        task = bar.add_task("Pending", total=1, note="", visible=live)
        shown, next_line = "", 0.0
        while time.monotonic() < deadline:
            status = (kube.get("trainingrun", RUN) or {}).get("status", {})
            if live:
                _update(bar, task, status)
            elif (line := plain_line(status)) != shown and (ended(status) or time.monotonic() >= next_line):
                console.print(line)
                shown, next_line = line, time.monotonic() + LINE_SECONDS
            if status.get("phase") == "Succeeded":
                return
            if status.get("phase") == "Failed":
                raise DemoError(f"the run failed: {reasons(status)}")
            time.sleep(1.0)
    raise DemoError(f"the run did not end within {DEADLINE_SECONDS:.0f} s: {reasons(status)}")


def ended(status: dict[str, Any]) -> bool:
    """Whether nothing more will come."""
    return status.get("phase") in ("Succeeded", "Failed")


def _update(bar: Any, task: Any, status: dict[str, Any]) -> None:
    progress = status.get("progress") or {}
    loss = progress.get("loss")
    bar.update(
        task,
        description=status.get("phase", "Pending"),
        total=progress.get("totalSteps") or 1,
        completed=progress.get("step", 0),
        note=f"loss {loss:.3f}" if loss is not None else "",
    )


def reasons(status: dict[str, Any]) -> str:
    """The conditions, one a line."""
    lines = (
        f"{item['type']}={item['status']} {item['reason']}: {item['message']}"
        for item in status["conditions"]
    )
    return "\n  ".join(lines) if status.get("conditions") else "no condition was written"


def sample(kube: Kube) -> str:
    """Text that the newest checkpoint writes after the prompt."""
    command = [
        "footplate-trainer",
        "generate",
        f"/shared/checkpoints/{RUN}",
        PROMPT,
        "--max-new-tokens",
        "48",
        "--seed",
        "1",
    ]
    return one_shot(kube, "generate", command)


def one_shot(kube: Kube, name: str, command: list[str]) -> str:
    """Runs one command in a pod of the trainer image that sees the shared volume; returns its log."""
    pod = f"footplate-demo-{name}"
    kube.kubectl("delete", "pod", pod, "--ignore-not-found", "--wait=true")
    quoted = "\n".join(f"    - {argument!r}" for argument in command)
    kube.kubectl("apply", "--filename", "-", stdin=ONE_SHOT.format(name=pod, command=quoted))
    kube.kubectl("wait", "--for=jsonpath={.status.phase}=Succeeded", f"pod/{pod}", "--timeout=120s")
    text = kube.kubectl("logs", pod)
    kube.kubectl("delete", "pod", pod, "--wait=false")
    return text.strip()


ONE_SHOT = """
apiVersion: v1
kind: Pod
metadata:
  name: {name}
spec:
  restartPolicy: Never
  automountServiceAccountToken: false
  securityContext:
    runAsNonRoot: true
    runAsUser: 1000
    fsGroup: 1000
    seccompProfile: {{type: RuntimeDefault}}
  containers:
  - name: main
    image: localhost/footplate/trainer:dev
    imagePullPolicy: IfNotPresent
    command:
{command}
    securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
    volumeMounts: [{{name: shared, mountPath: /shared}}]
  volumes:
  - name: shared
    persistentVolumeClaim: {{claimName: shared}}
"""

NEXT = """
What to try next:
  eval "$(make -s cluster-env)"                      kubectl and helm for this cluster
  kubectl get trun,pods                              the run and its pods
  kubectl describe trun tiny-decoder                 conditions, attempts, where the time went
  kubectl apply -f examples/cube.yaml                eight processes, cut in all three ways
  kubectl delete pod -l footplate.dev/role=worker    while a run trains: it goes on by itself
  kubectl apply -f examples/bad/                     what wrong files are told (one is right, on purpose)
  kubectl create token reader --audience footplate-api
                                                     for the API's history by hand: docs/identity.md
  make test                                          the tests, on this cluster; they take it down at the end
  make cluster-down                                  stop the cluster, leave nothing behind"""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
