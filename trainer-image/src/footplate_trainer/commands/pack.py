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
        help='a text file, a .jsonl file with a "text" field, or a folder (hidden files are left out); '
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
        help=f"ids of a learned tokenizer, {tokenizers.RESERVED} special ones included; at least "
        f"{tokenizers.SMALLEST}. With --tokenizer it may be left out, or is what that may have at most",
    )
    _add_tokenizer_arguments(parser)
    parser.add_argument(
        "--format",
        type=RecordKind,
        choices=list(RecordKind),
        default=RecordKind.TOKENS,
        help='what a .jsonl line holds: "text" (tokens), "query" and "positive" (pairs), "text" and a number '
        '"value" (regression); for chat, preferences, ratings and prompts see below; default %(default)s',
    )
    parser.add_argument(
        "--include",
        action="append",
        default=[],
        metavar="GLOB",
        help="take only files of folders whose name or relative path matches; may be given again",
    )
    parser.add_argument(
        "--shard-tokens",
        type=int,
        default=SHARD_TOKENS,
        metavar="N",
        help="tokens a shard holds at most, but for one longer document (default %(default)s)",
    )
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help=f"draws what a tokenizer learns from beyond {megabytes(LEARNING_BYTES)} (default %(default)s)",
    )
    conversation_options.add_arguments(parser)


def _add_tokenizer_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--tokenizer",
        type=Path,
        metavar="PATH",
        help="a file instead of learning one: tokenizer.json, a SentencePiece .model, or tiktoken ranks "
        "named after their encoding (gpt2.tiktoken); it keeps its ids, and gets no others. For conversations "
        "a model's folder with a tokenizer.json",
    )
    parser.add_argument(
        "--special-token",
        type=_named,
        action="append",
        default=[],
        metavar="ROLE=TOKEN",
        help="which token of --tokenizer has a role (eos=<|im_end|>), where no usual name says so; may be "
        "given again",
    )
    parser.add_argument(
        "--reserve",
        choices=[*SpecialTokenRole, ALL],
        action="append",
        default=[],
        metavar="ROLE",
        help="give --tokenizer a new id for a role that it has no token for: "
        f"{', '.join(SpecialTokenRole)} or {ALL}; may be given again. A model that ends with the tokenizer's "
        "own ids has to grow for it",
    )
    parser.add_argument(
        "--tokenizer-kind",
        type=TokenizerKind,
        choices=list(TokenizerKind),
        default=TokenizerKind.BPE,
        help="what is learned: byte-level BPE, or a SentencePiece unigram model (default %(default)s)",
    )


def _named(text: str) -> tuple[SpecialTokenRole, str]:
    role, _, token = text.partition("=")
    named = [role for role in SpecialTokenRole if role is not SpecialTokenRole.SENTINELS]
    if role not in named or not token:
        raise argparse.ArgumentTypeError(f"{text!r} is no ROLE=TOKEN with one of {', '.join(named)}")
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
        print_status(f"footplate-trainer pack: {given} is of --format chat, preferences, ratings or prompts")
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
        f"  {manifest.vocabulary_size} ids, {source_bytes / manifest.tokens:.2f} bytes a token",
    ]
    if skipped:
        lines.append(f"  skipped {skipped} inputs that were binary, not UTF-8 or empty")
    if asked is not None and manifest.vocabulary_size < asked:
        lines.append(f"  the text gives no more than {manifest.vocabulary_size} of the {asked} ids asked for")
    return "\n".join(lines)
