"""`initFrom` from a bucket and from a web server: the same run as from a volume, or a clear word."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from footplate_contracts.names import Backend, ExitCode
from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.commands.generate import load
from footplate_trainer.errors import StorageError, TrainerError
from footplate_trainer.huggingface.folder import ModelFolder
from footplate_trainer.huggingface.load import fetch_weights_everywhere
from footplate_trainer.input_folder import NodeFolder
from footplate_trainer.parallel.world import init_distributed, read_environment
from footplate_trainer.storage import open_storage
from tests.support.checkpoints import config_from, export_tiny
from tests.support.ranks import run_ranks
from tests.support.s3 import s3_server
from tests.support.training import Ended, FakeAgent, train, train_under
from tests.support.web import Web, web_server


@pytest.fixture(scope="module")
def trained(shards: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `checkpoints` of a small GPT-2, the same `exported`, and that again in `parts`."""
    folder = export_tiny(shards, tmp_path_factory.mktemp("trained"))
    parts = folder / "parts"
    shutil.copytree(folder / "exported", parts)
    tensors = load_file(parts / "model.safetensors")
    (parts / "model.safetensors").unlink()
    files = {name: f"model-{number % 2}.safetensors" for number, name in enumerate(sorted(tensors))}
    for file in sorted(set(files.values())):
        save_file({name: tensors[name] for name in files if files[name] == file}, parts / file)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    return folder


@pytest.fixture(scope="module")
def bucket(trained: Path) -> Iterator[Mapping[str, str]]:
    """The environment of a server with both folders in its bucket, and one in which a file is missing."""
    with s3_server("bucket") as environment:
        with pytest.MonkeyPatch.context() as here:
            for name, value in environment.items():
                here.setenv(name, value)
            for folder in ("exported", "parts"):
                put(trained / folder, f"s3://bucket/initial/{folder}")
            half = ("config.json", "model.safetensors.index.json", "model-0.safetensors")
            put(trained / "parts", "s3://bucket/initial/half", *half)
        yield environment


def put(folder: Path, uri: str, *names: str) -> None:
    """All files of `folder`, or those named, at `uri`."""
    for path in folder.iterdir():
        if not names or path.name in names:
            open_storage(uri).upload(path, path.name)


REMEDY = "; set credentials that may read and list it in trainer.env or trainer.envFrom\n"


@dataclass
class Place:
    """A folder elsewhere."""

    uri: str
    environment: Mapping[str, str]
    web: Web | None = None


@pytest.fixture
def elsewhere(kind: str, trained: Path, request: pytest.FixtureRequest) -> Iterator[Place]:
    if kind == "s3":
        yield Place("s3://bucket/initial", request.getfixturevalue("bucket"))
        return
    with web_server(trained, lists=kind == "http") as web:
        yield Place(web.address, {}, web)


@pytest.mark.parametrize(
    ("kind", "folder"),
    [
        ("s3", "parts"),
        pytest.param("http", "exported", marks=pytest.mark.long),
        ("http-without-listing", "parts"),
    ],
)
def test_the_weights_are_the_folders_and_copied_once(
    shards: Path, trained: Path, tmp_path: Path, elsewhere: Place, folder: str
) -> None:
    config = config_from(shards, f"{elsewhere.uri}/{folder}", tmp_path, {})
    told = {**elsewhere.environment, "FOOTPLATE_DATA_CACHE": str(tmp_path / "cache")}
    assert run_ranks(train, 2, config, environment=told) == [0] * 2

    before, after = (load(find_newest_whole(str(place / "checkpoints")))[0] for place in (trained, tmp_path))
    for name, parameter in after.named_parameters():
        torch.testing.assert_close(parameter, before.get_parameter(name), rtol=1e-6, atol=1e-9)
    files = sorted(path.name for path in (trained / folder).glob("*.safetensors"))
    assert sorted(path.name for path in (tmp_path / "cache").glob("*/*.safetensors")) == files
    if elsewhere.web is not None:
        fetched = [name for name in elsewhere.web.fetched if name.endswith(".safetensors")]
        assert sorted(fetched) == files


