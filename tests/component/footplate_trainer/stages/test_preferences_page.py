"""docs/preferences.md: its commands pack, its run trains, and its tables name what there is."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from footplate_contracts.runconfig import resolve_preference
from footplate_contracts.v1alpha1.preference import Preference, PreferenceLoss
from footplate_contracts.v1alpha1.training import Stage
from footplate_trainer.model.preference_loss import build_preference_loss
from tests.support.pages import DOCS, Page
from tests.support.plain_llama import random_weights, write
from tests.support.stages import preferences
from tests.support.tiny import read_rows

PAGE = (DOCS / "preferences.md").read_text()


def _rows(title: str) -> list[list[str]]:
    """The cells of the first table under a title, without its head."""
    section = PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def test_what_the_page_packs_and_trains(tmp_path: Path) -> None:
    """As they stand there, but for places, the length of the run and the rate, which suits larger models."""
    page = Page("preferences.md", tmp_path)
    write(tmp_path / "models" / "chat", random_weights(7))
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in preferences()))
    (tmp_path / "data").mkdir()
    [pack] = page.blocks("sh")
    for out in ("/data/pairs", "/data/held-out"):
        page.run(pack.replace("/data/pairs", out))
    shorter = (
        "training.steps=4",
        "training.globalBatchSize=2",
        "training.optimizer={learningRate: 0.003}",
        "model.contextLength=512",
        "validation.everySteps=4",
    )
    page.train(0, shorter)

    first, *_, last = read_rows(Path(page.rows))
    assert last["loss"] < first["loss"] == pytest.approx(0.693147, abs=1e-6)
    told = {name for [names, _] in _rows("Rows") for name in re.findall("`([^`]+)`", names)} - {"kl", "nll"}
    assert set(first["values"]) == told
    assert set(last["values"]) == told | {f"validation/{name}" for name in told}


def test_the_table_of_losses_has_all_of_them_with_their_fields_and_defaults() -> None:
    found = {}
    for loss, fields, defaults, _ in _rows("Losses"):
        names = [name for name in re.findall("`([^`]+)`", fields) if not name.startswith("data.")]
        stated = [value.strip(" `") for value in defaults.split(",")]
        found[loss.strip("`")] = dict(zip(names, stated, strict=False))
    assert found.keys() == set(PreferenceLoss)
    for loss, told in found.items():
        settings = resolve_preference(Preference(loss=PreferenceLoss(loss)), Stage.DPO)
        assert settings is not None
        plain = settings.to_json()
        expected = {name: plain[name] for name in plain if name not in ("loss", "reference")}
        assert {name: yaml.safe_load(value) for name, value in told.items()} == expected


def test_the_table_of_rows_has_every_name() -> None:
    told = {name for [names, _] in _rows("Rows") for name in re.findall("`([^`]+)`", names)}
    settings = (resolve_preference(Preference(loss=loss), Stage.DPO) for loss in PreferenceLoss)
    assert told == {
        name for found in settings if found is not None for name in build_preference_loss(found).names
    }
