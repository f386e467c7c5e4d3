"""Meta-gradient steps of MAML against learn2learn 0.2.0, with the same network and the same episodes.

Command:   .venv/bin/python benchmarks/maml_step.py [--first-order]
Takes:     half a minute
Prints:    episodes/s of all sides (medians over alternating rounds after a warm-up), then ``ratio: ...``
Expected:  a ratio of at least 1.0, of at least 1.5 with --first-order, where the CPU has AVX512-bf16
Reading:   Conv4-32 on 64x48 images, 5-way 5-shot 15-query, 5 inner steps. A step is adaptation, query loss and
           meta-gradient of one episode; batch normalisation uses running statistics on all sides. learn2learn runs
           in float32; ours in float32 and under bf16 autocast, and the ratio is that of our faster one. All sides read
           channels_last, which encoders make of uint8 pictures. Both float32 losses must agree. With a GPU, further
           lines have the vmap engine there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tyro
from side_by_side import take_turns

if TYPE_CHECKING:
    from fewshot_prod.methods.maml import MAML


@dataclass(frozen=True)
class Args:
    """What is timed, and how often."""

    first_order: bool = False
    """First-order MAML."""
    rounds: int = 11
    """Steps a side that are timed."""
    threads: int = 1
    """Threads of all sides; more of them than idle cores make the times meaningless."""
    gpu_episodes: int = 16
    """Episodes that the vmap engine adapts at once on a GPU."""
    seed: int = 0
    """Of weights and pictures."""


def main(args: Args) -> None:
    """Time all sides in turn and print the medians."""
    import learn2learn
    import torch
    from torch import Tensor, nn
    from torch.nn.functional import cross_entropy

    from fewshot_prod.encoders.product import build_encoder
    from fewshot_prod.inputs import ProductInputs
    from fewshot_prod.methods.maml import MAML

    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    encoder = build_encoder({"image": {"name": "conv4", "width": 32}}).to(memory_format=torch.channels_last)

    def pictures(*shape: int) -> ProductInputs:
        return ProductInputs(torch.randint(0, 256, (*shape, 64, 48, 3), dtype=torch.uint8))

    support, query = pictures(25), pictures(75)
    labels, query_labels = torch.arange(5).repeat_interleave(5), torch.arange(5).repeat_interleave(15)

    def step(method: MAML) -> Callable[[], float]:
        learner = method.learner(encoder, 5)

        def run() -> float:
            loss = cross_entropy(method.adapt(learner, support, labels)(query), query_labels)
            encoder.zero_grad()
            loss.backward()
            return float(loss.detach())

        return run

    class Plain(nn.Module):
        """The same network as learn2learn's users write it."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = encoder.eval(), nn.Linear(encoder.feature_dim, 5)
            nn.init.zeros_(self.head.weight)
            nn.init.zeros_(self.head.bias)

        def forward(self, inputs: ProductInputs) -> Tensor:
            return self.head(self.encoder(inputs))

    peer = learn2learn.algorithms.MAML(Plain(), lr=MAML(encoder).inner_lr, first_order=args.first_order)

    def peer_step() -> float:
        clone = peer.clone()
        for _ in range(MAML(encoder).n_adaptation_steps):
            clone.adapt(cross_entropy(clone(support), labels))
        loss = cross_entropy(clone(query), query_labels)
        encoder.zero_grad()
        loss.backward()
        return float(loss.detach())

    sides = {
        "learn2learn float32": peer_step,
        "torch.func float32": step(MAML(encoder, first_order=args.first_order)),
        "torch.func bf16": step(MAML(encoder, first_order=args.first_order, precision="bf16-mixed")),
    }
    timed = take_turns(sides, args.rounds)
    losses = timed["learn2learn float32"].answers + timed["torch.func float32"].answers
    assert max(losses) - min(losses) < 1e-4, losses
    for name, side in timed.items():
        print(f"{name:24s} {1 / side.median:8.2f} episodes/s")

    if torch.cuda.is_available():
        n = args.gpu_episodes
        encoder.to("cuda")
        batch, queries = pictures(n, 25).to("cuda"), pictures(n, 75).to("cuda")

        def repeated(values: Tensor) -> Tensor:
            return values.to("cuda").expand(n, -1)

        def vmap_step(precision: str) -> Callable[[], None]:
            method = MAML(encoder, first_order=args.first_order, precision=precision, vectorised=True)
            learner = method.learner(encoder, 5, vectorised=True)

            def run() -> None:
                logits = method.query_logits(learner, batch, repeated(labels), queries)
                cross_entropy(logits.flatten(0, 1), repeated(query_labels).flatten()).backward()
                torch.cuda.synchronize()

            return run

        for precision in ("32-true", "bf16-mixed"):
            alone = take_turns({precision: vmap_step(precision)}, args.rounds)[precision]
            print(f"GPU, vmap, {precision:12s}  {n / alone.median:8.2f} episodes/s")

    theirs, *ours = (side.median for side in timed.values())
    print(f"ratio: {theirs / min(ours):.2f}")


if __name__ == "__main__":
    main(tyro.cli(Args))
