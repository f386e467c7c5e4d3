from __future__ import annotations

import math

import pytest
import torch
from reference import supervised_contrastive_by_loops, weighted_loss_by_loops
from torch.nn.functional import cross_entropy

from fewshot_prod.losses import class_balanced_weights, focal_loss, generalised_cross_entropy, supervised_contrastive

LOGITS = torch.randn(6, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3
TARGETS = torch.tensor([0, 3, 1, 1, 2, 0])
WEIGHT = torch.tensor([0.5, 2.0, 1.0, 0.25], dtype=torch.float64)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("gamma", [0.5, 2.0, 5.0])
def test_focal_loss_matches_the_formula(gamma, weight):
    expected = weighted_loss_by_loops(
        LOGITS.tolist(),
        TARGETS.tolist(),
        [1.0] * 4 if weight is None else weight.tolist(),
        lambda p: -((1 - p) ** gamma) * math.log(p),
    )
    assert focal_loss(LOGITS, TARGETS, gamma=gamma, weight=weight).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("weight", [None, WEIGHT])
@pytest.mark.parametrize("q", [0.3, 0.7, 1.0])
def test_generalised_cross_entropy_matches_the_formula(q, weight):
    expected = weighted_loss_by_loops(
        LOGITS.tolist(),
        TARGETS.tolist(),
        [1.0] * 4 if weight is None else weight.tolist(),
        lambda p: (1 - p**q) / q,
    )
    assert generalised_cross_entropy(LOGITS, TARGETS, q=q, weight=weight).item() == pytest.approx(expected, rel=1e-9)


def test_limits_are_cross_entropy():
    plain, weighted = cross_entropy(LOGITS, TARGETS), cross_entropy(LOGITS, TARGETS, weight=WEIGHT)
    torch.testing.assert_close(focal_loss(LOGITS, TARGETS, gamma=0.0), plain)
    torch.testing.assert_close(focal_loss(LOGITS, TARGETS, gamma=0.0, weight=WEIGHT), weighted)
    torch.testing.assert_close(generalised_cross_entropy(LOGITS, TARGETS, q=1e-7), plain, rtol=1e-5, atol=0)


def test_what_the_losses_are_for():
    """Focal: an easy example counts relatively less than under cross-entropy. Generalised: so does a hopeless one."""
    easy, hard = torch.tensor([[4.0, 0.0]]), torch.tensor([[-4.0, 0.0]])
    target = torch.tensor([0])
    assert focal_loss(easy, target) / focal_loss(hard, target) < 0.1 * cross_entropy(easy, target) / cross_entropy(
        hard, target
    )

    def pull(loss, logits):
        logits = logits.clone().requires_grad_()
        return torch.autograd.grad(loss(logits, target), logits)[0].abs().max().item()

    assert pull(cross_entropy, hard) > 0.9
    assert pull(generalised_cross_entropy, hard) < 0.1


@pytest.mark.parametrize(
    "loss",
    [
        focal_loss,
        generalised_cross_entropy,
        lambda x, y: focal_loss(x, y, gamma=0.5),
        lambda x, y: generalised_cross_entropy(x, y, q=0.01),
    ],
)
def test_certain_and_hopeless_examples_have_finite_gradients(loss):
    logits = torch.tensor([[200.0, 0.0], [-200.0, 0.0]], requires_grad=True)
    loss(logits, torch.tensor([0, 0])).backward()
    assert logits.grad.isfinite().all()


def test_class_balanced_weights():
    counts = torch.tensor([1, 10, 100, 5000])
    weights = class_balanced_weights(counts, beta=0.99)
    expected = torch.tensor([(1 - 0.99) / (1 - 0.99 ** int(n)) for n in counts], dtype=torch.float64)
    torch.testing.assert_close(weights, (expected * 4 / expected.sum()).float())
    assert weights.tolist() == sorted(weights.tolist(), reverse=True)
    assert class_balanced_weights(counts, beta=0.0).tolist() == [1.0] * 4
    towards_inverse = class_balanced_weights(counts, beta=1 - 1e-9)
    torch.testing.assert_close(towards_inverse[0] / towards_inverse[1], torch.tensor(10.0), rtol=1e-4, atol=0)


@pytest.mark.parametrize("seed", range(3))
def test_supervised_contrastive_matches_equation_2(seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(8, 5, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 0, 0, 1, 1, 2, 3, 3])  # class 2 has no positive
    expected = supervised_contrastive_by_loops(features.tolist(), labels.tolist(), temperature=0.2)
    assert supervised_contrastive(features, labels, temperature=0.2).item() == pytest.approx(expected, rel=1e-9)
    order = torch.randperm(8, generator=generator)
    assert supervised_contrastive(7 * features[order], labels[order], temperature=0.2).item() == pytest.approx(expected)


def test_supervised_contrastive_without_positives_is_zero_with_zero_gradient():
    features = torch.randn(3, 4, requires_grad=True)
    loss = supervised_contrastive(features, torch.tensor([0, 1, 2]))
    loss.backward()
    assert loss.item() == 0 and features.grad.abs().max() == 0


def test_supervised_contrastive_descent_gathers_classes():
    """At the start the lowest cosine within a class is -0.84, the highest between classes 0.82."""
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    labels = torch.arange(12) % 3
    optimizer = torch.optim.SGD([features], lr=3.0)
    for _ in range(60):
        optimizer.zero_grad()
        supervised_contrastive(features, labels, temperature=0.5).backward()
        optimizer.step()
    unit = torch.nn.functional.normalize(features.detach(), dim=1)
    same = labels[:, None] == labels[None]
    assert (unit @ unit.T)[same].min() > 0.9 > 0.0 > (unit @ unit.T)[~same].max()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: generalised_cross_entropy(LOGITS, TARGETS, q=0.0), r"q is 0.0; it must be in \(0, 1\]"),
        (lambda: class_balanced_weights(torch.tensor([3, 0])), "class 1 has no products, so no weight; leave it out"),
        (lambda: class_balanced_weights(torch.tensor([3]), beta=1.0), r"beta is 1.0; it must be in \[0, 1\)"),
    ],
)
def test_bad_settings_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
