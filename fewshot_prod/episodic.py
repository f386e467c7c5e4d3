"""What one outer step of episodic training computes: query losses of metric methods and of MAML's family."""

from __future__ import annotations

import math
from dataclasses import fields, replace
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
from fewshot_prod.methods.reptile import Reptile
from fewshot_prod.training import seed_step

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def query_loss(method: Any, features: Tensor, episodes: EpisodeBatch) -> Tensor:
    """What training a feature method on ``episodes`` lowers: its own ``loss``, else the queries' cross-entropy.

    Args:
        features: float32 (N, D), which carry gradients.
    """
    if hasattr(method, "loss"):
        return method.loss(features, episodes)
    return cross_entropy(method(features, episodes).flatten(0, 1), episodes.query_labels.flatten())


class MetricTraining(nn.Module):
    """Episodic training of an encoder through a feature method, as Snell et al. 2017 train theirs.

    The numbers that a method names in ``learned`` are trained with the encoder, as logarithms, so that they stay
    positive (a learned scale: Oreshkin et al. 2018; Chen et al. 2021). A method's ``module`` is the encoder's ``head``.

    Args:
        kind: a feature method whose logits are differentiable in the features.
        start: where its learned numbers start.
        normalise: divide features by their norm, where the method lets one choose.
        frozen: parts of the encoder that are not trained, and so run as in use.
    """

    def __init__(
        self,
        kind: type,
        encoder: ProductEncoder,
        *,
        norm: str,
        start: dict[str, float],
        normalise: bool,
        frozen: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.kind, self.encoder, self.norm, self.frozen = kind, encoder, norm, frozen
        choices = {"normalise": normalise, "transform": "L2N" if normalise else "UN"}
        self.known = {f.name for f in fields(kind)}
        self.settings = {name: value for name, value in choices.items() if name in self.known}
        for name in kind.learned:
            self.register_parameter(log_name(name), nn.Parameter(torch.tensor(math.log(start[name]))))

    def add_gradients(self, pool: ProductInputs, episodes: EpisodeBatch, fabric: Fabric) -> Tensor:
        """Mean query loss over the episodes, its gradient added to the parameters'; the pool is encoded once."""
        self.encoder.train()
        for m in batch_norms(self.encoder, self.norm):
            m.train(self.norm == "batch")
        for part in self.frozen:
            getattr(self.encoder, part).eval()
        with fabric.autocast():
            features = self.encoder(pool).float()
        loss = query_loss(self._with(self._learned()), features, episodes)
        fabric.backward(loss)
        return loss.detach()

    def method(self) -> Any:
        """The trained method, for features of the encoder."""
        return self._with({name: float(value.detach()) for name, value in self._learned().items()})

    def _learned(self) -> dict[str, Tensor]:
        return {name: getattr(self, log_name(name)).exp() for name in self.kind.learned}

    def _with(self, learned: dict[str, Any]) -> Any:
        module = {"module": self.encoder.head} if "module" in self.known else {}
        return self.kind(**module, **self.settings, **learned)


def log_name(name: str) -> str:
    """The parameter behind a learned number: "log_scale" behind "logit_scale"."""
    return "log_" + name.removeprefix("logit_")


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
