"""Trains with TRL what runs.json of a folder asks for, and writes answers.json: see `oracle`."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any, Final

import torch
import transformers
from bench.posttraining.parity.oracle import lower_adapter
from datasets import Dataset, disable_progress_bars
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

COMMON: Final[Mapping[str, Any]] = {
    "bf16": False,
    "data_seed": 0,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 1e9,
    "optim": "sgd",
    "report_to": "none",
    "save_strategy": "no",
    "seed": 0,
    "train_sampling_strategy": "sequential",
    "use_cpu": True,
    "weight_decay": 0.0,
}
# Without these a trainer drops columns that it wants itself, or takes another loss than its name says.
OWN: Final[Mapping[str, Mapping[str, Any]]] = {
    "grpo": {"shuffle_dataset": False},
    "orpo": {"remove_unused_columns": False},
    "simpo": {"remove_unused_columns": False, "loss_type": "simpo", "cpo_alpha": 0.0},
}


class Recorder(transformers.TrainerCallback):
    """Keeps numbers as they are, which TRL prints with four digits, and the weights."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.logs: list[dict[str, float]] = []
        self.weights: list[str] = []

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if logs and "loss" in logs:
            self.logs.append({name: value for name, value in logs.items() if isinstance(value, int | float)})

    def on_step_end(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        self.keep(state.global_step, model)

    def keep(self, step: int, model: Any) -> None:
        """The weights after a step; those of adapters alone, where there are any."""
        file = self.folder / f"{step}.safetensors"
        trained = any("lora_" in name for name, _ in model.named_parameters())
        save_file(
            {
                name: weight.detach().clone()
                for name, weight in model.state_dict().items()
                if not trained or "lora_" in name
            },
            str(file),
        )
        self.weights.append(str(file))


def classes(trainer: str) -> tuple[Any, Any]:
    """TRL's trainer and its config."""
    if trainer == "orpo":
        from trl.experimental.orpo import ORPOConfig, ORPOTrainer

        return ORPOTrainer, ORPOConfig
    if trainer == "simpo":
        from trl.experimental.cpo import CPOConfig, CPOTrainer

        return CPOTrainer, CPOConfig
    import trl

    name = {"reward": "Reward"}.get(trainer, trainer.upper())
    return getattr(trl, f"{name}Trainer"), getattr(trl, f"{name}Config")


def given(rollouts: Sequence[Mapping[str, Any]]) -> Callable[..., dict[str, Any]]:
    """A rollout function that gives these, one after another."""
    number: Iterator[int] = count()

    def rollout(prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        rollout = rollouts[next(number)]
        assert len(rollout["answers"]) == len(prompts), f"TRL wants {len(prompts)} answers"
        return {
            "prompt_ids": rollout["prompts"],
            "completion_ids": rollout["answers"],
            "logprobs": [[0.0] * len(answer) for answer in rollout["answers"]],
            "given_rewards": rollout["rewards"],
        }

    return rollout


def its_reward(completions: Any, given_rewards: Sequence[float], **_: Any) -> list[float]:
    """What the rollout said."""
    return list(given_rewards)


def trained(run: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """What a run did, as `oracle.Seen` has it."""
    kind = run["trainer"]
    opener = AutoModelForSequenceClassification if kind == "reward" else AutoModelForCausalLM
    tokenizer = AutoTokenizer.from_pretrained(run["model"])
    make, configure = classes(kind)
    # A reference that is not given is read from the folder that the model's config names.
    more: dict[str, Any] = {"model": opener.from_pretrained(run["model"], dtype=torch.float32)}
    if run["reference"]:
        more["ref_model"] = opener.from_pretrained(run["reference"], dtype=torch.float32)
    if run["adapters"]:
        from peft import LoraConfig

        more["peft_config"] = LoraConfig(**run["adapters"])
    if run["rollouts"]:
        more |= {"reward_funcs": its_reward, "rollout_func": given(run["rollouts"])}
    settings = {**COMMON, **OWN.get(kind, {}), **run["settings"], "output_dir": str(folder)}
    rows = Dataset.from_list([dict(row) for row in run["rows"]])
    trainer = make(args=configure(**settings), train_dataset=rows, processing_class=tokenizer, **more)
    for name, weight in trainer.model.named_parameters():
        if ".lora_A." in name:
            weight.data.copy_(lower_adapter(name, weight.shape))
    recorder = Recorder(folder)
    trainer.add_callback(recorder)
    trainer.train()
    return {
        "losses": [float(row["loss"]) for row in recorder.logs],
        "gradient_norms": [float(row["grad_norm"]) for row in recorder.logs],
        "weights": recorder.weights,
        "logs": recorder.logs,
    }


def no_network(event: str, arguments: tuple[Any, ...]) -> None:
    """An audit hook: whatever asks for a host or another machine's port fails, by name."""
    if event == "socket.getaddrinfo" or (event == "socket.connect" and isinstance(arguments[1], tuple)):
        raise PermissionError(f"TRL's run wants the network: {event} {arguments}")


def main() -> None:
    """All runs of the folder that the first argument names."""
    folder = Path(sys.argv[1])
    sys.addaudithook(no_network)
    torch.set_num_threads(1)
    disable_progress_bars()
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    answers, runs = {}, json.loads((folder / "runs.json").read_text())
    for kind in {run["trainer"] for run in runs.values()}:
        classes(kind)
    gc.freeze()  # trainers collect, and would go through all that was imported: a third of the time
    for name, run in runs.items():
        own = folder / name
        own.mkdir()
        answers[name] = trained(run, own)
    (folder / "answers.new").write_text(json.dumps(answers))
    (folder / "answers.new").rename(folder / "answers.json")
