"""The chart of a release: values by digest, and the same archive every time."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
import yaml
from tools.release import chart
from tools.release.errors import ReleaseError

VALUES = Path(__file__).resolve().parents[3] / "charts" / "footplate" / "values.yaml"
IMAGES = ("operator", "api", "coordinator", "trainer")
DIGESTS = {name: f"sha256:{number:064x}" for number, name in enumerate(IMAGES)}


def test_each_image_has_its_digest_and_nothing_else_changes() -> None:
    text = VALUES.read_text()
    written = chart.with_digests(text, DIGESTS)
    before, after = yaml.safe_load(text), yaml.safe_load(written)
    for name, digest in DIGESTS.items():
        assert after[name]["image"].pop("digest") == digest
        assert before[name]["image"].pop("digest") == ""
    assert after == before
    assert len(written) == len(text) + sum(map(len, DIGESTS.values()))


@pytest.mark.parametrize(
    "digests",
    [
        pytest.param({**DIGESTS, "portal": "sha256:1"}, id="an-image-without-a-row"),
        pytest.param({name: DIGESTS[name] for name in IMAGES[:3]}, id="a-row-without-an-image"),
    ],
)
def test_images_of_values_and_of_the_release_are_the_same(digests: dict[str, str]) -> None:
    with pytest.raises(ReleaseError, match="of this release they are"):
        chart.with_digests(VALUES.read_text(), digests)


def test_the_archive_is_of_the_folder_with_other_values(tmp_path: Path) -> None:
    folder = tmp_path / "footplate"
    (folder / "templates").mkdir(parents=True)
    for name in ("values.yaml", "Chart.yaml", "templates/a.yaml"):
        (folder / name).write_text(name)
    packed = chart.packed(folder, "new", 1_700_000_000)
    (folder / "values.yaml").touch()
    assert chart.packed(folder, "new", 1_700_000_000) == packed
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == [
            "footplate/Chart.yaml",
            "footplate/templates/a.yaml",
            "footplate/values.yaml",
        ]
        assert {member.mtime for member in members} == {1_700_000_000}
        values = archive.extractfile("footplate/values.yaml")
        assert values is not None
        assert values.read() == b"new"
