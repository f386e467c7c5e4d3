"""MAML: its derivatives by hand, by finite differences and by learn2learn; its contract as a method."""

from __future__ import annotations

import copy
import sys
from dataclasses import replace

import pytest
import torch
from reference import slope_along
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.inner_loop import inner_loop
from fewshot_prod.methods.maml import MAML, FirstOrderMAML
from fewshot_prod.methods.normalisation import FoldedNorm


class SmoothEncoder(nn.Module):
    """Twice differentiable everywhere, float64, with batch normalisation whose running statistics matter."""

    feature_dim = 6

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Linear(8, 6)
        self.double()
        nn.init.normal_(self.norm.running_mean, std=0.3)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)

    def forward(self, inputs: ProductInputs) -> Tensor:
        pixels = inputs.images.flatten(1).to(self.first.weight.dtype) / 128 - 1
        return torch.tanh(self.second(torch.tanh(self.norm(self.first(pixels)))))


def products(n: int, seed: int, size: tuple[int, ...] = (2, 2)) -> ProductInputs:
    generator = torch.Generator().manual_seed(seed)
    return ProductInputs(torch.randint(0, 256, (n, *size, 3), generator=generator, dtype=torch.uint8))


@pytest.fixture
def encoder() -> SmoothEncoder:
    torch.manual_seed(0)
    return SmoothEncoder()


SUPPORT, LABELS = products(6, 1), torch.tensor([0, 0, 1, 1, 2, 2])
QUERY, QUERY_LABELS = products(9, 2), torch.arange(3).repeat(3)


def meta_gradient(encoder: nn.Module, method: MAML) -> tuple[float, Tensor]:
    """Query loss after adaptation, and its gradient as one vector."""
    learner = method.learner(encoder, 3)
    loss = cross_entropy(method.adapt(learner, SUPPORT, LABELS)(QUERY), QUERY_LABELS)
    gradients = torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True)
    return float(loss.detach()), torch.cat([g.flatten() for g in gradients])


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("n_steps", [0, 1, 4])
def test_meta_gradient_of_a_quadratic_is_the_one_derived_by_hand(n_steps, vectorised):
    """Support a/2 (t - s)^2 and query b/2 (t - q)^2: t_k - s = (1 - lr a)^k (t_0 - s), whence both orders."""
    a, s, b, q, lr, start = 1.7, -0.4, 0.9, 2.0, 0.3, 1.2
    shrink = (1 - lr * a) ** n_steps
    adapted = s + shrink * (start - s)
    expected = {True: b * (adapted - q), False: b * (adapted - q) * shrink}
    measured = {}
    for first_order in (True, False):
        t = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        end = inner_loop(
            lambda p: a / 2 * (p["t"] - s) ** 2,
            {"t": t},
            inner_lr=lr,
            n_steps=n_steps,
            first_order=first_order,
            vectorised=vectorised,
        )["t"]
        assert float(end.detach()) == pytest.approx(adapted, abs=1e-12)
        (gradient,) = torch.autograd.grad(b / 2 * (end - q) ** 2, t)
        measured[first_order] = float(gradient)
    assert measured == pytest.approx(expected, abs=1e-12)
    # the orders differ by the product of the inner Jacobians, and only by it
    assert measured[True] - measured[False] == pytest.approx(b * (adapted - q) * (1 - shrink), abs=1e-12)


@pytest.mark.parametrize("head", ["zeros", "prototypes"])
def test_second_order_agrees_with_finite_differences_and_first_order_does_not(encoder, head):
    method = MAML(encoder, inner_lr=0.4, n_adaptation_steps=3, head=head)
    _, second = meta_gradient(encoder, method)
    _, first = meta_gradient(encoder, replace(method, first_order=True))
    torch.manual_seed(3)
    for _ in range(4):
        direction = [torch.randn_like(p) for p in encoder.parameters()]
        slope = slope_along(encoder, direction, lambda moved: meta_gradient(moved, method)[0])
        along = torch.cat([d.flatten() for d in direction])
        assert float(second @ along) == pytest.approx(slope, rel=1e-5, abs=1e-8)
        assert abs(float(first @ along) - slope) > 1e-3 * abs(slope)


