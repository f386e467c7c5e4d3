"""Titles/s of the bidirectional GRU with attention against the packaged MiniLM (extra ``sentence``).

Command:   .venv/bin/python benchmarks/title_throughput.py
Takes:     half a minute
Prints:    titles/s of both sides (medians over alternating rounds after a warm-up), then ``ratio: ...``
Expected:  at least 12,000 titles/s of the GRU on 2 cores, and a ratio of at least 5
Reading:   from token ids to features, without gradients, in float32: titles of 10 tokens in batches of 256. The GRU has
           128 units in each direction and a vocabulary of 4,000, as in the recipe ``gru``. MiniLM (6 layers of 384) is
           Transformers' own, with its default attention, and its mean over the tokens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from side_by_side import take_turns

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Args:
    """What is timed, and how often."""

    batch_size: int = 256
    """Titles a batch."""
    n_tokens: int = 10
    """Tokens a title."""
    batches: int = 4
    """Batches a round."""
    rounds: int = 7
    """Rounds a side that are timed."""
    threads: int = 2
    """Threads of both sides; more of them than idle cores make the times meaningless."""
    seed: int = 0
    """Of the GRU's weights and of the tokens."""


def main(args: Args) -> None:
    """Time both sides in turn and print the medians."""
    import torch

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    lengths = torch.full((args.batch_size,), args.n_tokens)
    encoders = {"GRU": gru(), "MiniLM": minilm()}
    drawn = torch.randint(1000, 4000, (args.rounds + 1, args.batch_size, args.n_tokens))

    def encode_round(encode: Callable[[Tensor, Tensor], Tensor], rounds: Iterator[Tensor]) -> Tensor:
        tokens = next(rounds)
        for _ in range(args.batches):
            features = encode(tokens, lengths)
        return features

    sides = {name: functools.partial(encode_round, encode, iter(drawn)) for name, encode in encoders.items()}
    with torch.inference_mode():
        timed = take_turns(sides, args.rounds)
    for side in timed.values():
        assert all(len(features) == args.batch_size and features.isfinite().all() for features in side.answers)
    titles = args.batches * args.batch_size
    speed = {name: titles / side.median for name, side in timed.items()}
    for name, rate in speed.items():
        print(f"{name}: {rate:,.0f} titles/s (median of {args.rounds} rounds of {titles}, {args.threads} threads)")
    print(f"ratio: {speed['GRU'] / speed['MiniLM']:.1f}")


def gru() -> Callable[[Tensor, Tensor], Tensor]:
    """Ours."""
    from fewshot_prod.encoders.title import title_encoder

    return title_encoder(4000, embedding_dim=128, hidden_size=128, cell="gru").eval()


def minilm() -> Callable[[Tensor, Tensor], Tensor]:
    """The peer."""
    from transformers import AutoModel

    from fewshot_prod.encoders.title.huggingface import unpacked
    from fewshot_prod.encoders.title.padding import token_mask

    network = AutoModel.from_pretrained(unpacked("all-minilm-l6-v2"), add_pooling_layer=False).eval()

    def encode(tokens: Tensor, lengths: Tensor) -> Tensor:
        mask = token_mask(tokens, lengths)
        states = network(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return (states * mask.unsqueeze(-1)).sum(1) / lengths.unsqueeze(1)

    return encode


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
