"""With which token an answer ends that a text stopped, so that it has none of its own: pure.

Whoever packs such an answer writes one behind it, and which depends on the prompt: in a conversation the
chat template ends a turn, and a text, which no template wrote, ends with the tokenizer's end of text.
"""

from __future__ import annotations

from dataclasses import dataclass

from footplate_trainer.data.prompt_dataset import Prompt


@dataclass(frozen=True)
class Closing:
    """The token by the kind of prompt; None where nothing names one: a text then ends as a turn does."""

    of_turn: int | None
    of_text: int | None

    def behind(self, prompt: Prompt) -> int | None:
        """The one behind an answer to `prompt`."""
        return self.of_text if prompt.is_text and self.of_text is not None else self.of_turn