class DarkEncoder(SmoothEncoder):
    """With a ReLU at the end, at zero in all features of the first product."""

    def forward(self, inputs: ProductInputs) -> Tensor:
        lit = (inputs.images != SUPPORT.images[0]).flatten(1).any(1, keepdim=True)
        return torch.relu(super().forward(inputs) + 1) * lit


@pytest.mark.parametrize("vectorised", [False, True])
@pytest.mark.parametrize("head", ["zeros", "prototypes"])
def test_a_product_without_any_feature_does_not_spoil_the_meta_gradient(head, vectorised):
    torch.manual_seed(0)
    method = MAML(DarkEncoder(), inner_lr=0.1, n_adaptation_steps=2, head=head, normalise=True, logit_scale=10.0)
    learner = method.learner(method.encoder, 3, vectorised=vectorised)
    loss = cross_entropy(method.adapt(learner, SUPPORT, LABELS, vectorised=vectorised)(QUERY), QUERY_LABELS)
    gradients = torch.autograd.grad(loss, list(method.encoder.parameters()), materialize_grads=True)
    assert all(g.isfinite().all() for g in gradients)
    assert sum(float(g.abs().sum()) for g in gradients) > 1e-3


@pytest.mark.parametrize("normalise, scale", [(False, 1.0), (True, 10.0)])
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_no_adaptation_steps_give_the_plain_training_gradient(encoder, norm, normalise, scale):
    """Prototype head: with zero steps MAML is a prototypical network, here written out."""
    settings = {"head": "prototypes", "norm": norm, "normalise": normalise, "logit_scale": scale}
    _, meta = meta_gradient(encoder, MAML(encoder, n_adaptation_steps=0, **settings))
    encoder.train(norm == "batch")
    support, query = encoder(SUPPORT), encoder(QUERY)
    if normalise:
        support, query = (features / features.norm(dim=1, keepdim=True) for features in (support, query))
    prototypes = torch.stack([support[c == LABELS].mean(0) for c in range(3)])
    loss = cross_entropy(-scale * torch.cdist(query, prototypes) ** 2, QUERY_LABELS)
    plain = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(encoder.parameters()))])
    torch.testing.assert_close(meta, plain, rtol=1e-9, atol=1e-12)
    assert meta.norm() > 1e-3


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("head", ["zeros", "prototypes"])
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_both_engines_give_the_same_meta_gradients(encoder, norm, head, first_order):
    pytest.importorskip("learn2learn", reason="learn2learn is not installed (make learn2learn)")
    method = MAML(encoder, inner_lr=0.4, n_adaptation_steps=3, norm=norm, head=head, first_order=first_order)
    loss, ours = meta_gradient(encoder, method)
    peer_loss, peers = meta_gradient(encoder, replace(method, engine="learn2learn"))
    assert loss == pytest.approx(peer_loss, abs=1e-12)
    assert ours.norm() > 1e-3
    assert float((ours - peers).abs().max()) < 1e-9


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("head", ["zeros", "prototypes"])
def test_vmap_over_episodes_gives_the_same_logits_and_meta_gradients(encoder, head, first_order):
    method = MAML(encoder, inner_lr=0.4, n_adaptation_steps=3, head=head, first_order=first_order)
    learner, pool = method.learner(encoder, 3), products(30, 4)
    support, query = torch.arange(12).view(2, 6), torch.arange(12, 30).view(2, 9)
    one_by_one = torch.stack(
        [method.adapt(learner, pool[s], LABELS)(pool[q]) for s, q in zip(support, query, strict=True)]
    )
    at_once = method.query_logits(learner, pool[support], LABELS.expand(2, -1), pool[query])
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-9, atol=1e-12)
    weights = list(encoder.parameters())
    gradients = [torch.autograd.grad(logits.square().sum(), weights) for logits in (at_once, one_by_one)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


class ConvEncoder(nn.Module):
    """Convolutions with batch normalisation in float64, one with a bias and a stride."""

    feature_dim = 5

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.blocks = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.Tanh(),
            nn.Sequential(nn.Conv2d(4, 5, 3, stride=2), nn.BatchNorm2d(5)), nn.Tanh(),
        )  # fmt: skip
        for m in self.double().modules():
            if isinstance(m, nn.BatchNorm2d):
                for t in (m.running_mean, m.running_var, m.weight, m.bias):
                    nn.init.uniform_(t, 0.5, 2.0)

    def forward(self, inputs: ProductInputs) -> Tensor:
        return self.blocks(inputs.images.permute(0, 3, 1, 2).double() / 128 - 1).mean((2, 3))


