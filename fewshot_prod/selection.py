"""Early choice: few-shot accuracy on the validation classes, the only thing that training may select on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.errors import UsageError
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
        center_inputs: some products of the base classes, whose mean feature is the centre of CL2N; with None
            features are normalised without a centre (L2N).
        n_shots: the settings whose accuracies are averaged into the score.
        seed: of the episodes; the same ones score every epoch.
    """

    inputs: ProductInputs
    category_ids: np.ndarray
    groups: np.ndarray
    center_inputs: ProductInputs | None = None
    n_way: int = 5
    n_shots: tuple[int, ...] = (1, 5)
    n_query: int = 15
    n_episodes: int = 500
    seed: int = 1

    @classmethod
    def fitting(
        cls,
        inputs: ProductInputs,
        category_ids: np.ndarray,
        groups: np.ndarray,
        center_inputs: ProductInputs | None = None,
    ) -> FewShotValidation | None:
        """The default setting, made smaller where the validation classes are too few or too small for it.

        Returns:
            None when not even 2-way 1-shot with one query fits: nothing can be chosen then.
        """
        sizes = sorted((len(np.unique(groups[category_ids == c])) for c in np.unique(category_ids)), reverse=True)
        n_way = min(cls.n_way, sum(size >= 2 for size in sizes))
        if n_way < 2:
            return None
        n_shots = tuple(shot for shot in cls.n_shots if shot < sizes[n_way - 1])
        n_query = min(cls.n_query, sizes[n_way - 1] - max(n_shots))
        found = cls(inputs, category_ids, groups, center_inputs, n_way, n_shots, n_query)
        while not found._drawable():  # classes share groups, such as one picture for all that have none
            if found.n_query > 1:
                found = replace(found, n_query=found.n_query // 2)
            elif len(found.n_shots) > 1:
                found = replace(found, n_shots=found.n_shots[:1])
            else:
                return None
        return found

    def _drawable(self) -> bool:
        try:
            for shot in self.n_shots:
                self.sampler(shot).sample(0, self.n_episodes)
        except UsageError:
            return False
        return True

    def sampler(self, n_shot: int) -> EpisodeSampler:
        return EpisodeSampler(
            self.category_ids, self.groups, n_way=self.n_way, n_shot=n_shot, n_query=self.n_query, seed=self.seed
        )

    def score(self, encoder: ProductEncoder, method: object = None, precision: str = "32-true") -> dict[str, float]:
        """Mean accuracy (0 to 1) for each number of shots, and their mean under "score".

        Args:
            method: nearest centroid when None; an adapting method brings its own encoder and precision.
        """
        if method is None and self.center_inputs is not None:
            center = embed(encoder, self.center_inputs, flip=False, precision=precision).mean(0)
            method = NearestCentroid(center=center)
        method = method or NearestCentroid(transform="L2N")
        if method.needs == "inputs":
            pool = self.inputs
        else:  # where the encoder is, whose head may be the method's module
            pool = embed(encoder, self.inputs, flip=False, precision=precision).to(encoder.device)
        accuracy = {
            f"{shot}-shot": float(evaluate(method, pool, self.sampler(shot), self.n_episodes).accuracy.mean())
            for shot in self.n_shots
        }
        return {**accuracy, "score": float(np.mean(list(accuracy.values())))}
