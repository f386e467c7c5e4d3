"""Second derivatives through recurrences, attention and fusions; and adapting one part of an encoder alone."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import slope_along
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchvision.models.convnext import LayerNorm2d

from fewshot_prod.cells import describe
from fewshot_prod.cli import evaluate_checkpoint
from fewshot_prod.encoders.fusion import FUSIONS
from fewshot_prod.encoders.product import ProductEncoder
from fewshot_prod.episodes import EpisodeSampler
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.metatrain import metatrain
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.finetune_all import FinetuneAll
from fewshot_prod.methods.maml import MAML, FirstOrderMAML
from fewshot_prod.methods.parts import PARTS
from fewshot_prod.prepare import Prepared
from fewshot_prod.rows import Row
from fewshot_prod.settings import Setting

TITLES = {
    "gru": {"embedding_dim": 6, "hidden_size": 4, "cell": "gru"},
    "lstm": {"embedding_dim": 6, "hidden_size": 4, "cell": "lstm"},
    "bag": {"kind": "bag", "embedding_dim": 6},
    "cnn": {"kind": "cnn", "embedding_dim": 6, "channels": 3},
    "transformer": {"kind": "transformer", "dim": 8, "n_heads": 2},
}


class Exact(ProductEncoder):
    """A product encoder whose features are not rounded to float32."""

    def forward(self, inputs: ProductInputs) -> Tensor:
        return self.fusion(*self._read(inputs, self.fusion.reads_elements))


def build(title: str = "gru", fusion: str = "attention", kind: type[ProductEncoder] = ProductEncoder) -> ProductEncoder:
    torch.manual_seed(0)
    encoder = kind(
        {
            "image": {"name": "conv4", "width": 8},
            "title": {"vocab_size": 20, **TITLES[title]},
            "fusion": {"kind": fusion, "dim": 10},
        }
    )
    for m in encoder.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean, std=0.1)
            nn.init.uniform_(m.running_var, 0.5, 2.0)
    if kind is Exact:  # finite differences need gradients without jumps
        for path, m in list(encoder.image.named_modules()):
            if isinstance(m, (nn.ReLU, nn.MaxPool2d)):
                encoder.image.set_submodule(path, nn.Tanh() if isinstance(m, nn.ReLU) else nn.AvgPool2d(2))
        encoder.double()
    return encoder


def products(n: int, seed: int) -> ProductInputs:
    """Products of which the first has no title and the last no image."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, 6, (n,), generator=generator)
    lengths[0] = 0
    return ProductInputs(
        images=torch.randint(256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator),
        has_image=torch.arange(n) < n - 1,
        tokens=torch.randint(1, 20, (n, 5), generator=generator),
        lengths=lengths,
    )


SUPPORT, LABELS = products(6, 1), torch.tensor([0, 0, 1, 1, 2, 2])
QUERY, QUERY_LABELS = products(6, 2), torch.arange(3).repeat(2)


def meta_gradient(encoder: nn.Module, method: MAML, recurrence: str = "packed") -> tuple[float, list[Tensor]]:
    """Query loss after adaptation, and its gradient in each of the encoder's parameters."""
    learner = method.learner(encoder, 3, vectorised=recurrence == "masked")
    device = next(encoder.parameters()).device
    support, labels, query, query_labels = (x.to(device) for x in (SUPPORT, LABELS, QUERY, QUERY_LABELS))
    loss = cross_entropy(method.adapt(learner, support, labels)(query), query_labels)
    return float(loss.detach()), list(torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True))


def at_once(method: MAML) -> list[Tensor]:
    """That gradient by vmap, of a batch of the one episode."""
    encoder = method.encoder
    device = next(encoder.parameters()).device
    episode = (x.to(device) for x in (each(SUPPORT), LABELS[None], each(QUERY)))
    logits = method.query_logits(method.learner(encoder, 3, vectorised=True), *episode)
    loss = cross_entropy(logits[0], QUERY_LABELS.to(device))
    return list(torch.autograd.grad(loss, list(encoder.parameters()), materialize_grads=True))


