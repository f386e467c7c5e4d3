"""Supervised pretraining on the base classes, the loop in view."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from fewshot_prod.augment import augment
from fewshot_prod.catalog import CatalogError
from fewshot_prod.checkpoints import TrainingState, run_settings
from fewshot_prod.devices import average_buffers, average_gradients, launch_fabric
from fewshot_prod.encoders.classifier import ProductClassifier
from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.errors import UsageError
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.losses import LOSSES, class_balanced_weights, supervised_contrastive
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.training import Trained, drop_modalities, freeze, learning_rate, make_optimiser, seed_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def epoch_order(category_ids: np.ndarray, generator: torch.Generator, class_balanced: bool) -> Tensor:
    """Row numbers of one epoch, int64 (N,): a permutation, or N draws in which every class is equally likely."""
    if not class_balanced:
        return torch.randperm(len(category_ids), generator=generator)
    size = torch.from_numpy(np.bincount(category_ids))[torch.from_numpy(category_ids)]
    return torch.multinomial(1.0 / size, len(category_ids), replacement=True, generator=generator)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights and running statistics, to update after each step.

    Update n uses min(decay, (1 + n) / (10 + n)), so that the random start is soon forgotten; 0.999 then averages over
    about 1,000 steps.
    """

    def step(averages: list[Tensor], currents: list[Tensor], n: Tensor) -> None:  # of one type and device
        share = 1 - min(decay, (1 + int(n)) / (10 + int(n)))
        for average, current in zip(averages, currents, strict=True):
            if average.is_floating_point():
                average.lerp_(current, share)
            else:  # batch normalisation counts its batches
                average.copy_(current)

    return AveragedModel(model, multi_avg_fn=step, use_buffers=True)


