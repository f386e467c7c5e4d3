"""Episodic training on the base classes: metric methods and MAML's family, one outer loop in view."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from fewshot_prod.checkpoints import TrainingState, run_settings
from fewshot_prod.devices import average_gradients, launch_fabric
from fewshot_prod.encoders.heads import HEADS, attach_head
from fewshot_prod.encoders.inner_rates import attach_inner_rates
from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.episodic import MAMLTraining, MetricTraining, ReptileTraining, training_pool
from fewshot_prod.errors import UsageError
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.limits import check_option
from fewshot_prod.methods.maml import MAML
from fewshot_prod.methods.parts import PARTS
from fewshot_prod.methods.ridge import Ridge
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.training import Trained, drop_modalities, freeze, learning_rate, make_optimiser, seed_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric

METRIC: dict[str, type] = {name: kind for name, kind in METHODS.items() if hasattr(kind, "learned")}
ADAPTING: dict[str, type[MAML]] = {name: kind for name, kind in METHODS.items() if issubclass(kind, MAML)}
ALGORITHMS = (*METRIC, *ADAPTING)


def metatrain(
    encoder: ProductEncoder,
    inputs: ProductInputs,
    category_ids: np.ndarray,
    groups: np.ndarray,
    *,
    algorithm: str = "prototypical",
    validation: FewShotValidation | None = None,
    n_way: int = 5,
    n_shot: int = 5,
    n_query: int = 15,
    meta_batch_size: int = 1,
    n_iterations: int = 500,
    outer_lr: float = 5e-4,
    optimiser: str = "adamw",
    weight_decay: float = 5e-4,
    norm: str = "frozen",
    normalise: bool | None = None,
    logit_scale: float | None = None,
    inner_lr: float = 0.05,
    n_adaptation_steps: int = 5,
    head: str = "zeros",
    engine: str = "torch.func",
    vectorised: bool | None = None,
    parts: str | None = None,
    augmentation: dict[str, float] | None = None,
    modality_dropout: float = 0.0,
    frozen: tuple[str, ...] = (),
    validate_every: int | None = None,
    n_validation_episodes: int | None = None,
    seed: int = 0,
    run_dir: Path | None = None,
    resume: bool = True,
    fabric: Fabric | None = None,
    report: Callable[[str], None] = print,
) -> Trained:
    """Train ``encoder`` on episodes of the base classes; keep the iteration best on validation, the start included.

    Iteration i learns from episodes i * meta_batch_size onwards of the sequence that ``seed`` gives.

    Args:
        encoder: trained in place while running, from pretrained weights as a rule; the returned one is the chosen
            iteration's.
        inputs: N products of the base classes.
        category_ids, groups: int64 (N,), see :class:`EpisodeSampler`.
        algorithm: one of ``ALGORITHMS``. "relation" and "feat" give the encoder a ``head``, unless it has theirs.
        validation: chooses the iteration, by the method that is trained; without it the last one is kept.
        meta_batch_size: episodes an iteration, over all processes.
        outer_lr: peak rate of the outer optimiser, see :func:`fewshot_prod.training.learning_rate`.
        optimiser: "adamw" or "sgd".
        norm: "frozen" (running statistics stay as they are), "batch" or "group". With "batch" a metric method
            trains on the statistics of its meta-batch, updates the running ones and is used with those; MAML's
            family uses those of each support and query set, in use too (transductive), with "support" those of the
            support alone.
        normalise: L2-normalise features; None does so for metric methods alone. "relation" normalises by itself.
        logit_scale: where a metric method's starts, and MAML's; None: 10 with normalised features, else 1.
        inner_lr, n_adaptation_steps, head, engine, vectorised, parts: of MAML's family, see :class:`MAML`; Meta-SGD's
            rates start at ``inner_lr``, and Reptile makes ``n_adaptation_steps`` minibatches of an episode.
        augmentation: arguments of :func:`augment`; None turns it off.
        modality_dropout, frozen: as in :func:`fewshot_prod.pretrain.pretrain`; any number of processes sees the same
            pictures and titles.
        validate_every: iterations between evaluations, at which the run's state is kept too; None: 5 in a run.
        n_validation_episodes: a number of shots; None: ``validation.n_episodes``, a fifth of it for MAML's family.
        run_dir, resume, fabric: as in :func:`fewshot_prod.pretrain.pretrain`.

    Returns:
        History rows have the ``iteration``, mean training ``loss`` since the last row, and validation accuracies.

    Raises:
        ValueError: for an unknown algorithm, a meta-batch that the processes cannot share evenly, ``norm="batch"``
            of metric methods on several processes, ``norm="support"`` of theirs, a logit scale that is not positive,
            or a loss that is not finite.
        UsageError: for numbers that are too small, or MAML's steps in what is frozen.
        UnknownName: if ``frozen`` names a part that the encoder does not have.
        CheckpointError: if the state in ``run_dir`` belongs to other settings or products.
    """
    arguments = dict(locals())
    fabric = fabric or launch_fabric()
    if algorithm not in ALGORITHMS:
        raise ValueError(f"algorithm={algorithm!r} is unknown; choose one of {', '.join(ALGORITHMS)}")
    for name, value, least in (
        ("n_way", n_way, 2),
        ("meta_batch_size", meta_batch_size, 1),
        ("n_iterations", n_iterations, 1),
        ("outer_lr", outer_lr, 0),
        ("validate_every", validate_every, 1),
        ("n_validation_episodes", n_validation_episodes, 1),
    ):
        if value is not None and not value >= least:
            raise UsageError(f"{name} is {value}: it must be at least {least}")
    check_option("logit_scale", logit_scale)
    if meta_batch_size % fabric.world_size:
        raise ValueError(
            f"meta_batch_size={meta_batch_size} must be a multiple of the number of processes ({fabric.world_size})"
        )
    if norm == "batch" and algorithm in METRIC and fabric.world_size > 1:
        raise ValueError("norm='batch' gives each process its own running statistics; use 'frozen' or 'group'")
    if norm == "support" and algorithm in METRIC:
        raise ValueError("norm='support' belongs to MAML's family; use 'frozen', 'batch' or 'group'")
    precision = str(fabric._precision.precision)
    settings = run_settings(arguments, *map(np.asarray, (category_ids, groups)), precision=precision)

    model: MetricTraining | MAMLTraining
    metric = algorithm in METRIC
    normalise = metric if normalise is None else normalise
    if logit_scale is None:
        logit_scale = 10.0 if normalise else 1.0
    if metric:
        if algorithm in HEADS and (encoder.config.get("head") or {}).get("kind") != algorithm:
            seed_step(seed)
            attach_head(encoder, algorithm, **({"n_way": n_way} if algorithm == "relation" else {}))
        start = {"logit_scale": logit_scale, "penalty": Ridge.penalty}
        model = MetricTraining(METRIC[algorithm], encoder, norm=norm, start=start, normalise=normalise, frozen=frozen)
    else:
        if algorithm == "meta_sgd":
            attach_inner_rates(encoder, inner_lr)
        training = ReptileTraining if algorithm == "reptile" else MAMLTraining
        model = training(
            ADAPTING[algorithm],
            encoder,
            inner_lr=inner_lr,
            n_adaptation_steps=n_adaptation_steps,
            engine=engine,
            norm=norm,
            head="prototypes" if algorithm == "proto_maml" else head,
            normalise=normalise,
            logit_scale=logit_scale,
            precision=precision,
            vectorised=vectorised,
            parts=parts,
        )
    model.to(fabric.device, memory_format=torch.channels_last)
    freeze(encoder, frozen)
    stepped = [part for part in frozen if part in (PARTS if parts is None else parts.split("+"))]
    if not metric and ADAPTING[algorithm].partial and stepped:
        others = [p for p in PARTS if p == "head" or (p not in frozen and getattr(encoder, p) is not None)]
        raise UsageError(
            f"{frozen=} and {parts=}: the steps of {algorithm!r} would change {' and '.join(stepped)}; give "
            f"parts={'+'.join(others)!r}, with engine='torch.func'"
        )
    if validation is not None:
        default = validation.n_episodes if metric else -(-validation.n_episodes // 5)
        validation = replace(validation, n_episodes=default if n_validation_episodes is None else n_validation_episodes)
    if validate_every is None:
        validate_every = max(1, n_iterations // 5)
    sampler = EpisodeSampler(category_ids, groups, n_way=n_way, n_shot=n_shot, n_query=n_query, seed=seed)
    optimizer = make_optimiser(optimiser, model, outer_lr, weight_decay)
    parameters = [p for p in model.parameters() if p.requires_grad]
    state = TrainingState(run_dir / "state.pt", settings) if run_dir else None
    progress = state.load({"model": model}, optimizer) if state and resume else None
    progress = progress or {"iteration": 0, "seconds": 0.0, "history": [], "best": None}
    share = meta_batch_size // fabric.world_size

    def keep(iteration: int, row: dict[str, float]) -> None:
        """Evaluate, remember the best weights, and write the run's state."""
        row = {"iteration": iteration, **row}
        if validation is not None:
            row |= fabric.broadcast(validation.score(encoder, model.method(), precision=precision))
            if progress["best"] is None or row["score"] > max(h["score"] for h in progress["history"]):
                progress["best"] = {k: v.detach().cpu().clone() for k, v in model.state_dict().items()}
        progress["history"].append(row)
        progress["iteration"] = iteration
        progress["seconds"] = seconds_before + time.perf_counter() - started
        if state and fabric.is_global_zero:
            state.save({"model": model}, optimizer, progress)
        figures = "  ".join(f"{k} {v:.3f}" for k, v in row.items() if k != "iteration")
        left = f"  {progress['seconds'] / iteration * (n_iterations - iteration):.0f} s left" if iteration else ""
        report(f"iteration {iteration}/{n_iterations}  {figures}{left}")

    started, seconds_before = time.perf_counter(), progress["seconds"]
    if not progress["history"]:
        keep(0, {})
    losses: list[Tensor] = []
    for iteration in range(progress["iteration"], n_iterations):
        for group in optimizer.param_groups:
            group["lr"] = outer_lr * learning_rate(iteration, n_iterations)
        first = iteration * meta_batch_size + fabric.global_rank * share
        seed_step(seed, first)  # dropout
        episodes = sampler.sample(first, first + share).to(fabric.device)
        pool, episodes = training_pool(inputs, episodes, augmentation, seed, first)
        if modality_dropout:
            # of any number of processes; and not the stream that augmentation has drawn from
            generator = seed_step(seed, iteration * meta_batch_size, *([1] if augmentation else []))
            pool = drop_modalities(pool, modality_dropout, generator, (fabric.global_rank, fabric.world_size))
            seed_step(seed, first)  # dropout
        optimizer.zero_grad(set_to_none=True)
        losses.append(model.add_gradients(pool, episodes, fabric))
        average_gradients(fabric, parameters)
        optimizer.step()
        if (iteration + 1) % validate_every == 0 or iteration + 1 == n_iterations:
            loss = float(fabric.all_reduce(torch.stack(losses).mean(), reduce_op="mean"))
            if not math.isfinite(loss):
                raise ValueError(f"the loss is {loss} at iteration {iteration + 1}: lower inner_lr or outer_lr")
            losses.clear()
            keep(iteration + 1, {"loss": loss})

    if progress["best"] is not None:
        model.load_state_dict(progress["best"])
    encoder.requires_grad_(True)
    method = model.method()
    fields = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)}
    plain = {k: v for k, v in fields.items() if isinstance(v, (bool, int, float, str)) and k != "precision"}
    seen = n_iterations * meta_batch_size * n_way * (n_shot + n_query)
    return Trained(encoder.eval(), progress["history"], seen, progress["seconds"], plain)