def slope(encoder: nn.Module, method: MAML, direction: list[Tensor]) -> float:
    """Central difference of the query loss along a direction of the encoder's weights."""
    first_order = replace(method, first_order=True)
    return slope_along(encoder, direction, lambda moved: meta_gradient(moved, first_order)[0], h=1e-6)


CASES = [(title, "attention") for title in TITLES] + [("gru", kind) for kind in FUSIONS if kind != "attention"]


@pytest.mark.parametrize(("title", "fusion"), CASES)
def test_second_order_through_titles_and_fusions_agrees_with_finite_differences(title, fusion):
    """In float64, with missing titles and images; first order, in the same direction, does not agree."""
    encoder = build(title, fusion, Exact)
    method = MAML(encoder, inner_lr=0.3, n_adaptation_steps=2, head="prototypes")
    _, second = meta_gradient(encoder, method)
    _, first = meta_gradient(encoder, replace(method, first_order=True))
    generator = torch.Generator().manual_seed(3)
    direction = [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in encoder.parameters()]
    expected = slope(encoder, method, direction)

    def along(gradients: list[Tensor]) -> float:
        return float(sum((g * d).sum() for g, d in zip(gradients, direction, strict=True)))

    assert along(second) == pytest.approx(expected, rel=1e-4, abs=1e-7)
    assert abs(along(first) - expected) > 1e-3 * abs(expected)
    silent = [n for (n, _), g in zip(encoder.named_parameters(), second, strict=True) if not g.any()]
    if fusion == "co_attention":  # pools the tokens by itself
        silent = [name for name in silent if not name.startswith("title.attention.")]
    assert not silent


@pytest.mark.parametrize("first_order", [True, False])
@pytest.mark.parametrize("title", ["gru", "lstm"])
def test_masked_recurrence_gives_the_meta_gradient_of_the_packed_one(title, first_order):
    encoder = build(title, kind=Exact)
    method = MAML(encoder, inner_lr=0.3, n_adaptation_steps=2, first_order=first_order)
    (loss, packed), (masked_loss, masked) = (meta_gradient(encoder, method, r) for r in ("packed", "masked"))
    assert loss == pytest.approx(masked_loss, abs=1e-12)
    torch.testing.assert_close(masked, packed, rtol=1e-8, atol=1e-11)
    assert sum(g.norm() for g in packed) > 1e-2


@pytest.mark.parametrize(("title", "fusion"), CASES)
def test_episodes_adapted_at_once_give_the_second_order_meta_gradient_of_one(title, fusion):
    """PyTorch's layer normalisation does not under vmap; a first-order meta-gradient would not show it."""
    encoder = build(title, fusion, Exact)
    method = MAML(encoder, inner_lr=0.3, n_adaptation_steps=2, head="prototypes")
    torch.testing.assert_close(at_once(method), meta_gradient(encoder, method)[1], rtol=1e-8, atol=1e-10)


def test_a_layer_normalisation_of_another_kind_is_adapted_through_one_episode_after_the_other():
    convnext = nn.Sequential(LayerNorm2d(4), nn.Linear(4, 2))
    cpu = torch.device("cpu")
    assert not MAML(convnext, vectorised=True).vectorises(cpu)
    assert MAML(nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 2)), vectorised=True).vectorises(cpu)


@pytest.mark.gpu
@pytest.mark.parametrize(("title", "fusion"), CASES)
def test_a_gpu_gives_the_second_order_meta_gradient_of_the_cpu(title, fusion):
    """Also where cuDNN's recurrences have no second derivatives."""
    encoder = build(title, fusion, Exact)
    method = MAML(encoder, inner_lr=0.3, n_adaptation_steps=2, head="prototypes")
    here = meta_gradient(encoder, method)[1]
    there = replace(method, encoder=copy.deepcopy(encoder).cuda())
    for found in (meta_gradient(there.encoder, there)[1], at_once(there)):
        torch.testing.assert_close([g.cpu() for g in found], here, rtol=1e-6, atol=1e-9)


