"""`make release` of a repository: git, Helm and the build of wheels are real, and images a few bytes."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from tools.release import __main__ as command
from tools.release import changelog, folder
from tools.release.checkout import Checkout
from tools.release.errors import ReleaseError
from tools.release.folder import ANY_REGISTRY
from tools.release.versions import Version

from tests.support import tiny_release
from tests.support.chart import helm, objects_in, template

VERSION = Version(7, 0, 0)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return tiny_release.repository(tmp_path_factory.mktemp("repository"))


@pytest.fixture(scope="module")
def made(checkout: Checkout) -> Path:
    return command.release(checkout.root, VERSION, tiny_release.tools())


def test_a_product_that_is_not_proven_is_refused(tmp_path: Path) -> None:
    def refuse(root: Path) -> None:
        raise ReleaseError("33 of 33 cells prove nothing of this product: run `make faults-sample`")

    checkout = tiny_release.repository(tmp_path)
    before = state(checkout)
    tools = dataclasses.replace(tiny_release.tools(), prove=refuse)
    with pytest.raises(ReleaseError, match="make faults-sample"):
        command.release(checkout.root, VERSION, tools)
    assert state(checkout) == before


def state(checkout: Checkout) -> tuple[str, ...]:
    """All that a release must leave as it is."""
    words = (["rev-parse", "HEAD"], ["status", "--porcelain"], ["worktree", "list"], ["branch", "--list"])
    return tuple(checkout.git(*command_line) for command_line in words)


def test_the_folder_is_whole_and_its_sums_are_right(made: Path) -> None:
    names = {path.relative_to(made).as_posix() for path in made.rglob("*") if path.is_file()}
    images = {f"images/{name}.tar" for name in tiny_release.IMAGES}
    bills = {f"sbom/{name}.cdx.json" for name in tiny_release.IMAGES}
    wheels = {name for name in names if name.startswith("wheels/")}
    pages = {f"third-party/{name}.md" for name in tiny_release.IMAGES}
    examples = {f"examples/{path.name}" for path in (tiny_release.ROOT / "examples").glob("*.yaml")}
    plain = {
        "README.md",
        "NOTES.md",
        "LICENSE",
        "NOTICE",
        "mirror.py",
        "release.json",
        "footplate-7.0.0.tgz",
        "SHA256SUMS",
    }
    assert names == images | bills | wheels | pages | examples | plain
    assert len(wheels) == 7
    checked = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"],
        cwd=made,
        capture_output=True,
        text=True,
        check=True,
    )
    assert checked.stdout.count(": OK") == len(names) - 1


def test_the_examples_name_what_was_built_by_digest(made: Path) -> None:
    release = json.loads((made / "release.json").read_text())
    [trainer] = [image for image in release["images"] if image["name"] == "trainer"]
    packing = (made / "examples/data-python-docs.yaml").read_text()
    assert f"image: {ANY_REGISTRY}/{trainer['repository']}@{trainer['digest']}\n" in packing
    for path in (made / "examples").iterdir():
        assert "localhost/" not in path.read_text(), path.name


def test_the_chart_names_what_was_built_by_digest(made: Path) -> None:
    release = json.loads((made / "release.json").read_text())
    wanted = {f"r.example/{image['repository']}@{image['digest']}" for image in release["images"]}
    packed = str(made / release["chart"])
    rendered = template("--set", "global.imageRegistry=r.example", chart=made / release["chart"])
    assert rendered.returncode == 0, rendered.stderr
    assert {name for name in wanted if name in rendered.stdout} == wanted
    versions = {
        body["metadata"]["labels"]["app.kubernetes.io/version"]
        for body in objects_in(rendered.stdout)
        if body["kind"] == "Deployment"
    }
    assert versions == {"7.0.0"}
    shown = yaml.safe_load(helm("show", "chart", packed).stdout)
    assert (shown["version"], shown["appVersion"]) == ("7.0.0", "7.0.0")


def test_each_bill_tells_what_its_image_has_now(made: Path) -> None:
    for image in json.loads((made / "release.json").read_text())["images"]:
        bill = json.loads((made / "sbom" / f"{image['name']}.cdx.json").read_text())
        assert {part["name"] for part in bill["components"]} == {"libc6", f"footplate-{image['name']}"}
        [told] = bill["metadata"]["component"]["hashes"]
        assert f"sha256:{told['content']}" == image["digest"]


def test_wheels_and_commit_say_the_version(checkout: Checkout, made: Path) -> None:
    for wheel in (made / "wheels").iterdir():
        assert wheel.name.endswith("-7.0.0-py3-none-any.whl")
        assert zipfile.ZipFile(wheel).testzip() is None
    commit = json.loads((made / "release.json").read_text())["commit"]
    assert checkout.tagged(VERSION) == commit
    assert checkout.git("show", f"{commit}:VERSION") == "7.0.0\n"
    assert changelog.released(checkout.git("show", f"{commit}:CHANGELOG.md"))[0] == VERSION
    parent = checkout.git("rev-parse", f"{commit}^").strip()
    assert parent == checkout.git("rev-parse", "HEAD").strip()


def test_the_readme_is_of_this_version(made: Path) -> None:
    text = (made / "README.md").read_text()
    assert "./footplate-7.0.0.tgz" in text
    assert "x.y.z" not in text
    assert "](" not in text, "a link leads out of the folder"


def test_what_the_terms_of_nvidia_ask_for_is_said_in_the_folder_and_in_the_end(made: Path) -> None:
    [heading] = re.findall(r'"(.+)"', command.BEFORE_PUBLISHING)
    [section] = re.findall(rf"^## {heading}$(.+?)^## ", (made / "README.md").read_text(), re.M | re.S)
    assert "third-party/trainer.md" in section and "mirror.py --without trainer" in section
    assert "third-party/trainer.md" in (made / "NOTICE").read_text()
    assert re.search(r"^1\. have NVIDIA's leave", (made / "third-party/trainer.md").read_text(), re.M)


def test_the_same_again_makes_nothing_anew(checkout: Checkout, made: Path) -> None:
    before = (state(checkout), (made / "SHA256SUMS").stat())
    checkout.git("tag", "--delete", "v7.0.0")  # as if it had been killed just before
    assert command.release(checkout.root, VERSION, tiny_release.tools()) == made
    assert (state(checkout), (made / "SHA256SUMS").stat()) == before
    assert checkout.tagged(VERSION) is not None


def test_the_tag_alone_makes_the_same_folder_again(checkout: Checkout, made: Path) -> None:
    sums = (made / "SHA256SUMS").read_text()
    made.rename(made.with_name("away"))
    again = command.release(checkout.root, VERSION, tiny_release.tools())
    assert (again / "SHA256SUMS").read_text() == sums


def test_what_fails_leaves_nothing_and_the_same_command_goes_on(checkout: Checkout) -> None:
    def failing(tree: Path, target: Path, version: Version) -> dict[str, Path]:
        (target / "operator.tar").write_bytes(b"half of it")
        raise ReleaseError("no room")

    before, wanted = state(checkout), Version(7, 1, 0)
    broken = dataclasses.replace(tiny_release.tools(), images=failing)
    with pytest.raises(ReleaseError, match="no room"):
        command.release(checkout.root, wanted, broken)
    assert state(checkout) == before
    assert checkout.tagged(wanted) is None
    assert not [path for path in (checkout.root / "dist").iterdir() if "7.1.0" in path.name]
    # And one that was killed left its worktree.
    killed = checkout.root / "dist" / ".7.1.0" / "tree"
    checkout.git("worktree", "add", "--quiet", "--detach", killed, "HEAD")
    made = command.release(checkout.root, wanted, tiny_release.tools())
    assert folder.sums(made) == (made / "SHA256SUMS").read_text()
    assert state(checkout) == before


def test_a_chart_that_names_another_image_is_no_release(checkout: Checkout) -> None:
    def fewer(tree: Path, target: Path, version: Version) -> dict[str, Path]:
        return {"operator": tiny_release.images(tree, target, version)["operator"]}

    broken = dataclasses.replace(tiny_release.tools(), images=fewer)
    with pytest.raises(ReleaseError, match=r"values\.yaml names the images .*footplate/api.*of this release"):
        command.release(checkout.root, Version(7, 2, 0), broken)


def test_a_checkout_with_changes_is_refused_by_their_names(checkout: Checkout) -> None:
    extra = checkout.root / "charts" / "new.yaml"
    extra.write_text("a: 1\n")
    try:
        with pytest.raises(ReleaseError, match=r"has changes \(charts/new\.yaml\): commit them"):
            command.release(checkout.root, Version(7, 3, 0), tiny_release.tools())
    finally:
        extra.unlink()


def test_a_version_below_the_newest_is_refused(checkout: Checkout, made: Path) -> None:
    checkout.git("merge", "--quiet", "--ff-only", "v7.0.0")
    with pytest.raises(ReleaseError, match=r"VERSION=6\.9\.9 comes before the newest release, 7\.0\.0"):
        command.release(checkout.root, Version(6, 9, 9), tiny_release.tools())
    with pytest.raises(ReleaseError, match=r"no section '## Unreleased' with something in it"):
        command.release(checkout.root, Version(8, 0, 0), tiny_release.tools())
