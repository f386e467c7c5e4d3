"""easyfsl 1.5.0 beside ours: a DataLoader over episodes drawn before, and its heads where they depart from a paper."""

from __future__ import annotations

from typing import Any

import easyfsl.methods
import torch
import torch.nn.functional as F
from easyfsl.samplers import TaskSampler
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from fewshot_prod.episodes import EpisodeBatch


class Drawn:
    """Episodes drawn before, in the place of a sampler."""

    def __init__(self, episodes: EpisodeBatch) -> None:
        self.episodes = episodes

    def sample(self, start: int, stop: int) -> EpisodeBatch:
        """Episodes ``start`` to ``stop - 1``."""
        return self.episodes[start:stop]


def synthetic_features(n_products: int, dim: int, seed: int, spread: float = 0.15) -> tuple[Tensor, Tensor]:
    """24 classes around random means, ``n_products`` in each: features float32 (24 n, dim), category ids (24 n,)."""
    generator = torch.Generator().manual_seed(seed)
    categories = torch.arange(24).repeat_interleave(n_products)
    features = spread * torch.randn(24, dim, generator=generator)[categories]
    return features + torch.randn(len(categories), dim, generator=generator), categories


def loader(features: Tensor, categories: Tensor, episodes: EpisodeBatch, n_shot: int, n_query: int) -> Any:
    """A DataLoader that collates the episodes as easyfsl does: each class's support, then its queries.

    Its sampler does not run on torch 2.14, so that the indices stand in its place.
    """
    sampler = TaskSampler.__new__(TaskSampler)  # its __init__ fails; collating needs these three alone
    sampler.n_way, sampler.n_shot, sampler.n_query = episodes.n_way, n_shot, n_query
    by_class = episodes.query.gather(1, episodes.query_labels.argsort(dim=1, stable=True))
    rows = [part.unflatten(1, (episodes.n_way, -1)) for part in (episodes.support, by_class)]
    return DataLoader(
        TensorDataset(features, categories),
        batch_sampler=torch.cat(rows, 2).flatten(1).tolist(),
        collate_fn=sampler.episodic_collate_fn,
    )


class PaperTIM(easyfsl.methods.TIM):
    """With half the negative squared distances of the paper's equation 1, in the place of easyfsl's cosines."""

    def cosine_distance_to_prototypes(self, samples: Tensor) -> Tensor:
        """The queries' own squares are left out: no softmax over classes sees them."""
        return samples @ self.prototypes.T - 0.5 * self.prototypes.square().sum(1)


class ShiftedQueries:
    """Queries that stay where the papers shift them, where easyfsl takes the shift back; for features as they are."""

    def forward(self, query_images: Tensor) -> Tensor:
        return super().forward(query_images + self.support_features.mean(0) - query_images.mean(0))


class ShiftedBDCSPN(ShiftedQueries, easyfsl.methods.BDCSPN):
    """Its own shift finds nothing to do."""


class ShiftedLaplacianShot(ShiftedQueries, easyfsl.methods.LaplacianShot):
    """Its own shift finds nothing to do."""


class LinearFinetuning(easyfsl.methods.TransductiveFinetuning):
    """With a linear head from normalised class means, as in the paper, in the place of easyfsl's distances."""

    def process_support_set(self, support_images: Tensor, support_labels: Tensor) -> None:
        super().process_support_set(support_images, support_labels)
        self.prototypes = F.normalize(self.prototypes)

    def l2_distance_to_prototypes(self, samples: Tensor) -> Tensor:
        return samples @ self.prototypes.T


class MatchingWithoutContext(easyfsl.methods.MatchingNetworks):
    """Without the full-context embeddings, whose LSTMs would take most of the time."""

    def encode_support_features(self, support_features: Tensor) -> Tensor:
        return support_features

    def encode_query_features(self, query_features: Tensor) -> Tensor:
        return query_features
