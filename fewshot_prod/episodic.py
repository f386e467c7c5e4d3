"""What one outer step of episodic training computes: query losses of prototypical networks and of MAML's family."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fewshot_prod.augment import augment
from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.maml import MAML
from fewshot_prod.methods.normalisation import batch_norms
from fewshot_prod.methods.prototypical import Prototypical
from fewshot_prod.methods.reptile import Reptile
from fewshot_prod.pretrain import seed_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric


class PrototypicalTraining(nn.Module):
    """Snell et al. 2017, with a learned ``logit_scale`` (Oreshkin et al. 2018; Chen et al. 2021, Meta-Baseline)."""

    def __init__(self, encoder: ProductEncoder, *, norm: str, normalise: bool, logit_scale: float) -> None:
        super().__init__()
        self.encoder, self.norm, self.normalise = encoder, norm, normalise
        self.log_scale = nn.Parameter(torch.tensor(math.log(logit_scale)))

    def add_gradients(self, pool: ProductInputs, episodes: EpisodeBatch, fabric: Fabric) -> Tensor:
        """Mean query loss over the episodes, its gradient added to the parameters'; the pool is encoded once."""
        self.encoder.train()
        for m in batch_norms(self.encoder, self.norm):
            m.train(self.norm == "batch")
        with fabric.autocast():
            features = self.encoder(pool).float()
        logits = self.log_scale.exp() * Prototypical(normalise=self.normalise)(features, episodes)
        loss = cross_entropy(logits.flatten(0, 1), episodes.query_labels.flatten())
        fabric.backward(loss)
        return loss.detach()

    def method(self) -> Prototypical:
        """The trained method, for features of the encoder."""
        return Prototypical(logit_scale=float(self.log_scale.detach().exp()), normalise=self.normalise)


class MAMLTraining(nn.Module):
    """Finn et al. 2017, algorithm 2, lines 4 to 10; for methods that are MAML but for their adaptation.

    Args:
        kind: MAML or a subclass.
        settings: its fields.
    """

    def __init__(self, kind: type[MAML], encoder: ProductEncoder, **settings: Any) -> None:
        super().__init__()
        self.kind, self.encoder, self.settings = kind, encoder, settings

    def add_gradients(self, pool: ProductInputs, episodes: EpisodeBatch, fabric: Fabric) -> Tensor:
        """Mean query loss after adaptation, its gradient added to the encoder's."""
        maml = self.method()
        vectorised = maml.vectorises(fabric.device)
        learner = maml.learner(self.encoder, episodes.n_way, vectorised=vectorised)
        total = torch.zeros((), device=fabric.device)
        # one graph at a time where vmap does not pay
        for part in episodes.split(len(episodes) if vectorised else 1):
            if vectorised:
                logits = maml.query_logits(learner, pool[part.support], part.support_labels, pool[part.query])
            else:
                adapted = maml.adapt(learner, pool[part.support[0]], part.support_labels[0])
                logits = adapted(pool[part.query[0]])
            loss = cross_entropy(logits.flatten(0, -2), part.query_labels.flatten()) * len(part) / len(episodes)
            fabric.backward(loss)
            total += loss.detach()
        return total

    def method(self) -> MAML:
        """The trained method, around the encoder itself."""
        return self.kind(self.encoder, **self.settings)


class ReptileTraining(MAMLTraining):
    """Nichol et al. 2018, algorithm 2; support and query of an episode are one set of examples."""

    def add_gradients(self, pool: ProductInputs, episodes: EpisodeBatch, fabric: Fabric) -> Tensor:
        """Mean loss in the inner loops, the mean outer gradient added to the encoder's."""
        reptile: Reptile = self.method()
        learner = reptile.learner(self.encoder, episodes.n_way)
        total = torch.zeros((), device=fabric.device)
        for one in episodes.split(1):
            rows, labels = (
                torch.cat([one.support[0], one.query[0]]),
                torch.cat([one.support_labels[0], one.query_labels[0]]),
            )
            order = torch.randperm(len(rows)).to(rows.device)
            gradients, loss = reptile.outer_gradient(learner, pool[rows[order]], labels[order])
            for name, p in learner.named_parameters():
                if name in gradients:
                    part = gradients[name] / len(episodes)
                    p.grad = part if p.grad is None else p.grad + part
            total += loss / len(episodes)
        return total


def training_pool(
    inputs: ProductInputs, episodes: EpisodeBatch, augmentation: dict[str, float] | None, seed: int, first: int
) -> tuple[ProductInputs, EpisodeBatch]:
    """The products of ``episodes`` side by side, augmented, and the episodes as positions among them.

    Augmentation depends on (seed, number of the episode), so that any number of processes sees the same pictures.

    Args:
        first: number of the first episode.
    """
    rows = torch.cat([episodes.support, episodes.query], 1)  # (E, S + Q)
    pool = inputs[rows.flatten().cpu()].to(rows.device)
    places = torch.arange(rows.numel(), device=rows.device).view_as(rows)
    shots = episodes.support.shape[1]
    if augmentation is not None and pool.images is not None:
        generators = (seed_step(seed, first + i) for i in range(len(rows)))
        parts = [
            augment(pool.images[place], generator, **augmentation)
            for place, generator in zip(places, generators, strict=True)
        ]
        pool = replace(pool, images=torch.cat(parts))
    return pool, replace(episodes, support=places[:, :shots], query=places[:, shots:])
