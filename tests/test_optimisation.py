"""MAML's relatives: each against its update written out, finite differences, and learn2learn where it has them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference import reptile_by_sgd, slope_along
from test_maml import LABELS, QUERY, QUERY_LABELS, SUPPORT, ConvEncoder, SmoothEncoder, conv4, episodes_over, products
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, linear

from fewshot_prod.checkpoints import load_checkpoint, save_checkpoint
from fewshot_prod.encoders.inner_rates import attach_inner_rates
from fewshot_prod.episodes import EpisodeBatch
from fewshot_prod.metatrain import metatrain
from fewshot_prod.methods.anil import ANIL
from fewshot_prod.methods.inner_loop import inner_loop
from fewshot_prod.methods.maml import MAML
from fewshot_prod.methods.meta_sgd import MetaSGD
from fewshot_prod.methods.proto_maml import ProtoMAML
from fewshot_prod.methods.reptile import Reptile


@pytest.fixture
def encoder() -> SmoothEncoder:
    """With inner rates around 0.4, all different and some negative."""
    torch.manual_seed(0)
    encoder = SmoothEncoder()
    attach_inner_rates(encoder, 0.4)
    with torch.no_grad():
        for rate in encoder.inner_rates.parameters():
            rate += 0.3 * torch.randn_like(rate)
    return encoder


def meta_gradients(encoder: nn.Module, method: MAML) -> tuple[Tensor, list[Tensor]]:
    """Query loss after adaptation, and its gradients in weights and rates."""
    loss = cross_entropy(method.adapt(method.learner(encoder, 3), SUPPORT, LABELS)(QUERY), QUERY_LABELS)
    return loss.detach(), list(torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True))


def build(name: str, encoder: nn.Module, **options) -> MAML:
    kind = {"anil": ANIL, "meta_sgd": MetaSGD, "proto_maml": ProtoMAML}[name]
    return kind(encoder, **{"inner_lr": 0.4, "n_adaptation_steps": 3} | options)


@pytest.mark.parametrize("name", ["anil", "meta_sgd", "proto_maml"])
@pytest.mark.parametrize("norm", ["frozen", "support"])
def test_second_order_agrees_with_finite_differences_and_first_order_does_not(encoder, name, norm):
    method = build(name, encoder, norm=norm)
    _, second = meta_gradients(encoder, method)
    _, first = meta_gradients(encoder, replace(method, first_order=True))
    torch.manual_seed(3)
    direction = [torch.randn_like(p) for p in encoder.parameters()]
    slope = slope_along(encoder, direction, lambda moved: meta_gradients(moved, method)[0])
    along = [float(sum((g * d).sum() for g, d in zip(gs, direction, strict=True))) for gs in (second, first)]
    assert along[0] == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert abs(along[1] - slope) > 1e-3 * abs(slope)


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_anil_agrees_with_learn2learn(encoder, norm, first_order):
    """Their recipe: MAML around the head, features from an encoder that the inner loop does not see."""
    learn2learn = pytest.importorskip("learn2learn", reason="learn2learn is not installed (make learn2learn)")
    method = build("anil", encoder, norm=norm, first_order=first_order, logit_scale=2.0)
    loss, ours = meta_gradients(encoder, method)
    learner = method.learner(encoder, 3)
    head = learn2learn.algorithms.MAML(learner.head, lr=0.4, first_order=first_order).clone()
    features = learner.features(SUPPORT)
    for _ in range(3):
        head.adapt(cross_entropy(2.0 * head(features), LABELS))
    peer_loss = cross_entropy(2.0 * head(learner.features(QUERY)), QUERY_LABELS)
    peers = torch.autograd.grad(peer_loss, list(encoder.parameters()), materialize_grads=True)
    assert float(loss) == pytest.approx(float(peer_loss), abs=1e-12)
    assert max(float((a - b).abs().max()) for a, b in zip(ours, peers, strict=True)) < 1e-9
    assert max(float(g.abs().max()) for g in ours) > 1e-3


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_meta_sgd_agrees_with_learn2learn(encoder, norm, first_order):
    """In weights and in rates; a rate that classes share has the sum of theirs."""
    learn2learn = pytest.importorskip("learn2learn", reason="learn2learn is not installed (make learn2learn)")
    method = build("meta_sgd", encoder, norm=norm, first_order=first_order)
    loss, ours = meta_gradients(encoder, method)
    learner, rates = method.learner(encoder, 3), encoder.inner_rates
    own = [*rates.encoder, rates.head_weight.expand(3, -1), rates.head_bias.expand(3)]
    lrs = nn.ParameterList([r.detach().clone() for r in own])
    clone = learn2learn.algorithms.MetaSGD(learner, lrs=lrs, first_order=first_order).clone()
    for _ in range(3):
        clone.adapt(cross_entropy(clone(SUPPORT), LABELS))
    peer_loss = cross_entropy(clone(QUERY), QUERY_LABELS)
    weights = [p for name, p in encoder.named_parameters() if "inner_rates" not in name]
    peers = list(torch.autograd.grad(peer_loss, [*weights, *lrs]))
    peers[-2:] = [peers[-2].sum(0, keepdim=True), peers[-1].sum(0, keepdim=True)]
    found = dict(zip((name for name, _ in encoder.named_parameters()), ours, strict=True))
    order = [name for name in found if "inner_rates" not in name]
    order += [f"inner_rates.encoder.{i}" for i in range(len(weights))]
    order += ["inner_rates.head_weight", "inner_rates.head_bias"]
    assert float(loss) == pytest.approx(float(peer_loss), abs=1e-12)
    assert max(float((found[n] - b).abs().max()) for n, b in zip(order, peers, strict=True)) < 1e-9
    # batch statistics cancel the bias in front of them, parameter 1
    silent = [name for name in order if "rates" in name and float(found[name].abs().max()) < 1e-9]
    assert silent == (["inner_rates.encoder.1"] if norm == "batch" else [])


def test_rates_of_a_quadratic_by_hand():
    """Support a/2 (t - s)^2: one step gives t' = t - r a (t - s); d/dr of b/2 (t' - q)^2 is -b (t' - q) a (t - s)."""
    a, s, b, q, start = 1.7, -0.4, 0.9, 2.0, 1.2
    t, r = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (start, -0.3))
    end = inner_loop(
        lambda p: a / 2 * (p["t"] - s) ** 2, {"t": t}, inner_lr={"t": r}, n_steps=1, first_order=False
    )["t"]  # fmt: skip
    gradients = torch.autograd.grad(b / 2 * (end - q) ** 2, [t, r])
    after = start + 0.3 * a * (start - s)
    assert float(end.detach()) == pytest.approx(after, abs=1e-12)
    expected = (b * (after - q) * (1 + 0.3 * a), -b * (after - q) * a * (start - s))
    assert [float(g) for g in gradients] == pytest.approx(expected, abs=1e-12)


