"""This project's stages and TRL's trainers over the same rows, a step at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from bench.posttraining.in_turns import Gate

RATE: Final = 1e-4
_COMMON: Final[Mapping[str, Any]] = {
    "bf16": False,
    "disable_tqdm": True,
    "gradient_checkpointing": False,
    "learning_rate": RATE,
    "logging_steps": 1,
    "lr_scheduler_type": "constant",
    "max_grad_norm": 1.0,
    "max_steps": 1_000_000,
    "optim": "adamw_torch_fused",
    "report_to": "none",
    "save_strategy": "no",
    "use_cpu": True,
    "weight_decay": 0.1,
}


@dataclass(frozen=True)
class Footplate:
    """A stage of the trainer, as `footplate-trainer train` runs it, with a row each step."""

    spec: Mapping[str, Any]  # without what all have
    model: Path
    batch: int  # rows of a step
    micro_batch: int
    context: int

    def __call__(self, gate: Gate) -> None:
        """See Trainer."""

        from footplate_contracts.metrics import StepMetrics
        from footplate_contracts.runconfig import World
        from footplate_contracts.samples import LoggedSample
        from footplate_elastic.protocol.agent_client import AgentClient
        from footplate_trainer.manifest.run_file import read_run
        from footplate_trainer.stages.programs import train

        class Waiting(AgentClient):
            """Lets the gate decide when the step after a row begins."""

            learnt = 0

            def metrics(self, row: StepMetrics, samples: Sequence[LoggedSample] = ()) -> None:
                learnt, self.learnt = self.learnt, row.tokens
                gate.passes(row.tokens - learnt)

        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "run.json"
            file.write_text(json.dumps(self.manifest(folder)))
            config = read_run(file, ()).config(World())
            train(config, Waiting())

    def manifest(self, folder: str) -> dict[str, Any]:
        """The run, which ends later than anybody waits."""
        training = {
            "steps": 1_000_000,
            "globalBatchSize": self.batch,
            "microBatchSize": self.micro_batch,
            "optimizer": {"name": "adamw", "learningRate": RATE, "weightDecay": 0.1},
            "schedule": {"name": "constant"},
            "gradientClipNorm": 1.0,
            "logEverySteps": 1,
        }
        return {
            "apiVersion": "footplate.dev/v1alpha1",
            "kind": "TrainingRun",
            "metadata": {"name": "bench"},
            "spec": {
                "initFrom": {"uri": str(self.model)},
                "model": {"contextLength": self.context},
                "training": training,
                "compute": {"profile": "local-cpu"},
                "checkpoint": {"uri": f"{folder}/checkpoints", "everySteps": 1_000_000},
                **self.spec,
            },
        }


@dataclass(frozen=True)
class Trl:
    """A trainer of TRL: `kind` is sft, dpo or grpo; `settings` are members of its config."""

    kind: str
    model: Path
    rows: Sequence[Mapping[str, Any]]
    settings: Mapping[str, Any]
    more: Mapping[str, Any] = field(default_factory=dict)  # of the trainer

    def __call__(self, gate: Gate) -> None:
        """See Trainer."""
        import torch
        import transformers
        import trl
        from datasets import Dataset, disable_progress_bars

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        disable_progress_bars()
        learnt = _Learnt(gate)

        class Counting(getattr(trl, f"{self.kind.upper()}Trainer")):
            """Counts what a step learns from."""

            def compute_loss(self, model: Any, inputs: Any, *arguments: Any, **named: Any) -> Any:
                learnt.add(inputs)
                return super().compute_loss(model, inputs, *arguments, **named)

        class Steps(transformers.TrainerCallback):
            """Lets the gate decide when the next step begins."""

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
                if logs and "loss" in logs:
                    learnt.step_ended()

        with tempfile.TemporaryDirectory() as folder:
            configure = getattr(trl, f"{self.kind.upper()}Config")
            trainer = Counting(
                model=transformers.AutoModelForCausalLM.from_pretrained(self.model, dtype=torch.float32),
                args=configure(**{**_COMMON, **self.settings, "output_dir": folder}),
                train_dataset=Dataset.from_list([dict(row) for row in self.rows]),
                processing_class=transformers.AutoTokenizer.from_pretrained(self.model),
                callbacks=[Steps()],
                **self.more,
            )
            trainer.train()


class _Learnt:
    """Tokens of the step that is under way."""

    def __init__(self, gate: Gate) -> None:
        self._gate, self._tokens = gate, 0

    def add(self, inputs: Mapping[str, Any]) -> None:
        """A micro-batch of any of the trainers."""
        if "labels" in inputs:
            self._tokens += int((inputs["labels"][..., 1:] != -100).sum())
        else:
            self._tokens += int(inputs["completion_mask"].sum())

    def step_ended(self) -> None:
        """Wait for the next turn."""
        tokens, self._tokens = self._tokens, 0
        self._gate.passes(tokens)
