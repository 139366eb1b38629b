"""`footplate-trainer pack INPUT… OUT (--vocabulary-size N | --tokenizer PATH)`: data to token shards."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from footplate_contracts.names import ExitCode
from footplate_trainer.commands import conversation_options
from footplate_trainer.data import tokenizer as tokenizers
from footplate_trainer.data.corpus import PYTHON_DOCS, PYTHON_STDLIB
from footplate_trainer.data.layout import RecordKind, ShardManifest, SpecialTokenRole
from footplate_trainer.data.pack import LEARNING_BYTES, SHARD_TOKENS, TokenizerKind, pack
from footplate_trainer.data.progress import megabytes, print_status
from footplate_trainer.data.writer import write_remote
from footplate_trainer.errors import DataError
from footplate_trainer.storage import is_local, local_path

ALL: Final = "all"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `pack`."""
    parser.description = "Turn texts or conversations into token shards with a manifest and checksums."
    parser.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help='a text file, a .jsonl file with a "text" field, or a folder (hidden files are skipped); '
        f"{PYTHON_DOCS} is the Python language reference, {PYTHON_STDLIB} the standard library's source",
    )
    parser.add_argument(
        "out",
        metavar="OUT",
        help="folder to write, which must not exist or be empty; or a URI such as s3://bucket/folder",
    )
    parser.add_argument(
        "--vocabulary-size",
        type=int,
        metavar="N",
        help=f"vocabulary size of a learned tokenizer, {tokenizers.RESERVED} special ones included; at least "
        f"{tokenizers.SMALLEST}. With --tokenizer optional, and an upper limit",
    )
    _add_tokenizer_arguments(parser)
    parser.add_argument(
        "--format",
        type=RecordKind,
        choices=list(RecordKind),
        default=RecordKind.TOKENS,
        help='content of a .jsonl line: "text" (tokens), "query" and "positive" (pairs), "text" and a number '
        '"value" (regression); for chat, preferences, ratings and prompts see below; default %(default)s',
    )
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="GLOB",
        help="read only files whose name or relative path in a folder matches; repeatable",
    )
    parser.add_argument(
        "--shard-tokens",
        type=int,
        default=SHARD_TOKENS,
        metavar="N",
        help="maximum tokens per shard, except for a longer document (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"seed of a tokenizer's sample of text over {megabytes(LEARNING_BYTES)} (default %(default)s)",
    )
    conversation_options.add_arguments(parser)


def _add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="file to use instead of learning a tokenizer: tokenizer.json, a SentencePiece .model, or "
        "tiktoken ranks named after their encoding (gpt2.tiktoken); its ids stay as they are. For "
        "conversations a model's folder with a tokenizer.json",
    )
    parser.add_argument(
        "--special-token",
        type=_named,
        action="append",
        default=[],
        metavar="ROLE=TOKEN",
        help="token of --tokenizer that has a role (eos=<|im_end|>), if its name is not a common one; "
        "repeatable",
    )
    parser.add_argument(
        "--reserve",
        choices=[*SpecialTokenRole, ALL],
        action="append",
        default=[],
        metavar="ROLE",
        help=f"add an id to --tokenizer for a role that has no token: {', '.join(SpecialTokenRole)} or "
        f"{ALL}; repeatable. A model without rows for added ids has to grow",
    )
    parser.add_argument(
        "--tokenizer-kind",
        type=TokenizerKind,
        choices=list(TokenizerKind),
        default=TokenizerKind.BPE,
        help="kind to learn: byte-level BPE, or a SentencePiece unigram model (default %(default)s)",
    )


def _named(text: str) -> tuple[SpecialTokenRole, str]:
    role, _, token = text.partition("=")
    named = [role for role in SpecialTokenRole if role is not SpecialTokenRole.SENTINELS]
    if role not in named or not token:
        raise argparse.ArgumentTypeError(f"{text!r} is not ROLE=TOKEN with a role of {', '.join(named)}")
    return SpecialTokenRole(role), token


def run(arguments: argparse.Namespace) -> int:
    """Pack, and print a summary; return the process's exit code."""
    if arguments.format.is_conversational:
        return _finish(
            arguments.out,
            partial(conversation_options.pack_conversations, arguments),
            conversation_options.summary,
        )
    if given := conversation_options.first_given_option(arguments):
        print_status(f"footplate-trainer pack: {given} needs --format chat, preferences, ratings or prompts")
        return ExitCode.CONFIG
    write = partial(
        pack,
        arguments.inputs,
        vocabulary_size=arguments.vocabulary_size,
        tokenizer=arguments.tokenizer,
        reserve=list(SpecialTokenRole)
        if ALL in arguments.reserve
        else [SpecialTokenRole(role) for role in arguments.reserve],
        named=dict(arguments.special_token),
        kind=arguments.tokenizer_kind,
        include=arguments.include,
        shard_tokens=arguments.shard_tokens,
        seed=arguments.seed,
        shard_format=arguments.format,
    )
    # A tokenizer that was brought along has the ids that it has.
    asked = None if arguments.tokenizer else arguments.vocabulary_size
    return _finish(arguments.out, write, lambda out, manifest: summary(out, manifest, asked))


def _finish(
    out: str, write: Callable[[Path], ShardManifest], summarize: Callable[[str, ShardManifest], str]
) -> int:
    """Write to `out`, a path or URI, and print a summary; return the process's exit code."""
    try:
        manifest = write(local_path(out)) if is_local(out) else write_remote(out, write)
    except ValueError as error:
        print_status(f"footplate-trainer pack: {error}")
        return ExitCode.CONFIG
    except (DataError, OSError) as error:
        print_status(f"footplate-trainer pack: {error}")
        return ExitCode.STORAGE
    print(summarize(out, manifest), flush=True)
    return ExitCode.SUCCESS


def summary(out: str, manifest: ShardManifest, asked: int | None) -> str:
    """Return a summary of a folder that was just written."""
    source_bytes = sum(source.bytes for source in manifest.sources)
    skipped = sum(source.skipped for source in manifest.sources)
    shards = len(manifest.shards)
    lines = [
        f"{out}: {manifest.tokens} tokens of {manifest.documents} documents in {shards} shard(s)",
        f"  {manifest.vocabulary_size} ids, {source_bytes / manifest.tokens:.2f} bytes per token",
    ]
    if skipped:
        lines.append(f"  skipped {skipped} inputs that were binary, not UTF-8 or empty")
    if asked is not None and manifest.vocabulary_size < asked:
        lines.append(f"  the text yields only {manifest.vocabulary_size} of the {asked} requested ids")
    return "\n".join(lines)