def test_equal_rates_are_maml():
    encoder = ConvEncoder()
    attach_inner_rates(encoder, 0.2)
    pool, episodes = episodes_over(3, 2, 2, side=6)
    for norm in ("frozen", "batch"):
        settings = {"n_adaptation_steps": 2, "norm": norm}
        ours, maml = MetaSGD(encoder, **settings), MAML(encoder, inner_lr=0.2, **settings)
        torch.testing.assert_close(ours(pool, episodes), maml(pool, episodes))
        vectorised = replace(ours, vectorised=True)(pool, episodes)
        torch.testing.assert_close(vectorised, ours(pool, episodes), rtol=1e-4, atol=1e-5)


def test_rates_are_trained_and_saved_with_the_checkpoint(tmp_path):
    pool, episodes = episodes_over(6, 4, 4)
    ids = torch.arange(6).repeat_interleave(8).numpy()
    trained = metatrain(
        conv4("group"), pool, ids, torch.arange(48).numpy(), algorithm="meta_sgd", norm="group", n_way=3, n_shot=1,
        n_query=2, n_iterations=2, inner_lr=0.1, n_adaptation_steps=2, outer_lr=1e-2, report=lambda line: None,
    )  # fmt: skip
    rates = list(trained.encoder.inner_rates.encoder)
    assert all(not torch.equal(r, torch.full_like(r, 0.1)) for r in rates)
    assert torch.allclose(torch.cat([r.flatten() for r in rates]).mean(), torch.tensor(0.1), atol=0.02)
    save_checkpoint(tmp_path / "c", trained.encoder)
    restored, _ = load_checkpoint(tmp_path / "c")
    before, after = (MetaSGD(e, **trained.head)(pool, episodes) for e in (trained.encoder, restored))
    assert torch.equal(before, after)
    plain = MAML(restored, norm="group", inner_lr=0.1, n_adaptation_steps=2)(pool, episodes)
    assert not torch.allclose(plain, after, atol=1e-3)
    with pytest.raises(ValueError, match="has no inner_rates: meta-train it with algorithm='meta_sgd'"):
        MetaSGD(conv4())


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("head", ["zeros", "prototypes"])
def test_anil_by_vmap_gives_the_same_logits_and_meta_gradients(encoder, head, first_order):
    method = build("anil", encoder, head=head, first_order=first_order)
    learner, pool = method.learner(encoder, 3), products(30, 4)
    support, query = torch.arange(12).view(2, 6), torch.arange(12, 30).view(2, 9)
    one_by_one = torch.stack(
        [method.adapt(learner, pool[s], LABELS)(pool[q]) for s, q in zip(support, query, strict=True)]
    )
    at_once = method.query_logits(learner, pool[support], LABELS.expand(2, -1), pool[query])
    torch.testing.assert_close(at_once, one_by_one, rtol=1e-9, atol=1e-12)
    weights = [p for name, p in encoder.named_parameters() if "inner_rates" not in name]
    gradients = [torch.autograd.grad(logits.square().sum(), weights) for logits in (at_once, one_by_one)]
    torch.testing.assert_close(*gradients, rtol=1e-9, atol=1e-12)


