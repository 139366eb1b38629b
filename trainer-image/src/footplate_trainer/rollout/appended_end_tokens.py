"""End tokens for answers that a stop text ended and that therefore have none: pure.

The writer of such an answer appends one, and the token depends on the prompt: in a conversation the chat
template ends a turn, and a text, which no template wrote, ends with the tokenizer's end of text.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_trainer.data.prompt_dataset import Prompt


@dataclass(frozen=True)
class AppendedEndTokens:
    """End tokens by the kind of prompt; None if nothing defines one: a text then ends as a turn does."""

    of_turn: int | None
    of_text: int | None

    def for_prompt(self, prompt: Prompt) -> int | None:
        """Return the end token of an answer to `prompt`."""
        return self.of_text if prompt.is_plain_text and self.of_text is not None else self.of_turn
