"""What metric and closed-form methods compute, against slow loops, scikit-learn, finite differences and easyfsl."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import (
    cosine_classifier_by_loops,
    feat_by_loops,
    feat_contrastive_by_loops,
    matching_by_loops,
    meta_baseline_by_loops,
    relation_by_loops,
    transformed_by_loops,
)
from sklearn.linear_model import Ridge as RidgeOfSklearn
from torch import nn

from fewshot_prod.encoders.heads import RelationModule, SetAttention
from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.episodic import query_loss
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.prototypes import linear_logits

D = 6
CATEGORIES = np.repeat(np.arange(4), 10)
G = torch.Generator().manual_seed(0)
POOL = torch.randn(4, D, generator=G)[torch.from_numpy(CATEGORIES)] + 0.7 * torch.randn(40, D, generator=G)
CENTER = POOL.mean(0)


def randomised(module: nn.Module) -> nn.Module:
    """All weights away from where they start, so that no part of the module is without effect."""
    generator = torch.Generator().manual_seed(1)
    for p in module.parameters():
        p.data += 0.3 * torch.randn(p.shape, generator=generator)
    return module.requires_grad_(True)


RELATION = randomised(RelationModule(D, hidden=5))
ATTENTION = randomised(SetAttention(D))


def uneven(n: int = 3) -> EpisodeBatch:
    """3-way with 3, 1 and 2 shots and two queries a class."""
    episodes = EpisodeSampler(CATEGORIES, np.arange(40), n_way=3, n_shot=3, n_query=2, seed=0).sample(0, n)
    places = [0, 6, 1, 3, 7, 2]  # labels 0 2 0 1 2 0
    return EpisodeBatch(
        episodes.support[:, places], episodes.support_labels[:, places], episodes.query, episodes.query_labels, 3
    )


def by_episode(reference, pool: torch.Tensor = POOL, **options) -> torch.Tensor:
    """What a reference for one episode gives for all of ``uneven()``."""
    episodes, rows = uneven(), pool.tolist()
    parts = zip(episodes.support.tolist(), episodes.support_labels.tolist(), episodes.query.tolist(), strict=True)
    return torch.tensor(
        [reference([rows[i] for i in s], labels, [rows[i] for i in q], 3, **options) for s, labels, q in parts]
    )


def weights_of(module: nn.Module) -> dict[str, list]:
    return {name: p.tolist() for name, p in module.state_dict().items()}


def transformed(name: str) -> torch.Tensor:
    return torch.tensor([transformed_by_loops(x, name, CENTER.tolist()) for x in POOL.tolist()])


@pytest.mark.parametrize("transform", ["UN", "CL2N"])
def test_matching_is_attention_over_the_support(transform):
    logits = METHODS["matching"](3.0, transform, CENTER)(POOL, uneven())
    assert torch.allclose(logits.exp(), by_episode(matching_by_loops, transformed(transform), scale=3.0), atol=1e-5)


def test_matching_stays_finite_however_sharp():
    logits = METHODS["matching"](1000.0)(POOL, uneven())
    assert torch.isfinite(logits).all()
    nearest = METHODS["matching"](30.0)(POOL, uneven()).argmax(2)
    assert (logits.argmax(2) == nearest).float().mean() > 0.8


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_meta_baseline_is_scaled_cosines_to_class_means(transform):
    logits = METHODS["meta_baseline"](7.0, transform, CENTER)(POOL, uneven())
    assert torch.allclose(logits, by_episode(meta_baseline_by_loops, transformed(transform), scale=7.0), atol=1e-4)


def test_relation_is_a_perceptron_on_pairs():
    logits = METHODS["relation"](RELATION)(POOL, uneven())
    assert torch.allclose(logits, by_episode(relation_by_loops, weights=weights_of(RELATION)), atol=1e-4)


def test_relation_scores_start_near_the_share_of_right_pairs():
    """Started at 0.5 or 0.2, training on 40 classes ended with equal scores for all pairs."""
    torch.manual_seed(0)
    scores = RelationModule(64, n_way=40)(torch.randn(40, 64), torch.randn(200, 64)).sigmoid()
    assert scores.mean().item() == pytest.approx(1 / 40, rel=0.3)


def test_relation_trains_by_squared_error():
    logits = by_episode(relation_by_loops, weights=weights_of(RELATION))
    wanted = [
        (1 / (1 + np.exp(-logits[e, q, k].item())) - (label == k)) ** 2
        for e, labels in enumerate(uneven().query_labels.tolist())
        for q, label in enumerate(labels)
        for k in range(3)
    ]
    assert query_loss(METHODS["relation"](RELATION), POOL, uneven()).item() == pytest.approx(np.mean(wanted), abs=1e-5)


def test_feat_is_distances_to_adapted_prototypes():
    logits = METHODS["feat"](ATTENTION, logit_scale=0.3)(POOL, uneven())
    assert torch.allclose(logits, by_episode(feat_by_loops, weights=weights_of(ATTENTION), scale=0.3), atol=1e-4)


def test_normalised_feat_compares_vectors_of_norm_one():
    logits = METHODS["feat"](ATTENTION, normalise=True)(5 * POOL, uneven())
    assert logits.min() >= -4 and logits.max() <= 0
    assert torch.allclose(logits, METHODS["feat"](ATTENTION, normalise=True)(POOL, uneven()), atol=1e-5)


def test_feat_trains_by_cross_entropy_and_the_contrastive_term():
    episodes, rows = uneven(), POOL.tolist()
    method = METHODS["feat"](ATTENTION, logit_scale=0.3, contrastive_weight=0.5)
    contrastive = []
    for e in range(3):
        items = [rows[i] for i in [*episodes.support[e].tolist(), *episodes.query[e].tolist()]]
        labels = [*episodes.support_labels[e].tolist(), *episodes.query_labels[e].tolist()]
        contrastive.append(feat_contrastive_by_loops(items, labels, 3, weights_of(ATTENTION), 0.3))
    assert method.contrastive_loss(POOL, episodes).item() == pytest.approx(np.mean(contrastive), abs=1e-4)
    plain = F.cross_entropy(method(POOL, episodes).flatten(0, 1), episodes.query_labels.flatten())
    assert method.loss(POOL, episodes).item() == pytest.approx(plain.item() + 0.5 * np.mean(contrastive), abs=1e-4)


@pytest.mark.parametrize("penalty", [0.05, 2.0])
def test_ridge_is_that_of_scikit_learn(penalty):
    episodes = uneven()
    logits = METHODS["ridge"](penalty, 4.0, "CL2N", CENTER)(POOL, episodes)
    x = F.normalize(POOL - CENTER).numpy().astype(np.float64)
    ones = np.hstack([x, np.ones((40, 1))])
    for e in range(3):
        peer = RidgeOfSklearn(alpha=penalty, fit_intercept=False)
        peer.fit(ones[episodes.support[e]], np.eye(3)[episodes.support_labels[e]])
        assert 4 * peer.predict(ones[episodes.query[e]]) == pytest.approx(logits[e].numpy(), abs=1e-4)


def test_baseline_plus_plus_is_sgd_on_a_cosine_classifier():
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    method = METHODS["baseline_plus_plus"](5, logit_scale=4.0, transform="L2N", **options)
    expected = by_episode(cosine_classifier_by_loops, transformed("L2N"), steps=5, scale=4.0, **options)
    assert torch.allclose(method(POOL, uneven()), expected, atol=2e-4)
    start = METHODS["baseline_plus_plus"](0, logit_scale=4.0, transform="L2N")(POOL, uneven())
    assert torch.allclose(start, METHODS["meta_baseline"](4.0, "L2N")(POOL, uneven()), atol=1e-5)
    assert not torch.allclose(start, expected, atol=0.05), "no step was taken"


TRAINED = {
    "prototypical": {"logit_scale": 0.5},
    "matching": {"logit_scale": 3.0},
    "meta_baseline": {"logit_scale": 3.0},
    "relation": {"module": RELATION},
    "feat": {"module": ATTENTION, "logit_scale": 0.3},
    "ridge": {"penalty": 0.5, "logit_scale": 3.0, "transform": "UN"},
}


@pytest.mark.parametrize("name", TRAINED)
def test_training_gradients_are_finite_differences(name):
    """In float64: features, learned numbers and modules alike."""
    options = dict(TRAINED[name])
    module = options.pop("module", None)
    if module is not None:
        options["module"] = module = type(module)(D, **({"hidden": 5} if name == "relation" else {})).double()
        module.load_state_dict({k: v.double() for k, v in TRAINED[name]["module"].state_dict().items()})
    for number in METHODS[name].learned:
        options[number] = torch.tensor(options[number], dtype=torch.float64, requires_grad=True)
    pool = POOL.double().requires_grad_(True)
    variables = [pool, *(options[n] for n in METHODS[name].learned), *(module.parameters() if module else ())]

    def loss() -> torch.Tensor:
        return query_loss(METHODS[name](**options), pool, uneven())

    gradients = torch.autograd.grad(loss(), variables)
    generator = torch.Generator().manual_seed(0)
    for variable, gradient in zip(variables, gradients, strict=True):
        direction = torch.randn(variable.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            variable += 1e-5 * direction
            above = loss()
            variable -= 2e-5 * direction
            below = loss()
            variable += 1e-5 * direction
        slope = (above - below).item() / 2e-5
        assert (gradient * direction).sum().item() == pytest.approx(slope, rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("name", ["matching", "meta_baseline"])
@pytest.mark.parametrize("transform", ["UN", "L2N"])
def test_a_product_whose_features_are_all_zero_gets_a_gradient_like_the_others(name, transform):
    pool = POOL.clone()
    pool[uneven().support[0, 0]] = 0
    pool.requires_grad_(True)
    (gradient,) = torch.autograd.grad(query_loss(METHODS[name](3.0, transform), pool, uneven()), pool)
    assert 0 < gradient[uneven().support[0, 0]].abs().max() < 1 and gradient.abs().max() < 10


def test_linear_logits_are_the_same_with_and_without_gradients_and_in_blocks():
    """300 episodes are three blocks of weights, and queries of 2,000 numbers several blocks within each."""
    pool = torch.randn(50, 2000, generator=torch.Generator().manual_seed(0))
    sampler = EpisodeSampler(np.repeat(np.arange(5), 10), np.arange(50), n_way=3, n_shot=1, n_query=8, seed=0)
    episodes = sampler.sample(0, 300)

    def head(part: EpisodeBatch) -> tuple[torch.Tensor, torch.Tensor]:
        return pool[part.support], pool[part.support].mean(2)

    expected = pool[episodes.query] @ pool[episodes.support].mT + pool[episodes.support].mean(2)[:, None]
    assert torch.allclose(linear_logits(pool, episodes, head), expected, atol=1e-3)
    tracked = linear_logits(pool.clone().requires_grad_(True), episodes, head)
    assert tracked.requires_grad and torch.allclose(tracked, expected, atol=1e-3)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("matching", {"logit_scale": 0.0}, "logit_scale is 0.0: it must be above 0"),
        ("meta_baseline", {"logit_scale": -1.0}, "logit_scale is -1.0: it must be above 0"),
        ("feat", {"module": ATTENTION, "logit_scale": 0.0}, "logit_scale is 0.0: it must be above 0"),
        ("ridge", {"penalty": 0.0, "transform": "UN"}, "penalty is 0.0: it must be above 0"),
        ("ridge", {"transform": "CL2N"}, "CL2N needs center, the mean feature of the base classes"),
        ("baseline_plus_plus", {"transform": "CL2N"}, "CL2N needs center, the mean feature of the base classes"),
    ],
)
def test_impossible_settings_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        METHODS[name](**options)