def test_anil_leaves_the_encoder_as_it_is_and_maml_does_not(encoder):
    """Its logits are those of a head trained by torch's own optimiser on features computed once."""
    method = build("anil", encoder)
    learner = method.learner(encoder, 3)
    head = nn.Linear(6, 3).double()
    nn.init.zeros_(head.weight), nn.init.zeros_(head.bias)
    features = encoder.eval()(SUPPORT).detach()
    sgd = torch.optim.SGD(head.parameters(), lr=0.4)
    for _ in range(3):
        sgd.zero_grad()
        cross_entropy(head(features), LABELS).backward()
        sgd.step()
    expected = linear(encoder(QUERY), head.weight, head.bias)
    torch.testing.assert_close(method.adapt(learner, SUPPORT, LABELS)(QUERY), expected, rtol=1e-9, atol=1e-12)
    maml = MAML(encoder, inner_lr=0.4, n_adaptation_steps=3)
    assert not torch.allclose(maml.adapt(learner, SUPPORT, LABELS)(QUERY), expected, rtol=1e-3, atol=1e-5)


def test_one_step_from_a_head_of_zeros_makes_maml_anil(encoder):
    """The head gives the encoder no gradient then, in the inner loop; which is why the recipes take more steps."""
    maml, anil = (kind(encoder, inner_lr=0.4, n_adaptation_steps=1) for kind in (MAML, ANIL))
    torch.testing.assert_close(meta_gradients(encoder, maml), meta_gradients(encoder, anil), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_steps", [1, 3])
def test_reptile_s_outer_gradient_is_where_plain_sgd_leads(encoder, n_steps):
    reptile = Reptile(encoder, inner_lr=0.3, n_adaptation_steps=n_steps)
    pool, labels = products(10, 5), torch.arange(10) % 3
    found, loss = reptile.outer_gradient(reptile.learner(encoder, 3), pool, labels)
    expected, expected_loss = reptile_by_sgd(encoder, pool, labels, n_way=3, lr=0.3, n_steps=n_steps)
    assert float(loss) == pytest.approx(expected_loss, abs=1e-12)
    assert found.keys() == {f"encoder.{name}" for name in expected}
    for name, gradient in expected.items():
        torch.testing.assert_close(found[f"encoder.{name}"], gradient, rtol=1e-9, atol=1e-12)
    # the head starts at zeros: the first step cannot move the encoder, the later ones do
    assert any(g.abs().max() > 1e-3 for g in found.values()) == (n_steps > 1)


def test_proto_maml_is_maml_from_prototypes_and_nothing_else(encoder):
    ours, maml = build("proto_maml", encoder), MAML(encoder, inner_lr=0.4, n_adaptation_steps=3, head="prototypes")
    torch.testing.assert_close(meta_gradients(encoder, ours), meta_gradients(encoder, maml), rtol=0, atol=0)
    with pytest.raises(ValueError, match="head='zeros' is unknown; choose one of prototypes"):
        ProtoMAML(encoder, head="zeros")
    for kind in (ANIL, Reptile, MetaSGD):
        with pytest.raises(ValueError, match=r"engine='learn2learn' is unknown; choose one of torch\.func"):
            kind(encoder, engine="learn2learn")


# Statistics of the support --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["maml", "anil"])
def test_under_support_statistics_queries_do_not_influence_each_other(name):
    pool, episodes = episodes_over(3, 2, 4)
    method = {"maml": MAML, "anil": ANIL}[name](conv4(), norm="support", inner_lr=0.5)
    together = method(pool, episodes)
    few = replace(episodes, query=episodes.query[:, ::3], query_labels=episodes.query_labels[:, ::3])
    assert not method.transductive
    torch.testing.assert_close(method(pool, few), together[:, ::3], rtol=1e-4, atol=1e-5)
    running = replace(method, norm="frozen")(pool, episodes)
    assert not torch.allclose(running, together, atol=1e-2)


def test_support_statistics_are_batch_statistics_where_the_queries_are_the_support(encoder):
    pool, _ = episodes_over(3, 2, 4)
    rows, labels = torch.arange(6)[None], torch.tensor([[0, 0, 1, 1, 2, 2]])
    episodes = EpisodeBatch(rows, labels, rows, labels, 3)
    ours, batch = (MAML(conv4(), norm=norm, inner_lr=0.5)(pool, episodes) for norm in ("support", "batch"))
    torch.testing.assert_close(ours, batch, rtol=1e-3, atol=1e-4)
    vectorised = MAML(conv4(), norm="support", inner_lr=0.5, vectorised=True)(pool, episodes)
    torch.testing.assert_close(vectorised, ours, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("first_order", [True, False])
def test_both_engines_agree_under_support_statistics(encoder, first_order):
    pytest.importorskip("learn2learn", reason="learn2learn is not installed (make learn2learn)")
    method = MAML(encoder, inner_lr=0.4, n_adaptation_steps=3, norm="support", first_order=first_order)
    ours = meta_gradients(encoder, method)
    peers = meta_gradients(encoder, replace(method, engine="learn2learn"))
    torch.testing.assert_close(ours, peers, rtol=1e-9, atol=1e-12)
