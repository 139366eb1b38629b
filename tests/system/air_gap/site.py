"""A site without internet: its cluster, its registry, and an administrator who has a release's folder."""

from __future__ import annotations

import base64
import json
import subprocess
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import yaml
from tools.release.folder import ANY_REGISTRY

from cluster.native.network import GATEWAY
from demo.display import heading
from demo.install import NAMESPACE, wait_for_admission
from demo.kube import Kube, show
from tests.support import registry
from tests.support.registry import PASSWORD, USER, Running
from tests.support.runs import PACKING, Json, Runs, changed, pack_data, runs_in, tiny
from tests.system.air_gap import closed_network

RELEASE: Final = "footplate"
TEAM: Final = "footplate-air-gap"
LOGIN: Final = "site-registry"  # the Secret that pulls
STEPS: Final = 40
# The trainer's image is gigabytes, which a node of two cores unpacks in minutes.
PULL_SECONDS: Final = 1200


@dataclass(frozen=True)
class Site:
    """What the administrator has at hand."""

    folder: Path  # of the release
    running: Running  # the site's registry
    kube: Kube

    def image(self, name: str) -> str:
        """Reference of one of the release's images in the site's registry, by its digest."""
        rows: list[dict[str, Any]] = json.loads((self.folder / "release.json").read_text())["images"]
        [row] = (row for row in rows if row["name"] == name)
        return f"{self.running.address}/{row['repository']}@{row['digest']}"

    def helm(self, *arguments: str) -> None:
        """A command of Helm in the release's folder, shown with what it says."""
        lines = textwrap.wrap(f"helm {' '.join(arguments)}", 100, break_on_hyphens=False)
        say("$ " + " \\\n    ".join(lines))
        done = subprocess.run(
            ["helm", *arguments], cwd=self.folder, env=self.kube.environment, capture_output=True, text=True
        )
        print(done.stdout + done.stderr, end="", flush=True)
        assert done.returncode == 0, f"helm {arguments[0]} ended with {done.returncode}"


def say(text: str) -> None:
    """A line of the transcript."""
    print(text, flush=True)


def play(folder: Path, store: Path) -> None:
    """The three steps of docs/operations/air-gap.md, then a run; raises what breaks it off."""
    heading("1. A cluster that reaches nothing outside")
    show("python3", "dev/cluster", "up")
    say(f"$ {' '.join(closed_network.ROUTES)}")
    for route in closed_network.routes():
        say(f"  {route}")
    assert not closed_network.reachable(), "the network leads elsewhere"
    say("  ok   no route leads out of this machine")
    with registry.server(store, GATEWAY) as running:
        site = Site(folder, running, Kube.of_cluster_tool())
        show("python3", "dev/cluster", "registry", running.address, "--ca-file", str(running.ca))
        _check(site)
        _mirror(site)
        _install(site)
        prepare = partial(_prepare, site)
        with runs_in(site.kube, TEAM, wait=False, prepare=prepare) as runs:
            _train(site, runs)


def _check(site: Site) -> None:
    heading("2. The folder is whole")
    _command(site, ["sha256sum", "--check", "--quiet", "SHA256SUMS"])
    say(f"  ok   {len((site.folder / 'SHA256SUMS').read_text().splitlines())} files")


def _mirror(site: Site) -> None:
    heading("3. Its images go into the site's registry, which asks for a password")
    began = time.monotonic()
    login = ("--username", USER, "--password-stdin", "--ca-file", str(site.running.ca))
    _command(site, ["python3", "mirror.py", site.running.address, *login], stdin=f"{PASSWORD}\n")
    say(f"  ok   after {time.monotonic() - began:.0f} s")


def _install(site: Site) -> None:
    heading("4. Install")
    site.kube.kubectl("create", "namespace", NAMESPACE)
    _let_pull(site, NAMESPACE)
    [chart] = (path.name for path in site.folder.glob("footplate-*.tgz"))
    own = (f"--set=global.imageRegistry={site.running.address}", f"--set=imagePullSecrets[0].name={LOGIN}")
    place = ("--namespace", NAMESPACE)
    began = time.monotonic()
    site.helm("install", RELEASE, f"./{chart}", *place, "--create-namespace", *own, "--wait", "--timeout=10m")
    wait_for_admission(site.kube)
    say(f"  ok   a run would be admitted after {time.monotonic() - began:.1f} s, pulls included")
    site.helm("test", RELEASE, *place, "--timeout=5m")
    _tell_images(site, NAMESPACE)


def _train(site: Site, runs: Runs) -> None:
    heading("5. A run")
    manifest = tiny("air-gap", TEAM, steps=STEPS, nodes=1)
    name = runs.apply(changed(manifest, "trainer.imagePullSecrets", [{"name": LOGIN}]))
    status = runs.wait_phase(name, "Succeeded", seconds=PULL_SECONDS)
    rows, step = runs.whole_history(name, STEPS), status["progress"]["step"]
    say(f"  ok   Succeeded at step {step}; {len(rows)} rows, the last loss {rows[-1]['loss']:.3f}")
    _tell_images(site, TEAM)
    given = site.running.pulled()
    assert any("trainer" in blob for blob in given), "nodes had the images already"
    say(f"  ok   nodes pulled {len(given)} blobs from the site's registry")


def _prepare(site: Site, kube: Kube, namespace: str) -> None:
    """The example's data, packed by the release's own trainer image as the folder's page has it."""
    _let_pull(site, namespace)
    text = (site.folder / PACKING).read_text().replace(ANY_REGISTRY, site.running.address)
    bodies: list[Json] = list(yaml.safe_load_all(text))
    for body in bodies:
        if body["kind"] == "Job":
            body["spec"]["template"]["spec"]["imagePullSecrets"] = [{"name": LOGIN}]
    pack_data(kube, namespace, yaml.safe_dump_all(bodies), PULL_SECONDS)


def _let_pull(site: Site, namespace: str) -> None:
    """A Secret by which pods of the namespace pull."""
    login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    config = json.dumps({"auths": {site.running.address: {"auth": login}}})
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": LOGIN, "namespace": namespace},
        "type": "kubernetes.io/dockerconfigjson",
        "stringData": {".dockerconfigjson": config},
    }
    site.kube.kubectl("apply", "--filename", "-", stdin=json.dumps(secret))


def _tell_images(site: Site, namespace: str) -> None:
    """Says what runs there; AssertionError for an image that is not of the release."""
    pods: list[Json] = (site.kube.get("pods", "-n", namespace) or {})["items"]
    known = {site.image(name) for name in ("operator", "api", "coordinator", "trainer")}
    for pod in pods:
        for container in pod["spec"]["containers"]:
            repository, _, digest = container["image"].partition("@sha256:")
            say(f"  {pod['metadata']['name']}: {repository}@sha256:{digest[:12]}")
            assert container["image"] in known, f"{container['image']} is no image of the release"


def _command(site: Site, command: Sequence[str], stdin: str | None = None) -> None:
    """A command in the release's folder, shown with what it says."""
    say(f"$ {' '.join(command)}")
    subprocess.run(command, cwd=site.folder, input=stdin, text=True, check=True)