def test_a_plan_reads_the_shape_and_copies_nothing(
    shards: Path,
    trained: Path,
    tmp_path: Path,
    bucket: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("FOOTPLATE_DATA_CACHE", str(tmp_path / "cache"))
    config_from(shards, "s3://bucket/initial/exported", tmp_path, {})

    assert main(("plan", str(tmp_path / "run.json"), "--ranks", "2")) == 0

    network, _ = load(find_newest_whole(str(trained / "checkpoints")))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert f"{parameters:,}" in capsys.readouterr().out
    assert not (tmp_path / "cache").exists()


def refused(shards: Path, folder: Path, uri: str, environment: Mapping[str, str]) -> str:
    """What two ranks say that end as a mistake in the configuration does."""
    told = {**environment, "FOOTPLATE_DATA_CACHE": str(folder / "cache")}
    config = config_from(shards, uri, folder, {})
    ended: list[Ended] = run_ranks(train_under, 2, FakeAgent(), config, environment=told)
    assert [end.code for end in ended] == [ExitCode.CONFIG] * 2, ended[0].stderr
    errors = [line for line in ended[0].stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "Traceback" not in ended[0].stderr
    return errors[0]


def test_a_file_of_the_index_that_is_not_there_is_named(
    shards: Path, tmp_path: Path, bucket: Mapping[str, str]
) -> None:
    assert refused(shards, tmp_path, "s3://bucket/initial/half", bucket) == (
        "error: s3://bucket/initial/half/model.safetensors.index.json lists files that are missing: "
        "model-1.safetensors; copy them, too"
    )


def test_a_file_that_is_cut_off_is_named_where_it_lies(shards: Path, trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained / "exported", tmp_path / "web")
    weights = tmp_path / "web" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with web_server(tmp_path / "web") as web:
        said = refused(shards, tmp_path, web.address, {})
    assert f"{web.address}/model.safetensors is not a safetensors file: " in said


@dataclass
class OnTwoNodes(ModelFolder):
    """A folder of which each rank, on a node of its own, gets something else."""

    got: list[str | TrainerError]

    def __post_init__(self) -> None:
        super().__init__("s3://bucket/model")

    def fetch_weights(self, owner: str = "", local_rank: int = 0) -> NodeFolder:
        mine = self.got[local_rank]
        if isinstance(mine, TrainerError):
            raise mine
        return NodeFolder(Path(), mine)


def heard(cases: list[list[str | TrainerError]]) -> list[str]:
    """What one rank hears in each case."""
    told = []
    with init_distributed(read_environment(os.environ), Backend.GLOO) as world:
        for got in cases:
            try:
                told.append(fetch_weights_everywhere(OnTwoNodes(got), "", world).digest)
            except TrainerError as error:
                told.append(f"{type(error).__name__}: {error}")
    return told


def test_nodes_begin_with_the_same_or_not_at_all() -> None:
    cases = [["same", "same"], ["before", "after"], ["whole", StorageError("no room")]]
    expected = [
        "same",
        "StorageError: initFrom.uri s3://bucket/model changed while nodes copied it: they have different "
        "weights; write it to another folder, and use that",
        "StorageError: no room",
    ]
    assert run_ranks(heard, 2, cases) == [expected] * 2


Planned = Callable[[str], tuple[int, str]]


@pytest.fixture
def planned(
    shards: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Planned:
    """Exit code and error of a plan whose model is elsewhere; ranks read its shape in the same way."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)

    def plan(uri: str) -> tuple[int, str]:
        config_from(shards, uri, tmp_path, {})
        return main(("plan", str(tmp_path / "run.json"), "--ranks", "2")), capsys.readouterr().err

    return plan


def test_a_folder_without_a_model_is_told_with_the_remedy(
    planned: Planned, bucket: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in bucket.items():
        monkeypatch.setenv(name, value)
    assert planned("s3://bucket/nowhere") == (
        ExitCode.CONFIG,
        "error: initFrom.uri s3://bucket/nowhere: has no config.json; use a folder with config.json and "
        "*.safetensors\n",
    )


def test_what_may_not_be_read_is_told_with_the_remedy(planned: Planned, tmp_path: Path) -> None:
    with web_server(tmp_path, refuses=403) as web:
        code, said = planned(f"{web.address}/model")
    assert code == ExitCode.CONFIG
    assert said.startswith(f"error: initFrom.uri cannot be read: {web.address}/model/config.json: 403")
    assert said.endswith(REMEDY)


def test_a_bucket_without_credentials_is_told_with_the_remedy(
    planned: Planned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without any the identity of the machine is asked for, at an address that a proxy refuses here at once.
    with web_server(tmp_path, refuses=403) as web:
        monkeypatch.setenv("HTTP_PROXY", web.address)
        code, said = planned("s3://bucket/model")
    assert code == ExitCode.CONFIG
    assert said.startswith(
        "error: initFrom.uri cannot be read: s3://bucket/model/config.json: no credentials found: "
    )
    assert said.endswith(REMEDY)


def test_a_server_that_does_not_answer_may_do_so_later(planned: Planned) -> None:
    code, said = planned("http://127.0.0.1:9/model")
    assert code == ExitCode.STORAGE
    assert said.startswith("error: initFrom.uri cannot be read: http://127.0.0.1:9/model/config.json: Cannot")


def test_training_without_a_cluster_misses_a_model_before_anything_is_made(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config_from(shards, str(tmp_path / "nowhere"), tmp_path, {})

    assert main(("train", str(tmp_path / "run.json"))) == ExitCode.CONFIG

    assert f"initFrom.uri {tmp_path / 'nowhere'}: the folder does not exist" in capsys.readouterr().err
    assert not (tmp_path / "checkpoints").exists()