def test_folded_batch_normalisation_has_the_same_values_and_derivatives():
    encoder, inputs = ConvEncoder(), products(4, 5, (6, 6))
    learner = MAML(encoder).learner(encoder, 3)
    assert sum(isinstance(m, FoldedNorm) for m in learner.encoder.modules()) == 2
    assert {id(p) for p in learner.encoder.parameters()} == {id(p) for p in encoder.parameters()}
    weights, measured = list(encoder.parameters()), []
    for features in (learner.features(inputs), encoder.eval()(inputs)):
        first = torch.autograd.grad(features.square().sum(), weights, create_graph=True)
        second = torch.autograd.grad(sum(g.square().sum() for g in first), weights)
        measured.append([features, *first, *second])
    torch.testing.assert_close(*measured, rtol=1e-9, atol=1e-12)


def test_a_row_shared_by_all_classes_changes_nothing(encoder):
    """Softmax cancels it, which is why no initial head is meta-learned (see the docstring of MAML)."""
    method = MAML(encoder, inner_lr=0.4, logit_scale=4.0)
    learner = method.learner(encoder, 3)
    from_zeros = method.adapt(learner, SUPPORT, LABELS)(QUERY).softmax(1)
    with torch.no_grad():
        learner.head.weight += torch.randn(6, dtype=torch.float64)
    from_shared_row = method.adapt(learner, SUPPORT, LABELS)(QUERY).softmax(1)
    torch.testing.assert_close(from_zeros, from_shared_row, rtol=0, atol=1e-12)
    assert (from_zeros.max(1).values > 0.4).any()


def episodes_over(
    n_way: int, n_shot: int, n_query: int, n_episodes: int = 2, side: int = 16
) -> tuple[ProductInputs, EpisodeBatch]:
    """Products of a class are one random pattern with noise; episodes relabel the classes at random."""
    generator = torch.Generator().manual_seed(n_way)
    patterns = torch.randint(40, 216, (n_way, side, side, 3), generator=generator)
    each = n_shot + n_query
    noise = torch.randint(-20, 21, (n_way * each, side, side, 3), generator=generator)
    images = (patterns.repeat_interleave(each, 0) + noise).clamp(0, 255).to(torch.uint8)
    rows = torch.arange(n_way * each).view(n_way, each)
    orders = [torch.randperm(n_way, generator=generator) for _ in range(n_episodes)]
    labels = torch.arange(n_way)
    return ProductInputs(images), EpisodeBatch(
        torch.stack([rows[o, :n_shot].flatten() for o in orders]),
        labels.repeat_interleave(n_shot).expand(n_episodes, -1),
        torch.stack([rows[o, n_shot:].flatten() for o in orders]),
        labels.repeat_interleave(n_query).expand(n_episodes, -1),
        n_way,
    )


def conv4(norm: str = "batch") -> nn.Module:
    torch.manual_seed(0)
    return build_encoder({"image": {"name": "conv4", "width": 16, "norm": norm}})


def accuracy(logits: Tensor, episodes: EpisodeBatch) -> float:
    return float((logits.argmax(2) == episodes.query_labels).float().mean())


class WideEncoder(nn.Module):
    """One random layer: what is learnt about the classes is learnt in the episode."""

    feature_dim = 24

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(12, 24)

    def forward(self, inputs: ProductInputs) -> Tensor:
        return torch.tanh(self.layer(inputs.images.flatten(1).float() / 64 - 2))


@pytest.mark.parametrize("n_way, n_shot", [(5, 1), (5, 20), (24, 2)])
def test_adapts_to_any_number_of_ways_and_shots_and_learns(n_way, n_shot):
    """Chance is 1/n_way, and exactly what is left without the update (inner_lr 0; all logits are 0 then)."""
    pool, episodes = episodes_over(n_way, n_shot, 3, side=2)
    method = MAML(WideEncoder(), inner_lr=0.05, n_adaptation_steps=20, logit_scale=5.0)
    logits = method(pool, episodes)
    assert logits.shape == (2, 3 * n_way, n_way)
    assert accuracy(logits, episodes) > 0.9
    assert accuracy(replace(method, inner_lr=0.0)(pool, episodes), episodes) == pytest.approx(1 / n_way)


