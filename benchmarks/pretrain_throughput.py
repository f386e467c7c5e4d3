"""Conv4 pretraining: bf16 autocast and channels_last against the same loop in plain float32.

Command: python benchmarks/pretrain_throughput.py

Both sides take the same augmented batches of 64x48 images through forward, backward and an SGD step, in turns after a
warm-up; medians. Expected: a ratio of at least 2; about 1 where the processor has no bf16 arithmetic, and the probe of
``devices.choose_precision`` then keeps float32.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from side_by_side import take_turns

from fewshot_prod.arguments import run_script


@dataclass(frozen=True)
class Args:
    """Time both sides."""

    batch_size: int = 64
    """Images a step."""
    steps: int = 10
    """Steps a turn."""
    turns: int = 7
    """Turns of each side."""


def main(args: Args) -> int:
    """Run it; see the top of this file."""
    import torch
    from torch import nn

    from fewshot_prod.augment import augment
    from fewshot_prod.encoders.classifier import ProductClassifier
    from fewshot_prod.encoders.product import build_encoder
    from fewshot_prod.inputs import ProductInputs
    from fewshot_prod.training import make_optimiser, seed_step

    generator = seed_step(0)
    images = torch.randint(0, 256, (args.batch_size, 64, 48, 3), generator=generator, dtype=torch.uint8)
    targets = torch.randint(0, 45, (args.batch_size,), generator=generator)

    def side(memory_format: torch.memory_format, bf16: bool):
        encoder = build_encoder({"image": {"name": "conv4"}})
        model = ProductClassifier(encoder, 45).to(memory_format=memory_format).train()
        optimiser = make_optimiser("sgd", model, 0.01, 5e-4)

        def turn() -> None:
            for _ in range(args.steps):
                pixels = augment(images, generator).permute(0, 3, 1, 2).contiguous(memory_format=memory_format)
                batch = ProductInputs(images=pixels.permute(0, 2, 3, 1))
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
                    logits = model(batch)
                loss = nn.functional.cross_entropy(logits.float(), targets, label_smoothing=0.1)
                optimiser.zero_grad(set_to_none=True)
                loss.backward()
                optimiser.step()

        return turn

    sides = {"ours": side(torch.channels_last, True), "plain": side(torch.contiguous_format, False)}
    fast, slow = (args.steps * args.batch_size / timed.median for timed in take_turns(sides, args.turns).values())
    print(f"bf16 + channels_last {fast:.0f} images/s, plain float32 {slow:.0f}, {torch.get_num_threads()} threads")
    print(f"ratio: {fast / slow:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main, Args, __doc__))