# --- one part alone ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", ["image", "title", "fusion", "head", "title+head"])
@pytest.mark.parametrize("vectorised", [False, True])
def test_maml_moves_the_chosen_part_alone(parts, vectorised):
    """Logits equal those of gradient steps written out on that part; another part's choice gives others."""
    encoder = build(kind=Exact)
    method = MAML(encoder, inner_lr=0.3, n_adaptation_steps=2, head="prototypes", parts=parts)
    learner = method.learner(encoder, 3, vectorised=vectorised)
    model = copy.deepcopy(learner)
    for name, value in learner.initial_head(SUPPORT, LABELS).items():
        getattr(model.head, name).data = value.detach().clone()
    starts = tuple("head." if part == "head" else f"encoder.{part}." for part in parts.split("+"))
    chosen = [p for name, p in model.named_parameters() if name.startswith(starts)]
    for _ in range(2):
        gradients = torch.autograd.grad(cross_entropy(model(SUPPORT), LABELS), chosen, materialize_grads=True)
        with torch.no_grad():
            for p, g in zip(chosen, gradients, strict=True):
                p -= 0.3 * g
    adapted = method.adapt(learner, SUPPORT, LABELS, vectorised=vectorised)(QUERY)
    torch.testing.assert_close(adapted, model(QUERY), rtol=1e-9, atol=1e-11)
    everything = replace(method, parts=None)
    other = everything.adapt(everything.learner(encoder, 3), SUPPORT, LABELS)(QUERY)
    assert (adapted - other).abs().max() > 1e-4


def test_first_order_takes_the_gradients_as_constants_in_every_part():
    """By vmap the parts that stay must be cut off too: both engines give the same first-order meta-gradient."""
    encoder = build(kind=Exact)
    method = FirstOrderMAML(encoder, inner_lr=0.3, n_adaptation_steps=2, parts="title+head")
    one_by_one = meta_gradient(encoder, method)[1]
    torch.testing.assert_close(at_once(method), one_by_one, rtol=1e-8, atol=1e-11)
    second = meta_gradient(encoder, replace(method, first_order=False))[1]
    assert max(float((a - b).abs().max()) for a, b in zip(second, one_by_one, strict=True)) > 1e-4


def each(inputs: ProductInputs) -> ProductInputs:
    """With a leading dimension of one episode."""
    return ProductInputs(*(None if t is None else t[None] for t in inputs._fields()))


@pytest.mark.parametrize("parts", ["image", "title", "fusion", "head", "image+head", None])
def test_fine_tuning_trains_the_chosen_part_alone(parts):
    encoder = build()
    start = FinetuneAll(encoder, n_adaptation_steps=0, transform="L2N").adapt(SUPPORT, LABELS, 3)
    tuned = FinetuneAll(encoder, lr=0.01, transform="L2N", parts=parts).adapt(SUPPORT, LABELS, 3)
    pairs = zip(start.named_parameters(), tuned.parameters(), strict=True)
    moved = {name.removeprefix("encoder.").split(".")[0] for (name, a), b in pairs if not torch.equal(a, b)}
    names = {"head": "weight"}
    expected = "image+title+fusion+head" if parts is None else parts
    assert moved == {names.get(part, part) for part in expected.split("+")}


