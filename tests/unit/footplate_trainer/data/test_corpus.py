"""Which documents an input holds, and in which order."""

from __future__ import annotations

from pathlib import Path

import pytest

from footplate_trainer.data.corpus import Corpus, open_corpus


def texts(corpus: Corpus) -> list[str]:
    return [document.text for document in corpus]


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_folders_are_walked_in_sorted_order_inputs_in_the_given_one(tmp_path: Path) -> None:
    write(tmp_path, {"b/2.txt": b"b2", "b/10.txt": b"b10", "b/a/z.md": b"baz", "a.py": b"a"})
    corpus = open_corpus([str(tmp_path / "b"), str(tmp_path / "a.py")])
    assert texts(corpus) == ["b10", "b2", "baz", "a"]
    assert [count.documents for count in corpus.counts] == [3, 1]
    assert corpus.total_bytes == 9


@pytest.mark.parametrize(
    ("include", "expected"),
    [
        pytest.param((), ["c", "p", "t"], id="everything"),
        pytest.param(("*.py",), ["p"], id="by-name"),
        pytest.param(("sub/*",), ["c"], id="by-path"),
        pytest.param(("*.py", "*.txt"), ["p", "t"], id="either"),
    ],
)
def test_include_chooses_files_of_folders(
    tmp_path: Path, include: tuple[str, ...], expected: list[str]
) -> None:
    write(tmp_path, {"x.py": b"p", "x.txt": b"t", "sub/x.c": b"c"})
    assert sorted(texts(open_corpus([str(tmp_path)], include))) == expected


def test_hidden_files_and_folders_are_left_out(tmp_path: Path) -> None:
    write(tmp_path, {".git/config": b"g", ".env": b"e", "kept": b"k"})
    assert texts(open_corpus([str(tmp_path)])) == ["k"]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"\x7fELF\0\1", id="binary"),
        pytest.param(b"caf\xe9", id="latin-1"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_no_text_is_skipped_and_counted(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, {"no": content, "yes": "café".encode()})
    corpus = open_corpus([str(tmp_path)])
    assert texts(corpus) == ["café"]
    assert [(count.documents, count.bytes, count.skipped) for count in corpus.counts] == [(1, 5, 1)]


def test_text_is_taken_as_it_is_but_for_a_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path, {"x": b"\xef\xbb\xbfone\r\ntwo\n\n"})
    assert texts(open_corpus([str(tmp_path)])) == ["one\r\ntwo\n\n"]


def test_each_json_line_is_a_document(tmp_path: Path) -> None:
    lines = (
        b'{"text": "one"}\n\n{"id": 1, "text": "two\\n"}\n{"text": ""}\n{"text": "\\ud800"}\n{"text": "\xff"}'
    )
    corpus = open_corpus([str(write(tmp_path, {"x.jsonl": lines}))])
    assert texts(corpus) == ["one", "two\n"]
    assert corpus.counts[0].skipped == 3


@pytest.mark.parametrize(
    ("line", "named"),
    [
        pytest.param(b'{"text": "a"}\n{"text"', r"x\.jsonl:2 is not valid JSON", id="cut"),
        pytest.param(b"[" * 100_000, r"x\.jsonl:1 is not valid JSON", id="too-deep"),
        pytest.param(b'{"content": "a"}', r"x\.jsonl:1 has the fields \['content'\]", id="another-field"),
        pytest.param(b'{"text": 3}', r'must be an object with a string field "text"', id="a-number"),
        pytest.param(b'["text"]', r"x\.jsonl:1 has a list", id="a-list"),
    ],
)
def test_a_wrong_json_line_is_named(tmp_path: Path, line: bytes, named: str) -> None:
    corpus = open_corpus([str(write(tmp_path, {"x.jsonl": line}))])
    with pytest.raises(ValueError, match=named):
        texts(corpus)


@pytest.mark.parametrize(
    ("name", "include", "named"),
    [
        pytest.param("nowhere", (), "nowhere is not a file or folder; python-docs: and", id="missing"),
        pytest.param("", (), "has no file$", id="empty-folder"),
        pytest.param("", ("*.py",), r"has no file that matches \*\.py$", id="nothing-matches"),
    ],
)
def test_an_input_without_files_is_refused(
    tmp_path: Path, name: str, include: tuple[str, ...], named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        open_corpus([str(tmp_path / name)], include)


def test_the_python_reference_is_always_there() -> None:
    corpus = open_corpus(["python-docs:"])
    topics = texts(corpus)
    assert len(topics) > 50
    assert any('The "assert" statement' in topic for topic in topics)
    assert corpus.total_bytes == corpus.counts[0].bytes > 300_000


def test_the_standard_library_is_source_without_installed_packages() -> None:
    files = [path for _, path in open_corpus(["python-stdlib:"]).files]
    assert {path.suffix for path in files} == {".py"}
    assert any(path.name == "argparse.py" for path in files)
    assert not any("site-packages" in path.parts for path in files)
