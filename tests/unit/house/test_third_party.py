"""The lists of what images contain of others: whole, of known licence, and of nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from tools import gen
from tools.third_party import data, images, libraries, licences, page
from tools.third_party.images import ROOT, OtherEnvironment
from tools.third_party.licences import CUDA, OURS, SDK, Said, UnknownLicence, expression

DOCKERFILES = images.dockerfiles()
SHIPPED = {name for text in DOCKERFILES.values() for name in images.packages(text)}
AGREEMENT = "End User License Agreement\n\nChapter 1 and the Supplement"


def rows(image: str, heading: str) -> list[list[str]]:
    """Cells of the committed table below a heading; none where there is no such heading."""
    text = (page.FOLDER / f"{image}.md").read_text()
    section = re.search(rf"^## {heading}$(.*?)(?=^## |\Z)", text, re.M | re.S)
    lines = [line for line in (section[1] if section else "").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


@pytest.mark.parametrize("image", DOCKERFILES)
def test_an_image_s_packages_are_listed_with_version_and_licence_and_no_others(image: str) -> None:
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())
    listed = {name: version for name, version, _, _ in rows(image, "Python packages")}
    assert listed == {name: pinned[name] for name in images.packages(DOCKERFILES[image])}
    assert all(licence and text for _, _, licence, text in rows(image, "Python packages"))


@pytest.mark.parametrize("image", DOCKERFILES)
def test_the_committed_list_is_the_one_that_is_made_now(image: str) -> None:
    assert (page.FOLDER / f"{image}.md").read_text() == page.page(image, DOCKERFILES[image])


def test_what_each_image_is_about_is_in_its_list_and_nowhere_else() -> None:
    found = {image: {name for name, *_ in rows(image, "Python packages")} for image in DOCKERFILES}
    assert {image for image, names in found.items() if "torch" in names} == {"trainer"}
    assert {image for image, names in found.items() if "kopf" in names} == {"operator"}
    assert {image for image, names in found.items() if "sqlalchemy" in names} == {"api"}
    assert {image for image, names in found.items() if "pytest" in names} == set()


def test_a_closure_follows_markers_and_extras_of_the_image_and_not_of_this_machine() -> None:
    needs = {
        "a": ["b[fast]>=1", "windows; sys_platform == 'win32'", "arm; platform_machine == 'aarch64'"],
        "b": ["c; extra == 'fast'", "d; extra == 'slow'", "backport; python_version < '3.11'"],
        "c": ["A"],
    }
    assert images.closure([Requirement("a")], lambda name: needs.get(name, [])) == ["a", "b", "c"]


def test_a_package_that_is_not_installed_is_an_error_that_says_what_to_do() -> None:
    said = r"^docs/third-party/ .* the package no-such-package, which this environment has not\. `make venv` "
    with pytest.raises(OtherEnvironment, match=said):
        images.closure([Requirement("no-such-package")])


@pytest.mark.parametrize("machine", [("Darwin", "arm64"), ("Linux", "aarch64"), ("Windows", "AMD64")])
def test_on_another_machine_than_images_are_for_no_list_is_made(machine: tuple[str, str]) -> None:
    said = rf"are for {' on '.join(machine)}, and images have those for Linux on x86_64\."
    with pytest.raises(OtherEnvironment, match=said):
        images.require_machine(*machine)


@pytest.mark.parametrize("error", [OtherEnvironment("not here"), UnknownLicence("not here")], ids=repr)
@pytest.mark.parametrize("arguments", [[], ["--check"]], ids=["gen", "verify"])
def test_what_cannot_be_made_here_ends_with_a_sentence(
    error: Exception, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    def contents() -> dict[Path, str]:
        raise error

    assert gen.main(arguments, contents) == 2
    assert capsys.readouterr().err == "not here. No file was changed.\n"


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        pytest.param(Said("a", expression="mit"), "MIT", id="an-expression"),
        pytest.param(Said("a", licence="Apache 2.0"), "Apache-2.0", id="a-name"),
        pytest.param(Said("a", licence="MIT License\n\nCopyright …"), "MIT", id="a-whole-text"),
        pytest.param(
            Said("a", classifiers=("License :: OSI Approved :: MIT License",)), "MIT", id="a-classifier"
        ),
        pytest.param(Said("mpmath", licence="BSD"), "BSD-3-Clause", id="read-by-us"),
        pytest.param(
            Said("nvidia-a", expression="LicenseRef-NVIDIA-Proprietary", text=AGREEMENT), CUDA, id="of-cuda"
        ),
        pytest.param(
            Said("nvidia-a", expression="LicenseRef-NVIDIA-Proprietary", text="Apache License\nVersion 2.0"),
            "Apache-2.0",
            id="said-to-be-proprietary-and-is-not",
        ),
    ],
)
def test_licence(said: Said, licence: str) -> None:
    assert expression(said) == licence


@pytest.mark.parametrize(
    "said",
    [
        pytest.param(Said("a"), id="nothing"),
        pytest.param(Said("a", licence="BSD"), id="one-of-several"),
        pytest.param(
            Said("a", classifiers=("License :: OSI Approved :: BSD License",)), id="a-classifier-for-several"
        ),
        pytest.param(Said("a", licence="see the file"), id="no-licence"),
        pytest.param(Said("a", expression="LicenseRef-NVIDIA-Proprietary", text="New terms"), id="new-terms"),
    ],
)
def test_an_unknown_licence_is_refused_by_the_package_s_name(said: Said) -> None:
    with pytest.raises(UnknownLicence, match=r"^a: "):
        expression(said)


def test_our_own_tables_hold_for_what_is_shipped_and_for_nothing_else() -> None:
    assert set(OURS) <= SHIPPED
    assert set(licences.ELSEWHERE) <= SHIPPED
    brought = {item.name for name in SHIPPED for item in libraries.brought(name, licences.files_of(name))}
    assert brought == set(libraries.LIBRARIES)


@pytest.mark.parametrize("name", sorted(OURS))
def test_our_word_stands_only_where_metadata_has_none(name: str) -> None:
    said = licences.said_by(name)
    other = Said(f"not-{name}", said.expression, said.licence, said.classifiers)
    with pytest.raises(UnknownLicence):
        expression(other)


def test_a_library_of_which_nobody_has_looked_is_refused() -> None:
    with pytest.raises(UnknownLicence, match=r"pillow brings pillow\.libs/libnew-0123abcd\.so\.1"):
        libraries.brought("pillow", ["pillow.libs/libnew-0123abcd.so.1"])


def test_files_of_nvidia_are_told_apart_by_the_list_of_its_agreement() -> None:
    agreement = "2.6. Attachment A\nlibcublas.so, libcublas_static.a\n2.7. Attachment B\nlibother.so"
    named = libraries.attachment(agreement)
    files = ["nvidia/cu13/lib/libcublas.so.13", "nvidia/cu13/lib/libother.so.1", "nvidia/cu13/include/a.h"]
    assert libraries.of_nvidia("nvidia-cublas", CUDA, files, named) == libraries.OfNvidia(
        "nvidia-cublas", ("libcublas.so",), ("libother.so",)
    )
    assert libraries.of_nvidia("nvidia-cudnn", SDK, ["nvidia/cudnn/lib/libcudnn.so.9"], named) == (
        libraries.OfNvidia("nvidia-cudnn", ("libcudnn.so",), ())
    )
    assert libraries.of_nvidia("numpy", "MIT", ["numpy.libs/libcublas.so"], named) is None


def test_each_package_with_binaries_of_nvidia_says_which_may_be_passed_on() -> None:
    listed = {package for package, _, _ in rows("trainer", "NVIDIA's software")}
    terms = {name: licence for name, _, licence, _ in rows("trainer", "Python packages")}
    without = {"cuda-toolkit", "nvidia-cuda-cccl"}  # one has no files, the other headers only
    assert listed == {name for name, said in terms.items() if said in {CUDA, SDK}} - without | {"triton"}
    assert all(rows(image, "NVIDIA's software") == [] for image in DOCKERFILES if image != "trainer")


def test_data_of_others_are_in_the_images_that_have_them_and_in_the_notice() -> None:
    tables = len(json.loads(data.INTENSITIES.read_text()))
    assert {image: len(rows(image, "Data and pages")) for image in DOCKERFILES} == {
        "operator": tables,
        "api": tables + 1,
        "coordinator": 0,
        "trainer": 0,
    }
    notice = (ROOT / "NOTICE").read_text()
    swagger = (data.PAGE.parent / "NOTICE").read_text().split("\n")
    owed = ["Our World in Data", "CC BY 4.0", "Code Carbon NGO", "Thoughtworks", "Development Seed", *swagger]
    assert [words for words in owed if words not in notice] == []
    in_notice = {name for name, place in licences.ELSEWHERE.items() if place.startswith("NOTICE")}
    assert all(name in notice for name in in_notice)


def test_no_other_file_of_somebody_else_came_into_a_distribution() -> None:
    known = {data.INTENSITIES, *data.PAGE.parent.iterdir()}
    own = {"py.typed", "trainingrunspec.json", "start.js", "index.html"}
    sources = [file for part in ROOT.glob("*/src") for file in part.rglob("*") if file.is_file()]
    strange = [
        file
        for file in sources
        if file.suffix not in {".py", ".pyc"} and file.name not in own and file not in known
    ]
    assert strange == []


@pytest.mark.parametrize("image", DOCKERFILES)
def test_an_image_has_its_list_and_is_built_from_all_that_it_copies(image: str) -> None:
    table = tomllib.loads((ROOT / "dev/cluster/images/images.toml").read_text())[image]
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", DOCKERFILES[image], re.M)
    paths = [path for line in copied for path in line.split()]
    assert {"LICENSE", "NOTICE", f"docs/third-party/{image}.md"} <= set(paths)
    within = tuple(table["context"])
    assert [path for path in paths if not any(f"{path}/".startswith(f"{root}/") for root in within)] == []
