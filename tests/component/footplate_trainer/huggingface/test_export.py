"""`footplate-trainer export`: what a run trained, opened by transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from footplate_trainer.__main__ import main
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.commands.generate import load
from tests.support.ranks import run_ranks
from tests.support.tiny import tiny_config
from tests.support.training import train


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_trained_model_is_opened_as_it_is(
    shards: Path, tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = (f"model.family={family}", "model.keyValueHeads=null", "training.steps=3")
    assert run_ranks(train, 2, tiny_config(shards, tmp_path, changes)) == [0, 0]
    checkpoints, out = str(tmp_path / "checkpoints"), tmp_path / "exported"

    assert main(("export", checkpoints, str(out))) == 0
    told = capsys.readouterr().out
    assert told.endswith(f"-> {out}: model.safetensors, tokenizer.json, tokenizer_config.json, config.json\n")

    ours, our_tokenizer = load(find_newest_whole(checkpoints))
    theirs, problems = AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    tokenizer = AutoTokenizer.from_pretrained(out)
    ids = tokenizer("abc dab", add_special_tokens=False)["input_ids"]
    assert not any(problems.values())
    assert ids == our_tokenizer.encode("abc dab", add_special_tokens=False).ids
    assert tokenizer.eos_token_id == theirs.config.eos_token_id == our_tokenizer.token_to_id("<eos>")
    with torch.inference_mode():
        difference = theirs.eval()(torch.tensor([ids])).logits - ours(torch.tensor([ids]))
    assert difference.abs().max().item() <= 1e-5


def test_a_mixture_without_a_name_there_is_refused(
    shards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = ("model.position.name=learned", "training.steps=2")
    assert run_ranks(train, 1, tiny_config(shards, tmp_path, changes)) == [0]

    assert main(("export", str(tmp_path / "checkpoints"), str(tmp_path / "out"))) != 0
    assert (
        "the transformers config of llama cannot express position.name of this model"
        in capsys.readouterr().err
    )
    assert main(("export", str(tmp_path / "checkpoints"), str(tmp_path))) != 0
    assert f"{tmp_path} is not an empty folder" in capsys.readouterr().err
