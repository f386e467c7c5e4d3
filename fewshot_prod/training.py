"""What pretraining and episodic training share: seeds, frozen parts, the optimiser, modality dropout, the result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import nn

from fewshot_prod.encoders.classifier import ProductClassifier
from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.names import UnknownName


@dataclass(frozen=True)
class Trained:
    """What training returns.

    Args:
        encoder: of the chosen evaluation, in eval mode.
        history: one dict an evaluation.
        images_seen: products shown, each time counted.
        seconds: wall-clock time, evaluations and earlier parts of a resumed run included.
        head: arguments with which a method continues what was meta-trained; empty after pretraining.
        classifier: the same encoder with the head that it was pretrained with; None after meta-training.
    """

    encoder: ProductEncoder
    history: list[dict[str, float]]
    images_seen: int
    seconds: float
    head: dict[str, float | int | bool | str] = field(default_factory=dict)
    classifier: ProductClassifier | None = None


def seed_step(seed: int, *position: int) -> torch.Generator:
    """A CPU generator that depends on (seed, position) alone; torch's global one (dropout) is seeded alike.

    Example:
        >>> bool(torch.rand(1, generator=seed_step(0, 5)) == torch.rand(1, generator=seed_step(0, 5)))
        True
    """
    state = int(np.random.SeedSequence([seed, *position]).generate_state(1, np.uint64)[0] >> np.uint64(1))
    torch.manual_seed(state)
    return torch.Generator().manual_seed(state)


def freeze(encoder: ProductEncoder, parts: tuple[str, ...]) -> None:
    """Take parts of ``encoder`` out of what is trained, by name, such as "image".

    Raises:
        UnknownName: for a part that it does not have.
    """
    known = dict(encoder.named_children())
    for part in parts:
        if part not in known:
            raise UnknownName("part to freeze", part, known)
        known[part].requires_grad_(False)


def make_optimiser(name: str, model: nn.Module, lr: float, weight_decay: float) -> torch.optim.Optimizer:
    """SGD or AdamW over the parameters that require gradients; no decay on vectors (norms, biases) and scalars."""
    trained = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr)
    raise ValueError(f"unknown optimiser {name!r}; choose 'sgd' or 'adamw'")


def learning_rate(step: int, n_steps: int, warmup: float = 0.05) -> float:
    """Factor on the peak rate: linear over the first ``warmup`` of the steps, then half a cosine down to 0."""
    position = (step + 0.5) / n_steps
    return (
        position / warmup if position < warmup else 0.5 * (1 + math.cos(math.pi * (position - warmup) / (1 - warmup)))
    )


def drop_modalities(
    batch: ProductInputs, rate: float, generator: torch.Generator, part: tuple[int, int] = (0, 1)
) -> ProductInputs:
    """Hide the image of some products and the title of others (``rate`` / 2 each, never the last one left).

    A batch of images alone, or of titles alone, stays as it is.

    Args:
        part: (i, n) for part i, from 0, of n equal ones that are dealt to processes: what is hidden in a product is
            then what would be hidden in the whole, by the same generator.
    """
    if not batch.shows_images or batch.tokens is None:
        return batch
    i, n = part
    draw = torch.rand(n * len(batch), generator=generator).chunk(n)[i].to(batch.lengths.device)
    has_image = batch.has_image if batch.has_image is not None else torch.ones_like(draw, dtype=torch.bool)
    both = has_image & (batch.lengths > 0)
    return replace(
        batch,
        has_image=has_image & ~(both & (draw < rate / 2)),
        lengths=torch.where(both & (draw > 1 - rate / 2), 0, batch.lengths),
    )