def striped() -> tuple[ProductInputs, np.ndarray]:
    """Four classes of products, each with its own colour and its own word."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(4), 8)
    images = np.clip(rng.integers(0, 256, (4, 1, 1, 3))[labels] + rng.normal(0, 20, (32, 16, 16, 3)), 0, 255)
    tokens = np.stack([labels + 1, rng.integers(5, 20, 32)], 1)
    lengths = torch.full((32,), 2)
    return ProductInputs(torch.from_numpy(images.astype(np.uint8)), None, torch.from_numpy(tokens), lengths), labels


@pytest.mark.parametrize("algorithm", ["maml", "maml_first_order", "meta_sgd"])
def test_meta_training_carries_the_choice_on(algorithm):
    inputs, labels = striped()
    options = {"n_way": 3, "n_shot": 1, "n_query": 2, "n_iterations": 2, "report": lambda line: None}
    trained = metatrain(
        build(), inputs, labels, np.arange(32), algorithm=algorithm, parts="title+head", inner_lr=0.1, **options
    )
    assert trained.head["parts"] == "title+head"
    method = METHODS[algorithm](trained.encoder, **trained.head)
    episodes = EpisodeSampler(labels, np.arange(32), n_way=3, n_shot=2, n_query=3, seed=0).sample(0, 2)
    assert method(inputs, episodes).isfinite().all()
    assert not torch.equal(method(inputs, episodes), replace(method, parts=None)(inputs, episodes))


@pytest.mark.parametrize("algorithm", ["maml", "meta_sgd", "anil", "reptile"])
def test_what_is_frozen_stays_and_the_others_are_meta_trained(algorithm):
    inputs, labels = striped()
    encoder, before = build(), build().state_dict()
    parts = "title+fusion+head" if METHODS[algorithm].partial else None
    options = {"n_way": 3, "n_shot": 1, "n_query": 2, "n_iterations": 1, "report": lambda line: None}
    options |= {"head": "prototypes", "parts": parts, "frozen": ("image",)}
    after = metatrain(encoder, inputs, labels, np.arange(32), algorithm=algorithm, **options).encoder.state_dict()
    moved = {name.split(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert moved >= {"title", "fusion"} and "image" not in moved


@pytest.mark.parametrize("described", [MAML, FinetuneAll, evaluate_checkpoint])
def test_every_part_that_can_be_adapted_is_described(described):
    (line,) = re.findall(r"^ +(?:parts|adapt): .*", described.__doc__, re.MULTILINE)
    assert all(part in line for part in PARTS)


@pytest.mark.parametrize("parts", [None, "title+head"])
def test_records_tell_what_was_adapted_and_old_ones_keep_their_keys(parts):
    """Without a choice, a method's record is what it was before there was one: no new hyperparameter."""
    encoder = build()
    facts = dict.fromkeys(["masked_classes", "pretrained_on", "images_seen", "training"]) | {"stage": "pretrain"}
    named = SimpleNamespace(name="some", fingerprint="0")
    pool = SimpleNamespace(prepared=Prepared(encoder, facts), catalog=named, split=named, part="novel")
    for name in ("maml", "finetune_all"):
        options = {} if name == "maml" else {"transform": "L2N"}
        method = METHODS[name](encoder, parts=parts, **options)
        record = describe("table2", Row("row", "conv4_gru", name), Setting(5, 1), method, pool, 0, 10, 0)
        assert record["adapt"] == parts and "parts" not in record["config"]["method"]


def test_choices_that_cannot_work_are_refused():
    encoder = build()
    with pytest.raises(ValueError, match=r"no part to adapt 'sound'.* There are image, title"):
        method = MAML(encoder, parts="sound+head")
        method.adapt(method.learner(encoder, 3), SUPPORT, LABELS)
    with pytest.raises(ValueError, match="no part to adapt 'titel': did you mean 'title'"):
        MAML(encoder, parts="titel")
    with pytest.raises(ValueError, match="parts='title' would not move: a head of zeros passes no gradient on"):
        MAML(encoder, parts="title")
    with pytest.raises(ValueError, match="the engine learn2learn does not choose what it adapts"):
        MAML(encoder, parts="head", engine="learn2learn")
    for name in ("anil", "reptile"):
        with pytest.raises(ValueError, match="does not choose what it adapts: leave out parts='head'"):
            METHODS[name](encoder, parts="head")
    with pytest.raises(ValueError, match="no part to adapt 'sound'"):
        FinetuneAll(encoder, transform="L2N", parts="sound").adapt(SUPPORT, LABELS, 3)
