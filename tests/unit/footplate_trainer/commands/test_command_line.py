"""`footplate-trainer` as a person meets it, as far as that needs no process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from footplate_trainer.__main__ import main

VERBS = ("train", "pack", "plan", "diagnose", "generate", "export", "inspect", "verify")


def test_help_names_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])

    assert ended.value.code == 0
    told = capsys.readouterr().out
    assert all(verb in told for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_explains_itself(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([verb, "--help"])

    assert ended.value.code == 0
    assert f"usage: footplate-trainer {verb}" in capsys.readouterr().out


IMPORTED = """
import sys
from footplate_trainer.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit:
    print(*(name for name in sys.modules if name == "torch" or "trainer.commands." in name))
"""


@pytest.mark.parametrize(
    ("arguments", "imported"),
    [
        pytest.param(["--help"], "", id="no-verb"),
        pytest.param(["train", "--help"], "footplate_trainer.commands.train", id="train"),
        pytest.param(["plan", "--help"], "footplate_trainer.commands.plan", id="plan"),
    ],
)
def test_nothing_is_imported_that_was_not_asked_for(arguments: list[str], imported: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", IMPORTED, *arguments], capture_output=True, text=True, check=True
    )
    assert told.stdout.splitlines()[-1] == imported


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["train", "missing.yaml"], "missing.yaml: cannot be read", id="no-manifest"),
        pytest.param(
            ["generate", "nowhere", "text"], "nowhere has no committed checkpoint", id="no-checkpoint"
        ),
        pytest.param(
            ["generate", "x", "y", "--max-new-tokens", "0"],
            "--max-new-tokens must be at least 1",
            id="no-tokens",
        ),
        pytest.param(["generate", "x", "y", "--temperature", "nan"], "temperature nan must be", id="nan"),
        pytest.param(["generate", "x", "y", "--temperature", "inf"], "temperature inf must be", id="hot"),
        pytest.param(["generate", "x", "y", "--temperature", "1e-40"], "1e-40 must be 0, or", id="cold"),
        pytest.param(["generate", "x", "y", "--seed", "9" * 20], "must be a 64-bit integer", id="seed"),
        pytest.param(["generate", "x"], "pass a text, or a file as --prompts", id="nothing-to-go-on-from"),
        pytest.param(["generate", "x", "--prompts", "y"], "--prompts FILE needs --output FILE", id="no-out"),
        pytest.param(["generate", "x", "\udcff"], "the text is not UTF-8", id="no-text"),
        pytest.param(["export", "x", "s3://b/x"], "OUT s3://b/x is not a path", id="export-to-a-bucket"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_78(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)

    assert main(arguments) == 78

    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert message in told
    assert told.count("\n") == 1
