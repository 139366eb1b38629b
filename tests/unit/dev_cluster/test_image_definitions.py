"""Which images there are, and when one has to be built again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.images import builder, definitions
from cluster.images.definitions import HERE, Image, Sources
from cluster.paths import REPO

IMAGE = Image("operator", "operator/Dockerfile", ("operator", "constraints.txt"))


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    for name in ("operator/Dockerfile", "operator/src/a.py", "constraints.txt", "api/b.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def key(repo: Path, image: Image = IMAGE, base: str = "base") -> str:
    return definitions.key_of(image, repo, base)


def test_the_committed_table_names_files_that_exist() -> None:
    table = HERE.images()
    assert [image.name for image in table] == ["operator", "api", "coordinator", "trainer"]
    for image in table:
        assert definitions.context_files(image, REPO)
        assert (REPO / image.dockerfile).is_file()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param('[a]\ncontext = ["x"]', "[a] lacks `dockerfile`", id="no-dockerfile"),
        pytest.param('[a]\ndockerfile = "x"', "[a] lacks `context`", id="no-context"),
        pytest.param(
            '[a]\ndockerfile = "x"\ncontext = []\nstage = "y"', "[a] has unknown stage", id="unknown-field"
        ),
    ],
)
def test_a_wrong_table_says_which_row_and_field(text: str, message: str) -> None:
    with pytest.raises(ClusterError) as error:
        definitions.parse(text)
    assert message in str(error.value)


def test_only_what_the_image_is_built_from_changes_its_key(repo: Path) -> None:
    before = key(repo)
    (repo / "api" / "b.py").write_text("changed")
    assert key(repo) == before
    (repo / "operator" / "src" / "a.py").write_text("changed")
    assert key(repo) != before


def test_base_target_and_arguments_change_the_key(repo: Path) -> None:
    variants = [
        IMAGE,
        Image("operator", IMAGE.dockerfile, IMAGE.context, target="other"),
        Image("operator", IMAGE.dockerfile, IMAGE.context, arguments=(("A", "1"),)),
    ]
    assert len({key(repo, image) for image in variants} | {key(repo, base="newer")}) == 4


def test_what_git_ignores_is_not_part_of_an_image(repo: Path) -> None:
    subprocess.run(["git", "init", "--quiet"], cwd=repo, check=True)
    (repo / ".gitignore").write_text("*.log\n")
    (repo / "operator" / "debug.log").write_text("noise")
    (repo / "operator" / "new.py").write_text("not added yet")
    files = definitions.context_files(IMAGE, repo)
    assert "operator/debug.log" not in files
    assert "operator/new.py" in files


def test_without_git_the_files_are_found_all_the_same(repo: Path) -> None:
    (repo / "operator" / "__pycache__").mkdir()
    (repo / "operator" / "__pycache__" / "a.pyc").write_text("")
    files = definitions.context_files(IMAGE, repo)
    assert files == ["constraints.txt", "operator/Dockerfile", "operator/src/a.py"]


def test_a_context_holds_the_keyed_files_with_one_time(repo: Path, tmp_path: Path) -> None:
    target = tmp_path / "context"
    exported = definitions.export_context(IMAGE, repo, target, "base")
    files = {str(path.relative_to(target)) for path in target.rglob("*") if path.is_file()}
    assert files == set(definitions.context_files(IMAGE, repo))
    assert {path.stat().st_mtime for path in target.rglob("*")} == {definitions.FILE_TIME}
    assert exported == key(repo)


def test_certificates_reach_a_build_only_where_the_machine_has_its_own() -> None:
    assert builder.certificate_options({}) == []
    options = builder.certificate_options({"PIP_CERT": "/proxy.pem"})
    assert "/proxy.pem:/etc/ssl/certs/ca-certificates.crt:ro" in options
    assert "PIP_CERT=/etc/ssl/certs/ca-certificates.crt" in options


def test_the_base_is_named_by_what_goes_into_it() -> None:
    assert builder.base_reference().startswith("localhost/footplate/base:")
    assert builder.base_options()[-1] == "bookworm"


@pytest.mark.parametrize("image", HERE.images(), ids=lambda image: image.name)
def test_the_revision_is_an_argument_of_the_last_layer_that_runs(image: Image) -> None:
    """buildah finds a layer of ENV by its text, without the argument's value; one of RUN by both."""
    stage = (REPO / image.dockerfile).read_text().rpartition("\nFROM ")[2].splitlines()
    keywords = [line.partition(" ")[0] for line in stage]
    assert stage.index("ARG REVISION") < len(keywords) - keywords[::-1].index("RUN")


def test_a_folder_of_something_else_is_no_sources(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match=r"is no checkout of this project: it has no images\.toml"):
        Sources(tmp_path).images()


def test_images_of_another_release_are_found_by_another_tag() -> None:
    assert (
        IMAGE.tagged(Sources(Path("/elsewhere"), "previous").tag) == "localhost/footplate/operator:previous"
    )
