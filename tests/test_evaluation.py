"""Scores over episodes: counted as by hand, independent of chunks, and intervals that cover."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
import torch
from reference import interval_by_loops, macro_scores_by_loops
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.evaluation import evaluate, mean_ci95, paired_difference
from fewshot_prod.inputs import ProductInputs


@dataclass(frozen=True)
class Noisy:
    """Knows the category ids in the pool's first column and errs in a share of the queries (by the second one)."""

    error: float = 0.3
    needs: ClassVar[str] = "features"
    transductive: ClassVar[bool] = False

    def __call__(self, pool, episodes):
        right = pool[episodes.query, 0][..., None] == episodes.classes[:, None]
        wrong = pool[episodes.query, 1] < self.error
        return torch.where(wrong[..., None], right.roll(1, 2), right).float()


CATEGORIES = np.repeat([4, 8, 15, 16, 23], 12)
POOL = torch.stack(
    [torch.from_numpy(CATEGORIES).float(), torch.rand(60, generator=torch.Generator().manual_seed(0))], 1
)
SAMPLER = EpisodeSampler(CATEGORIES, np.arange(60), n_way=3, n_shot=1, n_query=4, seed=0)


def truths_and_guesses(n: int) -> tuple[list[int], list[int]]:
    """Category ids of all queries of n episodes, and what Noisy says."""
    drawn = SAMPLER.sample(0, n)
    guess = Noisy()(POOL, drawn).argmax(2)
    return (drawn.classes.gather(1, labels).flatten().tolist() for labels in (drawn.query_labels, guess))


def test_scores_are_the_counts():
    scores = evaluate(Noisy(), POOL, SAMPLER, 50)
    truth, guess = truths_and_guesses(50)
    assert 0.5 < scores.accuracy.mean() < 0.9
    right = np.array(truth).reshape(50, 12) == np.array(guess).reshape(50, 12)
    assert scores.accuracy.dtype == np.float64
    assert scores.accuracy.tolist() == right.mean(1).tolist()
    assert scores.categories.tolist() == [4, 8, 15, 16, 23]
    assert scores.confusion.tolist() == confusion_matrix(truth, guess).tolist()
    macro = (scores.macro_precision, scores.macro_recall, scores.macro_f1)
    assert macro == pytest.approx(macro_scores_by_loops(truth, guess), abs=1e-12)
    assert macro == pytest.approx(precision_recall_fscore_support(truth, guess, average="macro")[:3], abs=1e-12)


def test_a_category_that_is_never_predicted_scores_zero():
    scores = evaluate(
        Noisy(error=2.0), POOL, EpisodeSampler(CATEGORIES, range(60), n_way=2, n_shot=1, n_query=1, seed=0), 1
    )
    assert scores.confusion.sum() == 2
    assert (scores.macro_precision, scores.macro_recall, scores.macro_f1) == (0, 0, 0)


@pytest.mark.parametrize("chunk", [1, 7, 50, 99])
def test_chunks_and_longer_runs_change_nothing(chunk):
    whole, calls = evaluate(Noisy(), POOL, SAMPLER, 50), []
    scores = evaluate(Noisy(), POOL, SAMPLER, 50, chunk=chunk, progress=lambda done, n: calls.append((done, n)))
    assert scores.accuracy.tolist() == whole.accuracy.tolist()
    assert scores.confusion.tolist() == whole.confusion.tolist()
    assert calls[-1] == (50, 50)
    assert len(calls) == -(-50 // chunk)
    assert evaluate(Noisy(), POOL, SAMPLER, 90).accuracy[:50].tolist() == whole.accuracy.tolist()


def test_padded_queries_do_not_count():
    drawn = SAMPLER.sample(0, 20)
    mask = torch.rand(drawn.query.shape, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[:, 0] = True

    class Padded:
        def sample(self, start, stop):
            part = drawn[start:stop]
            return EpisodeBatch(
                part.support,
                part.support_labels,
                part.query * mask[start:stop],
                part.query_labels * mask[start:stop],
                part.n_way,
                part.classes,
                query_mask=mask[start:stop],
            )

    scores = evaluate(Noisy(), POOL, Padded(), 20, chunk=6)
    right = Noisy()(POOL, drawn).argmax(2) == drawn.query_labels
    assert scores.accuracy.tolist() == [float(r[m].double().mean()) for r, m in zip(right, mask, strict=True)]
    assert scores.confusion.sum() == mask.sum()


def test_adapting_methods_may_use_gradients_and_feature_methods_do_not():
    seen = {}

    class Adapting:
        needs, transductive = "inputs", False

        def __call__(self, pool, episodes):
            seen[self.needs] = torch.is_grad_enabled()
            return torch.zeros(*episodes.query.shape, episodes.n_way)

    class Features(Adapting):
        needs = "features"

    evaluate(Adapting(), ProductInputs(images=torch.zeros(60, 2, 2, 3, dtype=torch.uint8)), SAMPLER, 2)
    evaluate(Features(), POOL, SAMPLER, 2)
    assert seen == {"inputs": True, "features": False}


def test_diverged_logits_are_refused():
    class Diverged(Noisy):
        def __call__(self, pool, episodes):
            return super().__call__(pool, episodes) * float("nan")

    with pytest.raises(ValueError, match="Diverged gave logits that are not finite"):
        evaluate(Diverged(), POOL, SAMPLER, 5)
    with pytest.raises(ValueError, match="not finite: features are not"):
        evaluate(Diverged(), torch.full_like(POOL, float("nan")), SAMPLER, 5)
    with pytest.raises(TypeError, match=r"Noisy needs features, not ProductInputs: see Pools.of"):
        evaluate(Noisy(), ProductInputs(images=torch.zeros(2, 8, 8, 3, dtype=torch.uint8)), SAMPLER, 5)
    with pytest.raises(ValueError, match="n_episodes is 0: give at least 1"):
        evaluate(Noisy(), POOL, SAMPLER, 0)


def test_interval_is_the_formula_and_covers():
    values = np.random.default_rng(0).random((1000, 100))
    assert mean_ci95(values[0]) == pytest.approx(interval_by_loops(values[0].tolist()), rel=1e-12)
    covered = [abs(mean - 0.5) <= half for mean, half in map(mean_ci95, values)]
    assert 0.93 < np.mean(covered) < 0.97  # 95 % nominal
    with pytest.raises(ValueError, match="1 value has no interval"):
        mean_ci95([0.5])


def test_pairing_removes_what_episodes_share():
    rng = np.random.default_rng(0)
    difficulty = rng.random(400)
    a, b = difficulty + 0.02 + 0.01 * rng.normal(size=400), difficulty + 0.01 * rng.normal(size=400)
    mean, half = paired_difference(a, b)
    assert mean == pytest.approx(a.mean() - b.mean())
    assert mean - half > 0.015
    assert half < mean_ci95(a)[1] / 10
    with pytest.raises(ValueError, match="400 and 399 episodes cannot be paired"):
        paired_difference(a, b[1:])
