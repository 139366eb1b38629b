"""What a reward model gives texts, computed apart from any training; and prompts for one to judge."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

from footplate_planning.config import model_shape
from footplate_trainer.checkpoint import state_tensors
from footplate_trainer.checkpoint.lookup import find_newest_whole
from footplate_trainer.checkpoint.tensor_reader import load_tensors
from footplate_trainer.data.preference_dataset import PreferenceDataset
from footplate_trainer.data.shards import TokenShards
from footplate_trainer.model.inputs import Inputs, Targets
from footplate_trainer.model.network_factory import build_network
from footplate_trainer.model.sequence_scores import compute_sequence_scores
from tests.support.plain_llama import random_weights, write
from tests.support.reinforced import pack_prompts
from tests.support.rewards.plain_scores import EVEN, SEED


def our_scores(checkpoints: Path, pairs: Path) -> tuple[list[list[int]], list[float]]:
    """All sequences of packed `pairs`, and what the newest of `checkpoints` gives them there."""
    checkpoint = find_newest_whole(str(checkpoints))
    config = checkpoint.config()
    network = build_network(model_shape(config)).eval()
    load_tensors(checkpoint, state_tensors.model_tensors(network))
    data = PreferenceDataset(TokenShards.open(str(pairs)), config.model.context_length)
    sequences: list[list[int]] = []
    given: list[float] = []
    for sample in (data.get(number) for number in range(len(data))):
        assert sample.sequences is not None
        tokens, documents, table, labels = (
            torch.from_numpy(array)[None]
            for array in (sample.tokens, sample.documents, sample.sequences, sample.labels)
        )
        targets = Targets(labels, documents, torch.zeros(1), torch.ones(1).bool(), sequences=table)
        with torch.inference_mode():
            (hidden,) = network.forward_stage(inputs=Inputs(tokens, documents))
            scores = compute_sequence_scores(hidden, network.head_weight, targets)[0]
        there = np.flatnonzero(sample.sequences[:, 0] >= 0).tolist()
        sequences += [sample.tokens[sample.documents == number].tolist() for number in there]
        given += scores[there].tolist()
    return sequences, given


# -- prompts and a judge of random weights ---------------------------------------------------------


def judged_prompts(folder: Path, prompts: int = 12) -> Path:
    """Writes `folder`/policy, `folder`/judge and `folder`/shards of so many prompts; returns `folder`."""
    write(folder / "policy", random_weights(7, sizes=EVEN), EVEN)
    say_of_scores(write(folder / "judge", random_weights(SEED, "score", EVEN), EVEN))
    pack_prompts(folder, prompts, folder / "policy")
    return folder


def say_of_scores(judge: Path, **changes: object) -> Path:
    """Has the folder of a reward model say what its held-out scores are, and `changes`; returns `judge`."""
    config = json.loads((judge / "config.json").read_text())
    (judge / "config.json").write_text(json.dumps({**config, "mean": 0.3, "std": 1.7, **changes}))
    return judge
