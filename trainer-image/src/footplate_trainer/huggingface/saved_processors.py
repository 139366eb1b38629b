"""The files beside a model's weights: chat template, special tokens, generation settings.

Other programs need them to chat with the model, and training does not change them. So they are copied
unchanged from the folder that a run begins with into each of its checkpoints, and from there into an export.
The tokenizer itself comes from the data, and every checkpoint has it anyway: where that differs from the
folder's, the ids in these files mean something else here, and the files are left out (`tokenizer_mismatch`).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any, Final

from footplate_trainer.checkpoint import layout
from footplate_trainer.checkpoint.step import StepCheckpoint
from footplate_trainer.data.chat.model_template import DEFAULT, JINJA_FILE, special_tokens_in, templates_in
from footplate_trainer.data.tokenizer_json import parse_tokenizer
from footplate_trainer.errors import CheckpointDamaged
from footplate_trainer.huggingface.folder import CONFIG_FILE

Read = Callable[[str], bytes | None]
"""A file of a model's folder by its name; None where there is none."""

TOKENIZER_SETTINGS: Final = "tokenizer_config.json"
GENERATION_SETTINGS: Final = "generation_config.json"
POSITIONS: Final = "max_position_embeddings"
_SPECIAL_TOKENS: Final = "special_tokens_map.json"
_ADDED_TOKENS: Final = "added_tokens.json"
_PROCESSOR_TEMPLATE: Final = "chat_template.json"
FILES: Final = (
    CONFIG_FILE,
    GENERATION_SETTINGS,
    TOKENIZER_SETTINGS,
    _SPECIAL_TOKENS,
    _ADDED_TOKENS,
    JINJA_FILE,
    _PROCESSOR_TEMPLATE,
)
TEMPLATES: Final = "additional_chat_templates"
_NAMED_TEMPLATE: Final = re.compile(rf"{TEMPLATES}/[^/\\]+\.jinja")
_PADDING: Final = "pad_token"
_NO_LIMIT: Final = 10**12  # tokenizers without a longest text say 10^30


@dataclass(frozen=True)
class SavedProcessors:
    """The files, as bytes, by name; none of a model that began with random weights."""

    files: Mapping[str, bytes] = field(default_factory=dict)

    def settings(self, name: str) -> dict[str, Any]:
        """Return the content of a JSON file among them; empty if there is no such file."""
        return _settings(name, self.files[name]) if name in self.files else {}

    def token_ids(self) -> dict[str, Any]:
        """Return the ids in the model's config.json by their roles: bos_token_id, eos_token_id, and so on."""
        config = self.settings(CONFIG_FILE)
        return {name: value for name, value in config.items() if name.endswith("_token_id")}

    def max_positions(self) -> int:
        """Return the number of positions in the model's config.json; 0 if it has none."""
        found = self.settings(CONFIG_FILE).get(POSITIONS)
        return found if isinstance(found, int) else 0

    def special_tokens(self) -> dict[str, str]:
        """Return special tokens by their roles: bos_token, eos_token, and so on."""
        return special_tokens_in(self.settings(_SPECIAL_TOKENS), self.settings(TOKENIZER_SETTINGS))

    def added_tokens(self) -> dict[str, int]:
        """Return the ids of tokens added to a vocabulary, as far as these files have them."""
        found = dict(self.settings(_ADDED_TOKENS))
        decoder = self.settings(TOKENIZER_SETTINGS).get("added_tokens_decoder")
        for place, token in decoder.items() if isinstance(decoder, dict) else ():
            text = token.get("content") if isinstance(token, dict) else None
            if isinstance(text, str) and place.isdecimal():
                found[text] = int(place)
        return {token: place for token, place in found.items() if isinstance(place, int)}

    def chat_template(self) -> str | None:
        """Return the default chat template, or None."""
        if JINJA_FILE in self.files:
            return self.files[JINJA_FILE].decode()
        said = (
            self.settings(name).get("chat_template") for name in (TOKENIZER_SETTINGS, _PROCESSOR_TEMPLATE)
        )
        return next((named[DEFAULT] for named in map(templates_in, said) if DEFAULT in named), None)

    def checkpoint_files(self) -> dict[str, bytes]:
        """Return the files that store them in a checkpoint, by name."""
        return {layout.processor_file(name): content for name, content in self.files.items()}

    def export_files(self, positions: int, padding: str | None = None) -> dict[str, bytes]:
        """Return the files beside exported weights; a text has at most as many tokens as the model positions.

        `padding` is the token that fills up a batch, where it must be a certain one.
        """
        files = {name: content for name, content in self.files.items() if name != CONFIG_FILE}
        longest = self.settings(TOKENIZER_SETTINGS).get("model_max_length")
        changed: dict[str, dict[str, Any]] = defaultdict(dict)
        if isinstance(longest, int) and positions < longest < _NO_LIMIT:
            changed[TOKENIZER_SETTINGS]["model_max_length"] = positions
        for name in (TOKENIZER_SETTINGS, _SPECIAL_TOKENS):
            if padding is not None and name in files and self.special_tokens().get(_PADDING) != padding:
                changed[name][_PADDING] = padding
        for name, members in changed.items():
            text = json.dumps(self.settings(name) | members, indent=2, ensure_ascii=False)
            files[name] = text.encode()
        return files


