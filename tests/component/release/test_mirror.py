"""mirror.py, as it lies in a release's folder, against a real registry with TLS and a password."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tools.release import archives, mirror
from tools.release.versions import Version

from cluster.images import oci
from tests.support import registry, tiny_release
from tests.support.registry import PASSWORD, USER, Running

Row = dict[str, Any]


def release_in(folder: Path) -> list[Row]:
    """What of a release's folder mirror.py reads; the rows of release.json."""
    (folder / "images").mkdir(parents=True)
    made = tiny_release.images(folder, folder / "images", Version(7, 0, 0))
    rows = [
        {
            "name": name,
            "archive": f"images/{name}.tar",
            "repository": f"footplate/{name}",
            "tag": "7.0.0",
            "digest": archives.read(path).digest,
        }
        for name, path in made.items()
    ]
    (folder / "release.json").write_text(json.dumps({"images": rows}))
    shutil.copy(mirror.__file__, folder / "mirror.py")
    return rows


def call(folder: Path, *words: str, password: str = PASSWORD) -> subprocess.CompletedProcess[str]:
    """The program of the folder, by Python without any package."""
    command = [sys.executable, "-I", "-S", "mirror.py", *words]
    return subprocess.run(
        command, cwd=folder, input=f"{password}\n", capture_output=True, text=True, check=False, timeout=120
    )


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with registry.server(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture
def login(running: Running) -> tuple[str, ...]:
    return ("--ca-file", str(running.ca), "--username", USER, "--password-stdin")


def test_each_image_is_pulled_by_the_digest_of_the_release(
    running: Running, login: tuple[str, ...], tmp_path: Path
) -> None:
    rows = release_in(tmp_path / "7.0.0")
    done = call(tmp_path / "7.0.0", running.address, *login)
    assert done.returncode == 0, done.stderr
    for row in rows:
        assert f"{running.address}/{row['repository']}@{row['digest']}\n" in done.stdout
        status, manifest = running.get(f"/v2/{row['repository']}/manifests/{row['digest']}")
        assert (status, oci.digest(manifest)) == (200, row["digest"])
        document = json.loads(manifest)
        for blob in [document["config"], *document["layers"]]:
            status, content = running.get(f"/v2/{row['repository']}/blobs/{blob['digest']}")
            assert (status, oci.digest(content)) == (200, blob["digest"])
    uploads = running.requests("POST")
    assert uploads == done.stdout.count("  sent\n") > 0
    again = call(tmp_path / "7.0.0", running.address, *login)
    assert (again.returncode, again.stdout.count("  sent\n")) == (0, 0)
    assert running.requests("POST") == uploads


def test_a_path_goes_before_the_repository(running: Running, login: tuple[str, ...], tmp_path: Path) -> None:
    [first, *_] = release_in(tmp_path / "7.0.0")
    assert call(tmp_path / "7.0.0", f"{running.address}/team/mirror", *login).returncode == 0
    assert running.get(f"/v2/team/mirror/{first['repository']}/manifests/7.0.0")[0] == 200


def test_an_image_that_is_not_in_the_folder_is_left_out(
    running: Running, login: tuple[str, ...], tmp_path: Path
) -> None:
    rows = release_in(tmp_path / "7.0.0")
    archive = tmp_path / "7.0.0/images/trainer.tar"
    archive.unlink()
    missed = call(tmp_path / "7.0.0", f"{running.address}/three", *login)
    assert missed.returncode == 1 and missed.stdout == ""  # nothing was pushed yet
    assert missed.stderr == f"error: {archive} is not there: the others are pushed by --without trainer\n"
    done = call(tmp_path / "7.0.0", f"{running.address}/three", *login, "--without", "trainer")
    assert done.returncode == 0, done.stderr
    there = [
        row["name"]
        for row in rows
        if running.get(f"/v2/three/{row['repository']}/manifests/{row['digest']}")[0] == 200
    ]
    assert there == [row["name"] for row in rows if row["name"] != "trainer"] != []
    strange = call(tmp_path / "7.0.0", running.address, *login, "--without", "trainers")
    assert strange.returncode == 1
    assert strange.stderr == f"error: --without trainers: the images are {', '.join(tiny_release.IMAGES)}\n"


@pytest.mark.parametrize(
    ("words", "password", "said"),
    [
        pytest.param((), PASSWORD, "takes no credentials of nobody for", id="nobody"),
        pytest.param(("--username", USER, "--password-stdin"), "wrong", "of an account that", id="wrong"),
    ],
)
def test_whoever_may_not_push_is_told(
    running: Running, tmp_path: Path, words: tuple[str, ...], password: str, said: str
) -> None:
    release_in(tmp_path / "7.0.0")
    done = call(tmp_path / "7.0.0", running.address, "--ca-file", str(running.ca), *words, password=password)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        pytest.param((), "no TLS that we trust: .* name its authority with", id="authority"),
        pytest.param(("--plain-http",), "400 Client sent an HTTP request to an HTTPS server", id="plain"),
    ],
)
def test_a_registry_that_is_not_trusted_is_sent_nothing(
    running: Running, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    release_in(tmp_path / "7.0.0")
    done = call(tmp_path / "7.0.0", running.address, *words)
    assert done.returncode == 1
    assert re.search(said, done.stderr), done.stderr


def test_an_archive_of_another_image_is_refused(
    running: Running, login: tuple[str, ...], tmp_path: Path
) -> None:
    folder = tmp_path / "7.0.0"
    release_in(folder)
    shutil.copy(folder / "images" / "api.tar", folder / "images" / "operator.tar")
    done = call(folder, running.address, *login)
    assert done.returncode == 1
    assert "error: images/operator.tar has ['sha256:" in done.stderr
    assert "release.json names sha256:" in done.stderr


def test_it_needs_no_package_and_no_new_python() -> None:
    tree = ast.parse(Path(mirror.__file__).read_text(), feature_version=(3, 9))
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported <= sys.stdlib_module_names
