"""The decoder: embedding, pre-norm blocks, final norm, output head."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from footplate_trainer.model.attention import Attention
from footplate_trainer.model.cache import LayerCache
from footplate_trainer.model.feed_forward import FeedForward
from footplate_trainer.model.inputs import Inputs, Shared, States
from footplate_trainer.model.network import Network
from footplate_trainer.model.norm import RootMeanSquareNorm
from footplate_trainer.model.reach import Reach, document_mask
from footplate_trainer.model.rotary import rotary_tables
from footplate_trainer.shape import ModelShape


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.attention_norm = RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
        self.attention = Attention(shape)
        self.feed_forward_norm = RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
        self.feed_forward = FeedForward(shape)

    def forward(self, x: Tensor, shared: Shared, cache: LayerCache | None = None) -> Tensor:
        """[batch, length, hidden] -> the same."""
        x = x + self.attention(self.attention_norm(x), shared, cache)
        out: Tensor = x + self.feed_forward(self.feed_forward_norm(x))
        return out


def visible(inputs: Inputs) -> Reach:
    """Nothing later, nothing of other documents."""
    return Reach(mask=None if inputs.documents is None else document_mask(inputs.documents))


class Decoder(Network):
    """Tokens to logits over the vocabulary; no token sees a later one."""

    rotary_cosine: Tensor
    rotary_sine: Tensor

    def __init__(self, shape: ModelShape) -> None:
        super().__init__(shape)
        self.visible = visible
        self.embedding = nn.Embedding(shape.vocabulary, shape.hidden)
        self.blocks = nn.ModuleDict({str(number): Block(shape) for number in range(shape.layers)})
        self.norm: nn.Module | None = RootMeanSquareNorm(shape.hidden, shape.norm_epsilon)
        # A tied head is the embedding used twice, not a second parameter: every
        # consumer of named_parameters() would have to know about the twin.
        self.head = None if shape.tied_embeddings else nn.Linear(shape.hidden, shape.vocabulary, bias=False)
        self.reset_tables()

    def reset_tables(self) -> None:
        """Compute the rotary tables where the parameters are."""
        shape = self.shape
        cosine, sine = rotary_tables(shape.context, shape.head_size, shape.rope_theta, self.device)
        self.register_buffer("rotary_cosine", cosine, persistent=False)
        self.register_buffer("rotary_sine", sine, persistent=False)

    def drop(self, beginning: bool, end: bool) -> None:
        """Delete embedding or final norm and head; a tied embedding is needed at both ends."""
        if beginning and (end or not self.shape.tied_embeddings):
            self.embedding = None
        if end:
            self.norm = self.head = None

    def begin(self, inputs: Inputs) -> States:
        """([batch, length, hidden],)."""
        assert self.embedding is not None
        return (self.embedding(inputs.tokens),)

    def run(self, states: States, inputs: Inputs, caches: Sequence[LayerCache] | None = None) -> States:
        """([batch, length, hidden],) -> the same.

        With `caches` (one a block) the tokens follow those already in them;
        several tokens at once only into empty caches.
        """
        (x,) = states
        shared = self._shared(inputs, caches[0].filled if caches else 0)
        for index, block in enumerate(self.blocks.values()):
            x = block(x, shared, caches[index] if caches else None)
        return (x,)

    def finish(self, states: States) -> Tensor:
        """The final norm."""
        assert self.norm is not None
        hidden: Tensor = self.norm(*states)
        return hidden

    def _shared(self, inputs: Inputs, start: int) -> Shared:
        length = inputs.tokens.shape[1]
        assert start == 0 or length == 1
        where = slice(start, start + length) if inputs.positions is None else inputs.positions
        # One new token sees all that came before: there is nothing later to hide from it.
        reach = Reach(causal=False) if start else self.visible(inputs)
        return Shared((self.rotary_cosine[where], self.rotary_sine[where]), reach)

    def new_caches(self, batch: int, length: int) -> list[LayerCache]:
        """Empty caches with room for `length` tokens."""
        shape = self.shape
        like = next(self.parameters())
        return [LayerCache(batch, shape.key_value_heads, length, shape.head_size, like) for _ in self.blocks]
