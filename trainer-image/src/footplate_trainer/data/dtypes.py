"""Number types in shard files: little-endian, on any machine."""

from __future__ import annotations

from typing import Final

import numpy as np

from footplate_trainer.data.layout import TokenType

OFFSET_DTYPE: Final = np.dtype("<u8")
VALUE_DTYPE: Final = np.dtype("<f4")
PROMPT_DTYPE: Final = np.dtype("<u4")


def token_dtype(token_type: TokenType) -> np.dtype[np.generic]:
    """Return the numpy type of one stored token."""
    return np.dtype("<u2" if token_type is TokenType.UINT16 else "<u4")
