"""Agreement with easyfsl on the same pre-drawn episodes, and where it departs from a paper, which way.

easyfsl takes one episode at a time and features through its identity backbone.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fewshot_prod.encoders.heads import RelationModule, SetAttention
from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.methods import METHODS

peers = pytest.importorskip("easyfsl.methods", reason="easyfsl is an extra: pip install fewshot_prod[test]")

D, N_EPISODES = 16, 20
CATEGORIES = np.repeat(np.arange(8), 25)
G = torch.Generator().manual_seed(0)
# far from separable (deviation 1.5 around means of deviation 1), so that a wrong method gives other answers
POOL = 1 + torch.randn(8, D, generator=G)[torch.from_numpy(CATEGORIES)] + 1.5 * torch.randn(200, D, generator=G)
CENTER = POOL.mean(0)


def draw(n_shot: int) -> EpisodeBatch:
    sampler = EpisodeSampler(CATEGORIES, np.arange(200), n_way=5, n_shot=n_shot, n_query=6, seed=0)
    return sampler.sample(0, N_EPISODES)


@torch.no_grad()
def ask(peer: nn.Module, episodes: EpisodeBatch, pool: torch.Tensor = POOL) -> torch.Tensor:
    """The peer's scores (E, Q, n_way)."""
    scores = []
    for e in range(len(episodes)):
        peer.process_support_set(pool[episodes.support[e]], episodes.support_labels[e])
        scores.append(peer(pool[episodes.query[e]]))
    return torch.stack(scores)


shots = pytest.mark.parametrize("n_shot", [1, 5])


@shots
def test_prototypical(n_shot):
    """easyfsl's scores are negative distances, where equation 2 of the paper has squared ones: same ranking, other
    probabilities."""
    ours, theirs = METHODS["prototypical"]()(POOL, draw(n_shot)), ask(peers.PrototypicalNetworks(), draw(n_shot))
    assert torch.allclose(ours, -theirs.square(), rtol=1e-4, atol=1e-3)
    assert torch.equal(ours.argmax(2), theirs.argmax(2))


def test_simple_shot():
    """easyfsl compares by cosine, the paper (equation 1) by Euclidean distance. With one shot centroids have norm 1 and
    that is the same ranking; with five it is not, and easyfsl's is Meta-Baseline's on the same features."""
    peer = peers.SimpleShot(feature_centering=CENTER, feature_normalization=2)
    one, five = (METHODS["nearest_centroid"]("CL2N", CENTER)(POOL, draw(n)) for n in (1, 5))
    assert torch.allclose(one, 2 * ask(peer, draw(1)) - 2, atol=1e-5)
    theirs = ask(peer, draw(5))
    assert torch.allclose(METHODS["meta_baseline"](1.0, "CL2N", CENTER)(POOL, draw(5)), theirs, atol=1e-5)
    differ = (five.argmax(2) != theirs.argmax(2)).float().mean()
    assert 0 < differ < 0.15


class NoContext(nn.Module):
    """Stands in for easyfsl's two full-context LSTMs and adds nothing, since ours are left out."""

    def forward(self, x: torch.Tensor, state: tuple | None = None) -> tuple[torch.Tensor, torch.Tensor]:
        if state is None:
            return x.new_zeros(*x.shape[:2], 2 * x.shape[2]), x
        return torch.zeros_like(state[0]), state[1]


@shots
def test_matching(n_shot):
    """easyfsl leaves the query's norm in (the paper has cosines): with queries of norm s it is our logit_scale=s. It
    adds 1e-6 to each probability."""
    peer = peers.MatchingNetworks(feature_dimension=D, support_encoder=NoContext(), query_encoder=NoContext())
    ours, theirs = METHODS["matching"](4.0)(POOL, draw(n_shot)), ask(peer, draw(n_shot), 4 * F.normalize(POOL))
    assert torch.allclose(ours.exp() + 1e-6, theirs.exp(), atol=1e-5)
    assert (ours.argmax(2) != ask(peer, draw(n_shot)).argmax(2)).any() or n_shot == 1, (
        "norms of queries would not matter"
    )


@shots
def test_feat(n_shot):
    """With our attention's weights in easyfsl's module, its dropout off; its scores are distances, the paper's code has
    squared ones."""
    from easyfsl.modules import MultiHeadAttention

    torch.manual_seed(0)
    ours, theirs = SetAttention(D), MultiHeadAttention(1, D, D, D).eval()
    ours.out.weight.data *= 10
    names = {"w_qs": "query", "w_ks": "key", "w_vs": "value", "fc": "out", "layer_norm": "norm"}
    state = ours.state_dict()
    theirs.load_state_dict(
        {key: state[key.replace(key.split(".")[0], names[key.split(".")[0]])] for key in theirs.state_dict()}
    )
    logits = METHODS["feat"](ours)(POOL, draw(n_shot))
    assert torch.allclose(
        logits, -ask(peers.FEAT(attention_module=theirs), draw(n_shot)).square(), rtol=1e-4, atol=1e-3
    )
    assert (logits.argmax(2) != METHODS["prototypical"]()(POOL, draw(n_shot)).argmax(2)).any(), "no adaptation"


class OnPairs(nn.Module):
    """Our relation module as easyfsl calls its own: on maps of 1 x 1 whose channels are (class, query)."""

    def __init__(self, module: RelationModule) -> None:
        super().__init__()
        self.module = module

    def forward(self, pairs: torch.Tensor) -> torch.Tensor:
        of_class, of_query = pairs.flatten(1)[:, None].chunk(2, dim=2)
        return self.module(of_class, of_query).sigmoid()


@shots
def test_relation(n_shot):
    """On feature maps of 1 x 1. easyfsl averages a class's shots, as we do; the paper adds them up."""
    torch.manual_seed(0)
    module = RelationModule(D)
    for weight in (module.pair.weight, module.hidden.weight, module.score.weight):
        weight.data *= 3  # or all scores are nearly the same
    peer = peers.RelationNetworks(feature_dimension=D, relation_module=OnPairs(module))
    with torch.no_grad():
        ours = METHODS["relation"](module)(POOL, draw(n_shot)).sigmoid()
    assert torch.allclose(ours, ask(peer, draw(n_shot), POOL[:, :, None, None]), atol=1e-5)
    assert ours.std() > 0.1