@pytest.mark.parametrize("name", ["maml", "maml_first_order"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_predicting_twice_gives_the_same_and_leaves_the_encoder_alone(name, mode):
    pool, episodes = episodes_over(3, 2, 2)
    encoder = conv4().train()
    encoder.requires_grad_(False)
    before = copy.deepcopy(encoder.state_dict())
    method = METHODS[name](encoder, inner_lr=0.5)
    random_state = torch.get_rng_state()
    with mode():
        first, second = method(pool, episodes), method(pool, episodes)
    assert torch.equal(first, second) and not first.requires_grad
    assert torch.equal(random_state, torch.get_rng_state())
    assert encoder.training and all(p.grad is None and not p.requires_grad for p in encoder.parameters())
    assert all(torch.equal(before[k], v) for k, v in encoder.state_dict().items())
    assert method.needs == "inputs" and not method.transductive


def test_both_orders_predict_alike_from_the_same_encoder():
    pool, episodes = episodes_over(3, 2, 2)
    encoder = conv4()
    assert torch.equal(MAML(encoder)(pool, episodes), FirstOrderMAML(encoder)(pool, episodes))


@pytest.mark.parametrize("norm, transductive", [("frozen", False), ("batch", True)])
def test_queries_influence_each_other_only_where_the_method_says_so(norm, transductive):
    pool, episodes = episodes_over(3, 2, 4)
    method = MAML(conv4(), norm=norm, inner_lr=0.5)
    together = method(pool, episodes)
    few = replace(episodes, query=episodes.query[:, ::3], query_labels=episodes.query_labels[:, ::3])
    assert method.transductive == transductive
    assert torch.allclose(method(pool, few), together[:, ::3], atol=1e-5) != transductive


def test_padding_changes_nothing():
    pool, episodes = episodes_over(3, 2, 2)
    method = MAML(conv4(), inner_lr=0.5)
    padded = EpisodeBatch(
        *(torch.nn.functional.pad(t, (0, 2)) for t in (episodes.support, episodes.support_labels)),
        *(torch.nn.functional.pad(t, (0, 1)) for t in (episodes.query, episodes.query_labels)),
        3,
        support_mask=torch.nn.functional.pad(torch.ones(2, 6, dtype=torch.bool), (0, 2)),
        query_mask=torch.nn.functional.pad(torch.ones(2, 6, dtype=torch.bool), (0, 1)),
    )
    logits = method(pool, padded)
    torch.testing.assert_close(logits[:, :-1], method(pool, episodes))
    assert bool((logits[:, -1] == 0).all())


@pytest.mark.parametrize("norm", ["frozen", "batch", "support"])
def test_vectorised_evaluation_gives_the_same_logits(norm):
    pool, episodes = episodes_over(3, 2, 2)
    method = MAML(conv4(), inner_lr=0.5, norm=norm)
    torch.testing.assert_close(
        replace(method, vectorised=True)(pool, episodes), method(pool, episodes), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("norm", ["frozen", "batch", "support"])
def test_episodes_adapted_at_once_need_no_batch_normalisation_of_pytorch(norm, monkeypatch):
    """Its kernels on a GPU do not run under vmap."""

    def fail(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(nn.BatchNorm2d, "forward", fail)
    pool, episodes = episodes_over(3, 2, 2)
    method = MAML(conv4(), norm=norm)
    with pytest.raises(AssertionError):
        method.encoder(pool)
    assert replace(method, vectorised=True)(pool, episodes).isfinite().all()


@pytest.mark.gpu
@pytest.mark.parametrize("norm", ["frozen", "batch", "support"])
def test_a_gpu_gives_the_logits_of_the_cpu(norm):
    pool, episodes = episodes_over(3, 2, 2)
    method = MAML(conv4(), norm=norm)
    here = method(pool, episodes)
    there = replace(method, encoder=method.encoder.cuda())(pool, episodes)
    torch.testing.assert_close(there, here, rtol=1e-2, atol=1e-2)


def test_bfloat16_gives_nearly_the_meta_gradient_of_float32():
    pool, episodes = episodes_over(3, 4, 4, n_episodes=1, side=32)
    encoder = conv4("group")
    directions = []
    for precision in ("32-true", "bf16-mixed"):
        method = MAML(encoder, inner_lr=0.05, n_adaptation_steps=3, norm="group", precision=precision)
        adapted = method.adapt(method.learner(encoder, 3), pool[episodes.support[0]], episodes.support_labels[0])
        loss = cross_entropy(adapted(pool[episodes.query[0]]), episodes.query_labels[0])
        gradients = torch.autograd.grad(loss, list(encoder.parameters()))
        directions.append(torch.cat([g.flatten() for g in gradients]))
    assert torch.cosine_similarity(*directions, dim=0) > 0.95


@pytest.fixture
def image_and_title() -> tuple[nn.Module, ProductInputs, EpisodeBatch]:
    """An encoder of both modalities; the first product has no title and the last one no image."""
    pool, episodes = episodes_over(3, 2, 2)
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(1, 6, (len(pool),), generator=generator)
    lengths[0] = 0
    has_image = torch.ones(len(pool), dtype=torch.bool)
    has_image[-1] = False
    tokens = torch.randint(1, 20, (len(pool), 6), generator=generator)
    tokens[torch.arange(6) >= lengths[:, None]] = 0
    torch.manual_seed(0)
    config = {
        "image": {"name": "conv4", "width": 16},
        "title": {"vocab_size": 20, "embedding_dim": 8, "hidden_size": 8},
        "fusion": {"kind": "attention", "dim": 16},
    }
    return build_encoder(config), ProductInputs(pool.images, has_image, tokens, lengths), episodes


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("engine", ["torch.func", "learn2learn", "vmap"])
def test_titles_and_missing_modalities_go_through_the_inner_loop(image_and_title, engine, first_order):
    """Every parameter that has a say gets a meta-gradient, the same by recurrences packed and masked."""
    if engine == "learn2learn":
        pytest.importorskip("learn2learn", reason="learn2learn is not installed (make learn2learn)")
    encoder, pool, episodes = image_and_title
    method = MAML(encoder, inner_lr=0.1, n_adaptation_steps=2, first_order=first_order)

    def meta_gradients(method: MAML, vectorised: bool) -> list[Tensor]:
        learner = method.learner(encoder, 3, vectorised=vectorised)
        if vectorised:
            logits = method.query_logits(learner, pool[episodes.support], episodes.support_labels, pool[episodes.query])
        else:
            logits = torch.stack(
                [
                    method.adapt(learner, pool[e.support[0]], e.support_labels[0])(pool[e.query[0]])
                    for e in episodes.split(1)
                ]
            )
        loss = cross_entropy(logits.flatten(0, 1), episodes.query_labels.flatten())
        return torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True)

    expected = meta_gradients(method, False)
    zero = [name for (name, _), g in zip(encoder.named_parameters(), expected, strict=True) if not g.any()]
    assert not zero
    if engine == "vmap":
        measured = meta_gradients(method, True)
    else:
        measured = meta_gradients(replace(method, engine=engine), False)
    torch.testing.assert_close(measured, expected, rtol=1e-3, atol=1e-5)


def test_group_norm_is_asked_for_by_name():
    with pytest.raises(ValueError, match="norm='group' but the encoder has 4 batch-normalisation layers"):
        MAML(conv4(), norm="group").learner(conv4(), 5)


@pytest.mark.parametrize("field", ["engine", "norm", "head"])
def test_unknown_settings_are_refused_with_the_known_ones(field, encoder):
    with pytest.raises(ValueError, match=f"{field}='train' is unknown; choose one of "):
        MAML(encoder, **{field: "train"})


def test_the_learn2learn_engine_says_what_to_install(monkeypatch, encoder):
    for name in [n for n in sys.modules if n.split(".")[0] == "learn2learn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "learn2learn", None)  # importing it raises ImportError
    monkeypatch.delitem(sys.modules, "fewshot_prod.methods.maml_learn2learn", raising=False)
    with pytest.raises(ImportError, match="needs learn2learn, which is not installed: run `make learn2learn`"):
        MAML(encoder, engine="learn2learn")
