"""The chat template of a tokenizer, and the names of the special tokens that it writes.

Models store both in different files, depending on when they were published:

    chat_template.jinja       the template; in newer folders, before any other
    tokenizer_config.json     a member chat_template, one text or a list of named ones; bos_token, …
    chat_template.json        {"chat_template": …}
    special_tokens_map.json   bos_token, … of older folders
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

JINJA_FILE: Final = "chat_template.jinja"
_NAMES: Final = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
DEFAULT: Final = "default"
_TOOLS: Final = "tool_use"


@dataclass(frozen=True)
class ModelTemplate:
    """A template's text, and the special tokens of its tokenizer."""

    name: str  # its path
    source: str
    special: dict[str, str]  # bos_token, eos_token, …: those that the model has
    other_for_tools: bool = False  # whether the model has another one for conversations with tools


def read_special_tokens(folder: Path) -> dict[str, str]:
    """Return bos_token, eos_token, … from the files beside a tokenizer."""
    return special_tokens_in(
        _json(folder / "special_tokens_map.json"), _json(folder / "tokenizer_config.json")
    )


def special_tokens_in(*settings: Mapping[str, Any]) -> dict[str, str]:
    """Return bos_token, eos_token, … from `settings`; later ones override earlier ones."""
    found = {}
    for said in settings:
        for name in _NAMES:
            token = said.get(f"{name}_token")
            token = token.get("content") if isinstance(token, dict) else token  # with its flags, or alone
            if isinstance(token, str):
                found[f"{name}_token"] = token
    return found


def read_template(folder: Path, own: Path | None = None) -> ModelTemplate | None:
    """Return the template in the file `own`, or else the tokenizer's in `folder`; None when there is none.

    Raises ValueError when a file cannot be read.
    """
    special = read_special_tokens(folder)
    if own is not None:
        return ModelTemplate(str(own), _text(own), special)
    if (folder / JINJA_FILE).is_file():
        return ModelTemplate(str(folder / JINJA_FILE), _text(folder / JINJA_FILE), special)
    for name in ("tokenizer_config.json", "chat_template.json"):
        templates = templates_in(_json(folder / name).get("chat_template"))
        if DEFAULT in templates:
            return ModelTemplate(str(folder / name), templates[DEFAULT], special, _TOOLS in templates)
    return None


def templates_in(said: Any) -> dict[str, str]:
    """Return the templates of a setting chat_template by their names; the setting is one text or a list."""
    if isinstance(said, str):
        return {DEFAULT: said}
    if isinstance(said, list):
        return {
            str(named.get("name")): str(named.get("template")) for named in said if isinstance(named, dict)
        }
    return {}


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from None
    return content if isinstance(content, dict) else {}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"chat template {path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise ValueError(f"chat template {path} is not UTF-8") from None