def pretrain(
    encoder: ProductEncoder,
    inputs: ProductInputs,
    category_ids: np.ndarray,
    *,
    validation: FewShotValidation | None = None,
    epochs: int = 20,
    batch_size: int = 64,
    lr: float = 0.05,
    optimiser: str = "sgd",
    weight_decay: float = 5e-4,
    loss: str = "cross_entropy",
    label_smoothing: float = 0.1,
    class_weight_beta: float | None = None,
    contrastive: float = 0.0,
    contrastive_temperature: float = 0.1,
    head: str = "linear",
    ema_decay: float | None = None,
    class_balanced: bool = False,
    augmentation: dict[str, float] | None = None,
    modality_dropout: float = 0.0,
    frozen: tuple[str, ...] = (),
    seed: int = 0,
    run_dir: Path | None = None,
    resume: bool = True,
    fabric: Fabric | None = None,
    report: Callable[[str], None] = print,
) -> Trained:
    """Train ``encoder`` and a classifier on the base classes; keep the epoch best on validation.

    Args:
        encoder: trained in place while running; the returned one is the chosen epoch's.
        inputs: N products of the base classes.
        category_ids: int64 (N,), any numbers; they are renumbered 0..C-1 here.
        validation: chooses the epoch; without it the last one is kept.
        batch_size: over all processes; the epoch's last partial batch is left out.
        lr: peak rate, see :func:`fewshot_prod.training.learning_rate`.
        optimiser: "sgd" (Nesterov momentum 0.9) or "adamw".
        loss: a key of :data:`fewshot_prod.losses.LOSSES`, such as "generalised_cross_entropy" where labels are noisy;
            label smoothing belongs to "cross_entropy" alone.
        class_weight_beta: weight classes by :func:`fewshot_prod.losses.class_balanced_weights`; None: all alike.
            Each of several processes takes the weighted mean over its own share of a batch.
        contrastive: weight of :func:`fewshot_prod.losses.supervised_contrastive` on a batch's features, added to the
            loss; each of several processes contrasts its own share of a batch.
        contrastive_temperature: its temperature.
        head: "linear" or "cosine", see :class:`ProductClassifier`.
        ema_decay: choose among and return moving averages of the weights, see :func:`moving_average`; None: the
            weights themselves.
        class_balanced: draw every class equally often.
        augmentation: arguments of :func:`augment`; None turns it off.
        modality_dropout: share of products with both modalities that lose one of them in a batch. As augmentation
            and dropout, each process draws it for its own share: on several of them the draws are others.
        frozen: parts of the encoder ("image", "title") that keep their weights and running statistics.
        run_dir: where the state of the run is kept after each epoch; None keeps nothing.
        resume: go on from that state; False starts anew.
        fabric: a launched Fabric; its precision is used. None: one device, float32.

    Raises:
        ValueError: for an unknown optimiser or loss, class_weight_beta outside of [0, 1), a negative ``contrastive``,
            a ``contrastive_temperature`` of 0 or less, or a loss that is not finite.
        UsageError: for fewer than one epoch or product a batch, or a negative rate.
        UnknownName: if ``frozen`` names a part that the encoder does not have.
        CatalogError: if there are fewer products than one batch, or all are of one category.
        CheckpointError: if the state in ``run_dir`` belongs to other settings or products.
    """
    arguments = dict(locals())
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; choose one of {', '.join(LOSSES)}")
    if contrastive < 0 or contrastive_temperature <= 0:
        raise ValueError(f"{contrastive=}, a weight, must be at least 0, and {contrastive_temperature=} above 0")
    classes, labels = np.unique(category_ids, return_inverse=True)
    if len(classes) < 2:
        raise CatalogError(f"all {len(inputs)} products to train on are of one category: give at least two categories")
    fabric = fabric or launch_fabric()
    for name, value, least in (("epochs", epochs, 1), ("batch_size", batch_size, 1), ("lr", lr, 0)):
        if not value >= least:
            raise UsageError(f"{name} is {value}: it must be at least {least}")
    if len(inputs) < batch_size or batch_size % fabric.world_size:
        raise CatalogError(
            f"batch_size={batch_size} must be at most the number of products ({len(inputs)}) and a multiple of the "
            f"number of processes ({fabric.world_size}); lower it"
        )
    precision = str(fabric._precision.precision)
    settings = run_settings(arguments, labels, precision=precision)

    targets = torch.from_numpy(labels.astype(np.int64))
    smoothing = {"label_smoothing": label_smoothing} if loss == "cross_entropy" else {}
    criterion = partial(LOSSES[loss], **smoothing)
    if class_weight_beta is not None:
        weight = class_balanced_weights(targets.bincount(), beta=class_weight_beta).to(fabric.device)
        criterion = partial(criterion, weight=weight)
    seed_step(seed)
    model = ProductClassifier(encoder, len(classes), head=head).to(fabric.device, memory_format=torch.channels_last)
    freeze(encoder, frozen)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = make_optimiser(optimiser, model, lr, weight_decay)
    modules: dict[str, nn.Module] = {"model": model}
    if ema_decay is not None:
        average = modules["average"] = moving_average(model, ema_decay)
    result = average.module if ema_decay is not None else model
    state = TrainingState(run_dir / "state.pt", settings) if run_dir else None
    progress = (state.load(modules, optimizer) if state and resume else None) or {
        "epoch": 0,
        "seconds": 0.0,
        "history": [],
        "best": None,
    }
    steps = len(inputs) // batch_size
    share = batch_size // fabric.world_size

    for epoch in range(progress["epoch"], epochs):
        started = time.perf_counter()
        model.train()
        for part in frozen:
            getattr(encoder, part).eval()
        order = epoch_order(labels, seed_step(seed, epoch), class_balanced)
        total_loss = 0.0
        for step in range(steps):
            generator = seed_step(seed, epoch, step, fabric.global_rank)
            for group in optimizer.param_groups:
                group["lr"] = lr * learning_rate(epoch * steps + step, epochs * steps)
            first = step * batch_size + fabric.global_rank * share
            rows = order[first : first + share]
            batch, target = inputs[rows].to(fabric.device), targets[rows].to(fabric.device)
            if augmentation is not None and batch.images is not None:
                batch = replace(batch, images=augment(batch.images, generator, **augmentation))
            if modality_dropout:
                batch = drop_modalities(batch, modality_dropout, generator)
            with fabric.autocast():
                features = model.encoder(batch)
                logits = model.head(features)
            batch_loss = criterion(logits.float(), target)
            if contrastive:
                unlike = supervised_contrastive(features.float(), target, temperature=contrastive_temperature)
                batch_loss = batch_loss + contrastive * unlike
            optimizer.zero_grad(set_to_none=True)
            fabric.backward(batch_loss)
            average_gradients(fabric, parameters)
            optimizer.step()
            total_loss += batch_loss.detach()
            if ema_decay is not None:
                average.update_parameters(model)
        row = {"epoch": epoch + 1, "loss": float(fabric.all_reduce(total_loss, reduce_op="mean")) / steps}
        if not math.isfinite(row["loss"]):
            raise ValueError(f"the loss is {row['loss']} in epoch {epoch + 1}: lower lr, which is {lr}")
        for module in modules.values():
            average_buffers(fabric, module)  # each process has seen other batches
        seconds = time.perf_counter() - started
        if validation is not None:
            row |= fabric.broadcast(validation.score(result.encoder, precision=precision))
            if progress["best"] is None or row["score"] > max(h["score"] for h in progress["history"]):
                progress["best"], progress["best_head"] = (
                    {k: v.detach().cpu().clone() for k, v in part.state_dict().items()}
                    for part in (result.encoder, result.head)
                )
        progress["history"].append(row)
        progress["epoch"] = epoch + 1
        progress["seconds"] += time.perf_counter() - started
        if state and fabric.is_global_zero:
            state.save(modules, optimizer, progress)
        left = progress["seconds"] / (epoch + 1) * (epochs - epoch - 1)
        figures = "  ".join(f"{k} {v:.3f}" for k, v in row.items() if k != "epoch")
        report(
            f"epoch {epoch + 1}/{epochs}  {figures}  {steps * batch_size / seconds:.0f} products/s  {left:.0f} s left"
        )

    encoder.load_state_dict(progress["best"] or result.encoder.state_dict())
    model.head.load_state_dict(progress.get("best_head") or result.head.state_dict())
    model.eval().requires_grad_(True)
    seen = epochs * steps * batch_size
    return Trained(encoder, progress["history"], seen, progress["seconds"], classifier=model)
