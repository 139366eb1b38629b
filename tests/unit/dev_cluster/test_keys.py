"""Content keys: the same content is the same key, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster import keys
from cluster.errors import ClusterError
from cluster.programs import binaries


def test_a_key_depends_on_names_contents_and_their_borders() -> None:
    variants = [
        [("a", b"bc")],
        [("ab", b"c")],
        [("a", b"b"), ("c", b"")],
        [("c", b""), ("a", b"b")],
        [],
    ]
    assert len({keys.content_key(parts) for parts in variants}) == len(variants)


def test_a_key_is_stable_and_fits_into_a_file_name() -> None:
    key = keys.content_key([("a", b"b")])
    assert key == keys.content_key([("a", b"b")])
    assert len(key) == keys.KEY_LENGTH
    assert key.isalnum()


def test_files_that_do_not_exist_are_no_parts(tmp_path: Path) -> None:
    (tmp_path / "go.mod").write_text("module x")
    parts = keys.file_parts(tmp_path, ["main.go", "go.mod", "go.mod"])
    assert parts == [("go.mod", b"module x")]


def test_whether_a_file_may_be_executed_is_content(tmp_path: Path) -> None:
    script = tmp_path / "run"
    script.write_text("true")
    before = keys.file_parts(tmp_path, ["run"])
    script.chmod(0o755)
    assert keys.file_parts(tmp_path, ["run"]) != before


def test_a_program_is_built_again_for_another_compiler_or_another_source(tmp_path: Path) -> None:
    (tmp_path / "main.go").write_text("package main")
    first = binaries.program_key(binaries.PAUSE, tmp_path, "go1.26.8")
    assert binaries.program_key(binaries.PAUSE, tmp_path, "go1.26.9") != first
    (tmp_path / "README.md").write_text("not a source")
    assert binaries.program_key(binaries.PAUSE, tmp_path, "go1.26.8") == first
    (tmp_path / "main.go").write_text("package main // changed")
    assert binaries.program_key(binaries.PAUSE, tmp_path, "go1.26.8") != first


def test_clients_are_told_the_version_of_kubernetes() -> None:
    flags = binaries.linker_flags(binaries.KUBERNETES)
    assert f"-X k8s.io/component-base/version.gitVersion=v{binaries.KUBERNETES_VERSION}" in flags


def test_programs_are_named_one_by_one_or_are_those_of_the_cluster() -> None:
    assert binaries.named([]) == binaries.ALL and binaries.REGISTRY not in binaries.ALL
    assert binaries.named(["registry", "helm"]) == [binaries.REGISTRY, binaries.HELM]
    with pytest.raises(ClusterError, match=r"no program is called docker: there are kubernetes, .*registry"):
        binaries.named(["docker"])
