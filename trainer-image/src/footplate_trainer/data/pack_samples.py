"""Conversations, preferences, ratings and prompts to shards.

As with texts, the same input results in the same bytes on any machine. A template may call for the date; the
manifest records the date that it used, so that the user can pass the same date again.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from typing import Final

from footplate_contracts.v1alpha1.data import LossMask, OverlongPolicy
from footplate_trainer.data import tokenizer as tokenizers
from footplate_trainer.data.chat.encoding import ChatEncoder
from footplate_trainer.data.chat.model_template import ModelTemplate, read_special_tokens, read_template
from footplate_trainer.data.chat.renderer import Answer, Render, Renderer, RenderRequest
from footplate_trainer.data.chat.row_reader import RowReader
from footplate_trainer.data.chat.sample_maker import (
    AnswerDelimiters,
    EndOfText,
    SampleMaker,
    find_delimiters,
    format_sample,
)
from footplate_trainer.data.layout import (
    MANIFEST_FILE,
    TEMPLATE_FILE,
    TOKENIZER_FILE,
    RecordKind,
    SamplesRecord,
    ShardManifest,
    SourceRecord,
    SpecialTokenRole,
    token_type_for,
)
from footplate_trainer.data.pack import SHARD_TOKENS
from footplate_trainer.data.progress import Advance, progress
from footplate_trainer.data.row_files import TRAIN, BadRow, DataRow, RowFile, list_files
from footplate_trainer.data.sample_shards import SampleWriter, StoredSample, whole_turns_length
from footplate_trainer.data.tokenizer import PackTokenizer, batch_by_size
from footplate_trainer.data.writer import new_folder, write_file

_BATCH_BYTES: Final = 1 << 21
_BATCH_ROWS: Final = 512


@dataclass(frozen=True)
class SampleOptions:
    """Options of packing samples."""

    format: RecordKind
    tokenizer: Path  # a file, or a model's folder with a tokenizer.json
    vocabulary_size: int | None = None  # what the tokenizer may have at most
    special: Mapping[SpecialTokenRole, str] = field(
        default_factory=dict
    )  # beyond what the model's own files say
    chat_template: Path | None = None
    mask: LossMask | None = None
    context_length: int | None = None
    overlong: OverlongPolicy = OverlongPolicy.REFUSE
    drop_invalid_rows: bool = False
    ignored: Sequence[str] = ()
    texts_are_turns: bool = False
    split: str = TRAIN
    config: str | None = None
    include: Sequence[str] = ()
    shard_tokens: int = SHARD_TOKENS
    seed: int = 0
    date: date | None = None
    show: int = 0

    @property
    def tokenizer_file(self) -> Path:
        """The file with the tokenizer."""
        return self.tokenizer / TOKENIZER_FILE if self.tokenizer.is_dir() else self.tokenizer

    @property
    def learnt(self) -> LossMask | None:
        """The mask in force, None for prompts; ValueError for a mask that does not go with the format."""
        if self.format is RecordKind.CHAT:
            return self.mask or LossMask.ASSISTANT
        if self.mask not in (None, LossMask.COMPLETION) or (self.mask and self.format is RecordKind.PROMPTS):
            what = "nothing" if self.format is RecordKind.PROMPTS else "the completion"
            raise ValueError(f"--mask {self.mask}: with --format {self.format} {what} is learnt; remove it")
        return None if self.format is RecordKind.PROMPTS else LossMask.COMPLETION

    def check(self) -> None:
        """Raise ValueError for options that do not go together."""
        learnt = self.learnt
        for name, value in (("shard-tokens", self.shard_tokens), ("context-length", self.context_length)):
            if value is not None and value < 1:
                raise ValueError(f"--{name} {value} must be at least 1")
        if self.overlong is not OverlongPolicy.REFUSE and self.context_length is None:
            raise ValueError(f"--overlong {self.overlong} needs --context-length, the maximum length")
        if self.overlong is OverlongPolicy.CUT and (
            self.format is not RecordKind.CHAT or learnt is LossMask.ALL
        ):
            raise ValueError(
                f"--overlong cut with --format {self.format} and --mask {learnt or 'none'}: a sample is cut "
                "after a whole turn, so that its last token is learnt; this needs --format chat and --mask "
                "assistant or completion; pass --overlong drop"
            )


@dataclass
class _Counts:
    """Counts of packed, cut and dropped rows."""

    sources: list[SourceRecord] = field(default_factory=list)
    dropped: Counter[str] = field(default_factory=Counter)
    cut: int = 0


def pack_samples(
    inputs: Sequence[str],
    out: Path,
    options: SampleOptions,
    *,
    say: Callable[[str], None] = print,
    render: Render | None = None,
) -> ShardManifest:
    """Write the shards of `inputs` into the new folder `out`; return its manifest.

    `say` receives the samples to show; `render` renders without a process of its own.

    Raises ValueError for a mistake in the arguments or the input, DataError when the disk is full, OSError
    when an input cannot be read; `out` is then left as it was.
    """
    options.check()
    files = [
        list_files(uri, split=options.split, config=options.config, include=options.include) for uri in inputs
    ]
    tokens = _tokenizer(options)
    template = read_template(options.tokenizer_file.parent, options.chat_template)
    now = datetime.combine(options.date or date.today(), time())
    with new_folder(out) as folder, _renderer(template, now, render) as rendering:
        maker = _maker(options, tokens, template, rendering)
        writer = SampleWriter(folder, token_type_for(tokens.vocabulary_size), options.shard_tokens)
        counts = _write(inputs, files, maker, writer, options, say)
        _check_any(writer, counts, inputs)
        manifest = ShardManifest(
            format=options.format,
            dtype=writer.token_type,
            vocabulary_size=tokens.vocabulary_size,
            special_ids=tokens.special,
            tokenizer=write_file(folder / TOKENIZER_FILE, [tokens.to_json().encode()]),
            shards=writer.shards,
            tokens=sum(shard.tokens for shard in writer.shards),
            documents=sum(shard.documents for shard in writer.shards),
            sources=counts.sources,
            seed=options.seed,
            samples=_record(folder, options, template, now, counts, maker.edges),
        )
        write_file(folder / MANIFEST_FILE, [json.dumps(manifest.to_json(), indent=2).encode() + b"\n"])
    return manifest


@contextmanager
def _renderer(template: ModelTemplate | None, now: datetime, given: Render | None) -> Iterator[Render]:
    if given is not None or template is None:
        yield given or _without_template
    else:
        with Renderer(template.source, template.name, dict(template.special), now) as renderer:
            yield renderer


def _without_template(requests: Sequence[RenderRequest]) -> Iterator[Answer]:
    raise AssertionError(f"{len(requests)} conversations, but no template")


def _tokenizer(options: SampleOptions) -> PackTokenizer:
    names = read_special_tokens(options.tokenizer_file.parent)
    tokens = tokenizers.load(
        options.tokenizer_file,
        options.vocabulary_size,
        named=options.special,
        said={SpecialTokenRole(name.removesuffix("_token")): token for name, token in names.items()},
    )
    if tokens.proof is not None:
        raise ValueError(
            f"--tokenizer {options.tokenizer_file}: conversations need a tokenizer.json; pack a text with "
            "this file, which converts and checks it, and pass the tokenizer.json next to the shards"
        )
    return tokens


def _maker(
    options: SampleOptions, tokens: PackTokenizer, template: ModelTemplate | None, render: Render
) -> SampleMaker:
    reader = RowReader(options.format, frozenset(options.ignored), options.texts_are_turns)
    end_of_text = EndOfText(tokens.special.end, str(options.tokenizer))
    encoder = ChatEncoder(tokens.tokenizer)
    edges = AnswerDelimiters() if template is None else find_delimiters(template, render, encoder)
    return SampleMaker(
        reader, tokens.tokenizer, template, render, options.learnt or LossMask.ALL, end_of_text, edges
    )


def _write(
    inputs: Sequence[str],
    files: Sequence[Sequence[RowFile]],
    maker: SampleMaker,
    writer: SampleWriter,
    options: SampleOptions,
    say: Callable[[str], None],
) -> _Counts:
    counts, shown_yet = _Counts(), 0
    total = sum(file.bytes for found in files for file in found)
    with progress("encoding", total) as advance:
        for name, found in zip(inputs, files, strict=True):
            documents = read = 0
            before = counts.dropped.total()
            for row, sample in _samples(found, maker, options, counts, advance):
                writer.add_sample(sample)
                documents += len(sample.documents)
                read += row.bytes
                if shown_yet < options.show:
                    say(format_sample(row.place, sample, maker.tokenizer))
                    shown_yet += 1
            skipped = counts.dropped.total() - before
            counts.sources.append(SourceRecord(input=name, documents=documents, bytes=read, skipped=skipped))
    writer.flush()
    return counts


def _samples(
    files: Iterable[RowFile], maker: SampleMaker, options: SampleOptions, counts: _Counts, advance: Advance
) -> Iterator[tuple[DataRow, StoredSample]]:
    """Yield the retained samples of one INPUT; ValueError for a row that stops the packing."""
    rows = (row for file in files for row in file.rows())
    size = max(_BATCH_BYTES // _BATCH_ROWS, 1)
    for batch in batch_by_size(rows, _BATCH_BYTES, size=lambda row: max(row.bytes, size)):
        for row, made in maker.make(batch):
            sample = _fitted(row, made, options, counts) if isinstance(made, StoredSample) else made
            if isinstance(sample, BadRow):
                if not (options.drop_invalid_rows or sample.reason in (_TOO_LONG, "nothing learnt")):
                    raise ValueError(f"{row.place} {sample}; or drop such rows with --invalid-rows drop")
                counts.dropped[sample.reason] += 1
            else:
                yield row, sample
        advance(sum(row.bytes for row in batch))


_TOO_LONG: Final = "longer than the context"


def _fitted(
    row: DataRow, sample: StoredSample, options: SampleOptions, counts: _Counts
) -> StoredSample | BadRow:
    most = options.context_length
    if most is None or len(sample) <= most:
        return sample
    if options.overlong is OverlongPolicy.REFUSE:
        raise ValueError(
            f"{row.place} has {len(sample)} tokens, more than --context-length {most}; raise it, or drop or "
            "cut such samples with --overlong"
        )
    [document] = sample.documents if options.overlong is OverlongPolicy.CUT else [None]
    kept = 0 if document is None else whole_turns_length(document, most)
    if document is None or document.learnt is None or not kept:
        return BadRow(_TOO_LONG, "is too long")
    counts.cut += 1
    shorter = type(document)(document.tokens[:kept], document.learnt[:kept], document.prompt, document.value)
    return StoredSample((shorter,), sample.columns)


def _check_any(writer: SampleWriter, counts: _Counts, inputs: Sequence[str]) -> None:
    if not writer.shards:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(counts.dropped.items()))
        raise ValueError(f"no sample in {', '.join(inputs)}: {reasons or 'no rows'}")


def _record(
    folder: Path,
    options: SampleOptions,
    template: ModelTemplate | None,
    now: datetime,
    counts: _Counts,
    edges: AnswerDelimiters,
) -> SamplesRecord:
    dated = template is not None and "strftime_now" in template.source
    source = None if template is None else template.source.encode()
    return SamplesRecord(
        template=None if source is None else write_file(folder / TEMPLATE_FILE, [source]),
        date=now.date().isoformat() if dated else None,
        mask=options.learnt,
        context_length=options.context_length,
        overlong=options.overlong,
        cut=counts.cut,
        dropped=dict(sorted(counts.dropped.items())),
        turn_end=list(edges.turn_end)
        if options.format is RecordKind.PROMPTS and edges.turn_end is not None
        else None,
    )
