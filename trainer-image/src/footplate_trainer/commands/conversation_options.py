"""The options and the summary of `footplate-trainer pack` for conversations."""

from __future__ import annotations

import argparse
from datetime import date
from pathlib import Path
from typing import Any, Final

from footplate_contracts.v1alpha1.data import LossMask, OverlongPolicy
from footplate_trainer.data.layout import ShardManifest
from footplate_trainer.data.pack_samples import SampleOptions, pack_samples
from footplate_trainer.data.row_files import TRAIN

# By option, what it is without one.
_DEFAULTS: Final[dict[str, Any]] = {
    "chat_template": None,
    "mask": None,
    "context_length": None,
    "overlong": OverlongPolicy.REFUSE,
    "invalid_rows": "refuse",
    "ignore": [],
    "text_format": "standard",
    "split": TRAIN,
    "config": None,
    "date": None,
    "show": 0,
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options for conversations."""
    _add_what_is_learnt(parser)
    _add_what_is_read(parser)


def _add_what_is_learnt(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "chat, preferences, ratings, prompts",
        "INPUT is a .jsonl, .json or .parquet file, or a folder of them laid out as on the Hugging Face Hub, "
        "as a path or a URI; --tokenizer is the model's folder, whose chat template is used.",
    )
    group.add_argument("--chat-template", type=Path, metavar="FILE", help="template instead of the model's")
    group.add_argument(
        "--mask",
        type=LossMask,
        choices=list(LossMask),
        help="tokens to train on: each assistant turn (default of chat), the completion, or all",
    )
    group.add_argument(
        "--context-length", type=int, metavar="N", help="maximum tokens per sample; a pair counts both texts"
    )
    group.add_argument(
        "--overlong",
        type=OverlongPolicy,
        choices=list(OverlongPolicy),
        default=_DEFAULTS["overlong"],
        help="treatment of longer samples; cut: after the last whole turn that fits (default %(default)s)",
    )
    group.add_argument(
        "--show",
        type=int,
        default=0,
        metavar="N",
        help="print the first N samples, trained tokens within ⟦ ⟧",
    )


def _add_what_is_read(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("rows of chat, preferences, ratings and prompts")
    group.add_argument(
        "--invalid-rows",
        choices=["refuse", "drop"],
        default=_DEFAULTS["invalid_rows"],
        help="treatment of rows that are not valid samples; drop: skip and count them (default %(default)s)",
    )
    group.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="FIELD",
        help="ignore a field of rows or messages; repeatable",
    )
    group.add_argument(
        "--text-format",
        choices=["standard", "conversational"],
        default=_DEFAULTS["text_format"],
        help="treat a prompt or completion given as text as a user or assistant turn; by default no template "
        "is applied to it",
    )
    group.add_argument(
        "--split",
        default=TRAIN,
        metavar="NAME",
        help="split of a folder to read (default %(default)s)",
    )
    group.add_argument("--config", metavar="NAME", help="config, if README.md names several")
    group.add_argument(
        "--date",
        type=date.fromisoformat,
        metavar="YYYY-MM-DD",
        help="date passed to templates that use one (default: today)",
    )


def first_given_option(arguments: argparse.Namespace) -> str:
    """Return an option for conversations on the command line, or ""."""
    names = (name for name, default in _DEFAULTS.items() if getattr(arguments, name) != default)
    return next((f"--{name.replace('_', '-')}" for name in names), "")


def pack_conversations(arguments: argparse.Namespace, out: Path) -> ShardManifest:
    """Pack into the folder `out`; see pack_samples."""
    if arguments.tokenizer is None:
        raise ValueError(
            f"--format {arguments.format} needs --tokenizer; pass the folder of the model to be trained"
        )
    if arguments.reserve:
        raise ValueError(
            f"--reserve {arguments.reserve[0]}: --format {arguments.format} uses no such id; remove it"
        )
    options = SampleOptions(
        format=arguments.format,
        tokenizer=arguments.tokenizer,
        vocabulary_size=arguments.vocabulary_size,
        special=dict(arguments.special_token),
        chat_template=arguments.chat_template,
        mask=arguments.mask,
        context_length=arguments.context_length,
        overlong=arguments.overlong,
        drop_invalid_rows=arguments.invalid_rows == "drop",
        ignored=arguments.ignore,
        texts_are_turns=arguments.text_format == "conversational",
        split=arguments.split,
        config=arguments.config,
        include=arguments.include,
        shard_tokens=arguments.shard_tokens,
        seed=arguments.seed,
        date=arguments.date,
        show=arguments.show,
    )
    return pack_samples(arguments.inputs, out, options)


def summary(out: str, manifest: ShardManifest) -> str:
    """Return a summary of a folder that was just written."""
    assert manifest.samples is not None
    record, count = manifest.samples, manifest.documents // manifest.format.documents_per_sample
    shards = len(manifest.shards)
    lines = [
        f"{out}: {count} samples of {manifest.tokens} tokens in {shards} shard(s), format {manifest.format}"
    ]
    if record.mask is not None:
        lines.append(f"  learnt: {record.mask}")
    if record.cut:
        lines.append(f"  cut after a whole turn: {record.cut}, to --context-length {record.context_length}")
    lines.extend(f"  dropped: {number} ({reason})" for reason, number in record.dropped.items())
    return "\n".join(lines)
