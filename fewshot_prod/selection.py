"""Early choice: few-shot accuracy on the validation classes, the only thing that training may select on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.evaluation import evaluate
from fewshot_prod.features import embed
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.nearest_centroid import NearestCentroid


@dataclass(frozen=True)
class FewShotValidation:
    """Episodes over the products of the validation classes.

    Args:
        inputs: N products of the validation classes.
        category_ids: int64 (N,).
        groups: int64 (N,), near-duplicates share a number.
        n_shots: the settings whose accuracies are averaged into the score.
        seed: of the episodes; the same ones score every epoch.
    """

    inputs: ProductInputs
    category_ids: np.ndarray
    groups: np.ndarray
    n_way: int = 5
    n_shots: tuple[int, ...] = (1, 5)
    n_query: int = 15
    n_episodes: int = 500
    seed: int = 1

    def sampler(self, n_shot: int) -> EpisodeSampler:
        return EpisodeSampler(
            self.category_ids, self.groups, n_way=self.n_way, n_shot=n_shot, n_query=self.n_query, seed=self.seed
        )

    def score(self, encoder: ProductEncoder, method: object = None, precision: str = "32-true") -> dict[str, float]:
        """Mean accuracy (0 to 1) for each number of shots, and their mean under "score".

        Args:
            method: a feature method; nearest centroid on L2-normalised features when None, which needs no base mean.
        """
        method = method or NearestCentroid(normalisation="L2N")
        features = embed(encoder, self.inputs, flip=False, precision=precision)
        accuracy = {
            f"{shot}-shot": float(evaluate(method, features, self.sampler(shot), self.n_episodes).accuracy.mean())
            for shot in self.n_shots
        }
        return {**accuracy, "score": float(np.mean(list(accuracy.values())))}
