"""Images: where they come from, by tag or digest, those that the operator gives to runs included."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.chart import environment, rendered, template

DIGEST: Final = f"sha256:{64 * 'a'}"
IMAGES: Final = ("operator", "api", "coordinator", "trainer")
HANDED_OVER: Final = "--set=operator.handOver=true"


def images(*flags: str) -> dict[str, str]:
    """Every image that is named, by who runs it: those that the operator is told included."""
    found = {}
    for body in rendered(HANDED_OVER, *flags):
        pod = body.get("spec", {}).get("template", {}).get("spec", {}) or body.get("spec", {})
        for container in _containers(pod):
            found[body["metadata"]["name"]] = container["image"]
        if body["metadata"]["name"] == "footplate-operator" and body["kind"] == "Deployment":
            told = environment(body)
            found |= {name: told[f"FOOTPLATE_{name.upper()}_IMAGE"] for name in ("trainer", "coordinator")}
    assert {"footplate-operator", "footplate-api", "footplate-hand-over-after"} <= found.keys()
    return found


def _containers(pod: dict[str, Any]) -> list[dict[str, Any]]:
    return [*pod.get("initContainers", []), *pod.get("containers", [])]


@pytest.mark.parametrize("registry", ["mirror.example.com:5000", "mirror.example.com/proxy"])
def test_all_images_are_of_the_registry_that_is_named(registry: str) -> None:
    usual = images()
    assert images(f"--set=global.imageRegistry={registry}") == {
        name: f"{registry}/{image}" for name, image in usual.items()
    }


def test_a_digest_wins_over_a_tag() -> None:
    flags = [f"--set={name}.image.digest={DIGEST},{name}.image.tag=1.10" for name in IMAGES]
    assert {image.partition("@")[2] for image in images(*flags).values()} == {DIGEST}
    assert not [image for image in images(*flags).values() if "1.10" in image]


@pytest.mark.parametrize(
    ("flag", "image"),
    [
        pytest.param("tag=1.10", "footplate/operator:1.10", id="tag"),
        pytest.param(f"digest={DIGEST}", f"footplate/operator@{DIGEST}", id="digest"),
        pytest.param(f"repository=r:5000/o@{DIGEST}", f"r:5000/o@{DIGEST}", id="digest-of-a-repository"),
    ],
)
def test_images(flag: str, image: str) -> None:
    assert images(f"--set=operator.image.{flag}")["footplate-operator"] == image


@pytest.mark.parametrize(
    ("flag", "says"),
    [
        pytest.param("api.image.digest=sha256:ab", "at '/api/image/digest'", id="no-digest"),
        pytest.param(
            "trainer.image.repository=t@sha256:ab", "at '/trainer/image/repository'", id="nor-there"
        ),
        pytest.param(
            f"trainer.image.digest={DIGEST},trainer.image.repository=t@{DIGEST}",
            f"trainer.image.digest is {DIGEST}, but trainer.image.repository names a digest, too",
            id="two-digests",
        ),
        pytest.param("global.imageRegistry=https://mirror", "at '/global/imageRegistry'", id="url"),
        pytest.param("global.imageRegistry=mirror/", "at '/global/imageRegistry'", id="slash"),
    ],
)
def test_images_that_cannot_be_are_refused(flag: str, says: str) -> None:
    done = template("--set", flag)
    assert done.returncode != 0 and says in done.stderr, done.stderr
