"""AM3: its equations by loops, its contract as a method, and that names help where one shot is little."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference import mixed_logits_by_loops

from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.evaluation import evaluate, paired_difference
from fewshot_prod.methods.am3 import AM3, AdaptiveMixing, fit_mixing
from fewshot_prod.methods.prototypical import Prototypical


def catalog(n_classes: int = 48, each: int = 8, noise: float = 1.5):
    """Features around class means that are a fixed linear map of the classes' embeddings, with much noise."""
    generator = torch.Generator().manual_seed(0)
    embeddings = torch.randn(n_classes, 4, generator=generator)
    means = embeddings @ torch.randn(4, 16, generator=generator) / 2
    ids = np.repeat(np.arange(n_classes), each)
    return means[ids] + noise * torch.randn(len(ids), 16, generator=generator), ids, embeddings


FEATURES, IDS, EMBEDDINGS = catalog()


def sampler(keep: np.ndarray, **options: int) -> EpisodeSampler:
    settings = {"n_way": 5, "n_shot": 1, "n_query": 4, "seed": 3} | options
    return EpisodeSampler(IDS[keep], np.arange(keep.sum()), **settings)


def method(**options) -> AM3:
    torch.manual_seed(0)
    return AM3(AdaptiveMixing(4, 16, hidden=5).eval(), EMBEDDINGS, **options)


def test_fewer_classes_than_an_episode_takes_are_enough_to_fit():
    few = IDS < 6
    mixing = fit_mixing(FEATURES[few], IDS[few], np.arange(few.sum()), EMBEDDINGS[:6], n_iterations=1)
    assert all(p.isfinite().all() for p in mixing.parameters())


def test_logits_match_loops():
    am3 = method(normalise=False, logit_scale=0.5)
    everything = np.ones(len(IDS), bool)
    episodes = sampler(everything, n_shot=2).sample(0, 3)
    logits = am3(FEATURES, episodes)
    layers = [
        [(layer.weight.tolist(), layer.bias.tolist()) for layer in network if isinstance(layer, torch.nn.Linear)]
        for network in (am3.mixing.to_features, am3.mixing.to_share)
    ]
    for i in range(3):
        expected = mixed_logits_by_loops(
            FEATURES[episodes.support[i]].tolist(),
            episodes.support_labels[i].tolist(),
            FEATURES[episodes.query[i]].tolist(),
            EMBEDDINGS[episodes.classes[i]].tolist(),
            *layers,
            0.5,
        )
        torch.testing.assert_close(logits[i], torch.tensor(expected), rtol=1e-4, atol=1e-4)
    assert torch.equal(am3(FEATURES, episodes), logits)
    torch.testing.assert_close(torch.cat([am3(FEATURES, one) for one in episodes.split(1)]), logits)


def test_it_is_a_prototypical_network_where_products_have_the_whole_share():
    am3 = method()
    with torch.no_grad():
        am3.mixing.to_share[-1].bias += 1000.0
    episodes = sampler(np.ones(len(IDS), bool)).sample(0, 4)
    expected = Prototypical(logit_scale=10.0, normalise=True)(FEATURES, episodes)
    torch.testing.assert_close(am3(FEATURES, episodes), expected, rtol=1e-4, atol=1e-4)


def test_names_help_on_classes_that_training_has_not_seen():
    """40 base classes teach what embeddings mean for 8 others; untrained networks, or shuffled names, do not help."""
    base = IDS < 40
    mixing = fit_mixing(FEATURES[base], IDS[base], np.arange(base.sum()), EMBEDDINGS, n_way=10, n_iterations=150)
    novel = sampler(~base)
    plain = evaluate(Prototypical(normalise=True), FEATURES[~base], novel, 200).accuracy

    def gain(am3: AM3) -> tuple[float, float]:
        return paired_difference(evaluate(am3, FEATURES[~base], novel, 200).accuracy, plain)

    mean, half = gain(AM3(mixing, EMBEDDINGS))
    assert mean - half > 0.08
    assert gain(AM3(mixing, EMBEDDINGS[torch.randperm(48, generator=torch.Generator().manual_seed(1))]))[0] < 0
    assert gain(AM3(AdaptiveMixing(4, 16).eval(), EMBEDDINGS))[0] < 0.5 * mean


def test_training_leaves_the_global_generator_alone_and_repeats():
    state = torch.get_rng_state()
    options = {"n_way": 4, "n_iterations": 3}
    first, second = (fit_mixing(FEATURES, IDS, np.arange(len(IDS)), EMBEDDINGS, **options) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_what_it_refuses():
    with pytest.raises(ValueError, match="logit_scale is 0: it must be above 0"):
        method(logit_scale=0)
    episodes = sampler(np.ones(len(IDS), bool)).sample(0, 1)
    with pytest.raises(ValueError, match="give episodes with classes"):
        method()(FEATURES, replace(episodes, classes=None))