NONE: Final = SavedProcessors()


def read_processors(read: Read, templates: Iterable[str] = ()) -> SavedProcessors:
    """Read the files of a model's folder; `templates` are the files in its folder TEMPLATES.

    Raises ValueError for a file that is not what its name says.
    """
    named = (f"{TEMPLATES}/{file}" for file in sorted(templates))
    wanted = [*FILES, *(name for name in named if _NAMED_TEMPLATE.fullmatch(name))]
    files = {name: content for name in wanted if (content := read(name)) is not None}
    for name, content in files.items():
        _check(name, content)
    return SavedProcessors(files)


def checkpoint_processors(checkpoint: StepCheckpoint) -> SavedProcessors:
    """Read the files in a checkpoint; CheckpointDamaged where they are not what was written."""
    files: dict[str, bytes] = {}
    for record in checkpoint.manifest().files:
        name = layout.processor_name(record.file)
        if name is None or not (name in FILES or _NAMED_TEMPLATE.fullmatch(name)):
            continue  # of a later release
        files[name] = checkpoint.read_bytes(record.file)
        if hashlib.sha256(files[name]).hexdigest() != record.sha256:
            raise CheckpointDamaged(f"{record.file} in {checkpoint.name} has changed since it was written")
    return SavedProcessors(files)


def tokenizer_mismatch(processors: SavedProcessors, theirs: bytes | None, ours: bytes) -> str | None:
    """Return why the tokens in `processors` do not agree with the tokenizer `ours`, or None if they do.

    `theirs` is the tokenizer.json beside them, if there is one. Ours may have more tokens.
    """
    vocabulary = _vocabulary(ours)
    if theirs is None:
        lost = next(
            (token for token in processors.special_tokens().values() if token not in vocabulary), None
        )
        if lost is not None:
            return f"{lost!r} is not a token of the data"
        expected = processors.added_tokens()
    else:
        try:
            expected = _vocabulary(theirs)
        except ValueError as error:
            return f"cannot read its tokenizer.json: {error}"
    for token, there in sorted(expected.items(), key=itemgetter(1)):
        here = vocabulary.get(token)
        if here != there:
            return f"{token!r} is token {there}, but {'none' if here is None else here} in the data"
    return None


def _vocabulary(tokenizer: bytes) -> dict[str, int]:
    return parse_tokenizer(tokenizer).get_vocab(with_added_tokens=True)


def _check(name: str, content: bytes) -> None:
    """Raise ValueError when a file is not of the kind that its name promises."""
    if name.endswith(".json"):
        _settings(name, content)
        return
    try:
        content.decode()
    except ValueError as error:
        raise ValueError(f"{name} is not UTF-8: {error}") from error


def _settings(name: str, content: bytes) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise ValueError(f"{name} is not valid JSON: {error}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{name} is a {type(found).__name__}; must be an object of settings")
    return found
