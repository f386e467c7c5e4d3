"""What every entry of METHODS must do, and what each method must compute."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from reference import partial_distances_by_loops, squared_distances_by_loops, transformed_by_loops
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from fewshot_prod.encoders.heads import RelationModule, SetAttention
from fewshot_prod.encoders.inner_rates import attach_inner_rates
from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.episodic import query_loss
from fewshot_prod.evaluation import evaluate
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.am3 import AdaptiveMixing, fit_mixing


class TinyEncoder(nn.Module):
    """Products to features by a linear layer, batch normalisation, a GRU over the titles and dropout."""

    feature_dim = 8

    def __init__(self) -> None:
        super().__init__()
        self.image = nn.Linear(48, 8)
        self.norm = nn.BatchNorm1d(8)
        self.embedding = nn.Embedding(5, 4)
        self.gru = nn.GRU(4, 8, batch_first=True)
        self.dropout = nn.Dropout(0.5)

    def forward(self, inputs: ProductInputs) -> torch.Tensor:
        title = self.gru(self.embedding(inputs.tokens))[0].mean(1)
        return self.dropout(self.norm(self.image(inputs.images.flatten(1) / 64.0 - 2))) + 0.1 * title


def encoder() -> TinyEncoder:
    torch.manual_seed(0)
    tiny = TinyEncoder()
    tiny.norm.running_mean.uniform_(-0.5, 0.5)
    tiny.norm.running_var.uniform_(0.5, 2.0)
    return tiny.train()  # methods must not rely on the caller for eval mode


def encoder_with_rates() -> TinyEncoder:
    tiny = encoder()
    attach_inner_rates(tiny, 0.05)
    return tiny


# 4 classes of 12 products around colours that are far apart: sigma 20 of 255 in 48 values
CATEGORIES = np.repeat(np.arange(4), 12)
RNG = np.random.default_rng(0)
IMAGES = np.clip(RNG.uniform(0, 255, (4, 4, 4, 3))[CATEGORIES] + 20 * RNG.normal(size=(48, 4, 4, 3)), 0, 255)
INPUTS = ProductInputs(
    images=torch.from_numpy(IMAGES.astype(np.uint8)),
    tokens=torch.from_numpy(RNG.integers(1, 5, (48, 3))),
    lengths=torch.full((48,), 3),
)
with torch.no_grad():
    FEATURES = encoder().eval()(INPUTS)
CENTER = FEATURES.mean(0)


def clusters(n_way: int, n_shot: int, n_query: int, seed: int) -> tuple[torch.Tensor, EpisodeBatch]:
    """One episode of new classes, Gaussians of deviation 0.3 around means of deviation 1 in 8 dimensions."""
    g = torch.Generator().manual_seed(seed)
    labels = torch.arange(n_way).repeat_interleave(n_shot + n_query)
    pool = torch.randn(n_way, 8, generator=g)[labels] + 0.3 * torch.randn(len(labels), 8, generator=g)
    rows, labels = torch.arange(len(labels)).view(n_way, -1), labels.view(n_way, -1)
    parts = [t[:, part].reshape(1, -1) for part in (slice(n_shot), slice(n_shot, None)) for t in (rows, labels)]
    return pool, EpisodeBatch(*parts, n_way=n_way)


def relation_module() -> RelationModule:
    """Trained to compare: untrained, it has nothing to go by."""
    torch.manual_seed(0)
    module = RelationModule(8, hidden=64)
    adam = torch.optim.Adam(module.parameters(), lr=5e-3)
    for step in range(300):
        adam.zero_grad()
        query_loss(METHODS["relation"](module), *clusters(20, 1, 5, step)).backward()
        adam.step()
    return module


def set_attention() -> SetAttention:
    torch.manual_seed(0)
    return SetAttention(8)


CLASS_EMBEDDINGS = torch.eye(4)


def mixing() -> AdaptiveMixing:
    episodes = {"n_way": 3, "n_shot": 2, "n_query": 4, "n_iterations": 50}
    return fit_mixing(FEATURES, CATEGORIES, np.arange(48), CLASS_EMBEDDINGS, **episodes)


# How the suite builds each method: all of them, or the first test fails.
OPTIONS = {
    "nearest_centroid": {"center": CENTER},
    "partial_distance": {"center": CENTER, "blocks": ((5, 0.6), (3, 0.4))},
    "prototypical": {"logit_scale": 0.5},
    "matching": {},
    "meta_baseline": {},
    "relation": {"module": relation_module()},
    "feat": {"module": set_attention(), "logit_scale": 0.5, "normalise": True},
    "ridge": {},
    "am3": {"mixing": mixing(), "class_embeddings": CLASS_EMBEDDINGS},
    "maml": {"encoder": encoder(), "n_adaptation_steps": 3},
    "maml_first_order": {"encoder": encoder(), "n_adaptation_steps": 3},
    "proto_maml": {"encoder": encoder(), "n_adaptation_steps": 3},
    "anil": {"encoder": encoder(), "n_adaptation_steps": 3},
    "reptile": {"encoder": encoder(), "n_adaptation_steps": 3},
    "meta_sgd": {"encoder": encoder_with_rates(), "n_adaptation_steps": 3},
    "linear_probe": {"center": CENTER},
    "finetune_head": {"center": CENTER, "n_adaptation_steps": 30, "logit_scale": 10.0},
    "baseline_plus_plus": {"n_adaptation_steps": 30},
    "finetune_all": {"encoder": encoder(), "center": CENTER, "n_adaptation_steps": 3},
    "bd_cspn": {"center": CENTER, "n_confident": 3},
    "laplacian_shot": {"center": CENTER},
    # Soft logits: Adam makes full steps of vanishing gradients, whose rounding depends on the order of sums.
    "tim": {"center": CENTER, "n_adaptation_steps": 30, "lr": 0.001, "logit_scale": 5.0},
    "alpha_tim": {"center": CENTER, "n_adaptation_steps": 30, "lr": 0.001, "logit_scale": 5.0},
    "pt_map": {"n_steps": 5},
    "transductive_finetuning": {"center": CENTER, "n_adaptation_steps": 30},
}
CHANCE = 1 / 3

# What a method may be let off, and why. Nothing else is skipped.
EXEMPTIONS: dict[str, dict[str, str]] = {
    "order of support": {},
    "names of classes": {},
    "gradients": {
        name: "trains nothing: a head for an encoder that was trained before, solved by iterations without gradients"
        for name in ("bd_cspn", "laplacian_shot", "tim", "alpha_tim", "pt_map", "transductive_finetuning")
    },
    "episodes alone": {},
}


def kind(name: str):
    return METHODS[name](**OPTIONS[name])


def methods(*, without: str | None = None, needs: str | None = None, transductive: bool | None = None):
    """Parametrises a test over all methods, or those of one sort, less the ones exempt from the property."""
    names = [
        name
        for name in OPTIONS
        if name not in EXEMPTIONS.get(without, {})
        and needs in (None, kind(name).needs)
        and transductive in (None, kind(name).transductive)
    ]
    return pytest.mark.parametrize("name", names)


every_method = methods()


def build(name: str, **options):
    return METHODS[name](**OPTIONS[name], **options)


def pool_of(method):
    return FEATURES if method.needs == "features" else INPUTS


def draw(n: int, n_shot: int = 2, categories=CATEGORIES) -> EpisodeBatch:
    sampler = EpisodeSampler(categories, np.arange(48), n_way=3, n_shot=n_shot, n_query=4, seed=0)
    return sampler.sample(0, n)


def logits_of(name: str, episodes: EpisodeBatch) -> torch.Tensor:
    method = build(name)
    return method(pool_of(method), episodes).detach()


def test_the_suite_covers_all_25_methods():
    assert len(METHODS) == 25
    assert sorted(METHODS) == sorted(OPTIONS)
    assert {build(name).needs for name in METHODS} == {"features", "inputs"}


def test_every_exemption_is_of_a_method_and_has_a_reason():
    for reasons in EXEMPTIONS.values():
        assert set(reasons) <= set(METHODS)
        assert all(len(reason) > 10 for reason in reasons.values())


@every_method
def test_logits_are_finite_float32_of_the_right_shape(name):
    logits = logits_of(name, draw(3))
    assert logits.shape == (3, 12, 3)
    assert logits.dtype == torch.float32
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", [name for name in METHODS if METHODS[name].needs == "features"])
def test_features_in_double_precision_stay_in_it(name):
    if "module" in {f.name for f in fields(METHODS[name])}:
        pytest.skip("its trained module has a precision of its own")
    method, episodes = build(name), draw(3)
    logits = method(FEATURES.double(), episodes)
    assert logits.dtype == torch.float64
    assert torch.allclose(logits.float(), method(FEATURES, episodes), rtol=1e-3, atol=1e-3)


@every_method
def test_asking_twice_answers_twice_the_same(name):
    method, episodes = build(name), draw(2)
    first = method(pool_of(method), episodes)
    method(pool_of(method), draw(4)[2:])  # other episodes in between leave nothing behind
    assert torch.equal(method(pool_of(method), episodes), first)
    assert torch.equal(logits_of(name, episodes), first), "two equal methods differ"


@pytest.mark.parametrize("name", [name for name in OPTIONS if "encoder" in OPTIONS[name]])
def test_an_encoder_is_left_untouched(name):
    method = build(name)
    before = {k: v.clone() for k, v in method.encoder.state_dict().items()}
    method(INPUTS, draw(2))
    assert method.encoder.training
    assert all(torch.equal(v, before[k]) for k, v in method.encoder.state_dict().items())
    assert all(p.grad is None for p in method.encoder.parameters())


@methods(without="order of support")
def test_order_of_support_is_irrelevant(name):
    episodes = draw(3)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    mixed = replace(episodes, support=episodes.support[:, order], support_labels=episodes.support_labels[:, order])
    assert torch.allclose(logits_of(name, mixed), logits_of(name, episodes), atol=1e-4)


@methods(without="names of classes")
def test_renaming_the_classes_renames_the_logits(name):
    episodes, new = draw(3), torch.tensor([2, 0, 1])
    classes = episodes.classes[:, new.argsort()]
    labels = {name: new[getattr(episodes, name)] for name in ("support_labels", "query_labels")}
    renamed = replace(episodes, **labels, classes=classes)
    assert torch.allclose(logits_of(name, renamed)[..., new], logits_of(name, episodes), atol=1e-4)


@methods(without="episodes alone")
def test_an_episode_alone_is_scored_as_among_others(name):
    episodes = draw(3)
    assert torch.allclose(logits_of(name, episodes[1:2]), logits_of(name, episodes)[1:2], atol=1e-5)


def one_query(episodes: EpisodeBatch) -> EpisodeBatch:
    return replace(episodes, query=episodes.query[:, 5:6], query_labels=episodes.query_labels[:, 5:6])


@methods(transductive=False)
def test_inductive_methods_score_a_query_alone_as_among_others(name):
    episodes = draw(3)
    assert torch.allclose(logits_of(name, one_query(episodes)), logits_of(name, episodes)[:, 5:6], atol=1e-5)


def test_transductive_methods_are_those_that_look_at_other_queries():
    """A method that says so wrongly would stand in the tables' transductive rows, to which it does not belong."""
    episodes = draw(3)
    for name in [name for name in OPTIONS if kind(name).transductive]:
        apart = logits_of(name, episodes)[:, 5:6] - logits_of(name, one_query(episodes))
        assert apart.abs().max() > 1e-3, name


@every_method
def test_labels_with_gaps_are_refused(name):
    """Not scored with a class mean of nothing: the logits of label 1 would be NaN, and so would every accuracy."""
    episodes = draw(2)
    gap = torch.where(episodes.support_labels == 1, 2, episodes.support_labels)
    with pytest.raises(ValueError, match="episode 0 has no support for label 1 although n_way is 3"):
        build(name)(pool_of(build(name)), replace(episodes, support_labels=gap))


def shots_of(episodes: EpisodeBatch, per_class: tuple[int, ...]) -> EpisodeBatch:
    """The first so many support items of each class; the support of ``episodes`` is ordered by label."""
    shots = episodes.support.shape[1] // episodes.n_way
    places = [k * shots + i for k, n in enumerate(per_class) for i in range(n)]
    return replace(episodes, support=episodes.support[:, places], support_labels=episodes.support_labels[:, places])


@every_method
def test_shots_may_vary_by_class_and_by_episode(name):
    """Episodes of 4, 1 and 2 shots and of 1, 3 and 3, one batch: each is scored as it is alone, and well."""
    first, second = (shots_of(draw(24, 4), shots) for shots in ((4, 1, 2), (1, 3, 3)))
    both = [torch.cat([getattr(first, f)[:12], getattr(second, f)[12:]]) for f in ("support", "support_labels")]
    mixed = replace(first, support=both[0], support_labels=both[1])
    logits = logits_of(name, mixed)
    assert torch.allclose(logits[12:14], logits_of(name, second[12:14]), atol=1e-4)
    assert (logits.argmax(2) == mixed.query_labels).float().mean() > 0.85, f"chance is {CHANCE:.2f}"


@every_method
def test_one_method_serves_any_number_of_ways(name):
    method = build(name)
    for n_way in (2, 4):
        sampler = EpisodeSampler(CATEGORIES, np.arange(48), n_way=n_way, n_shot=1, n_query=4, seed=0)
        logits = method(pool_of(method), sampler.sample(0, 2))
        assert logits.shape == (2, 4 * n_way, n_way) and torch.isfinite(logits).all()


class LargestResult(TorchDispatchMode):
    """The bytes of the largest tensor that any operation returns."""

    bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **kwargs or {})
        if isinstance(result, torch.Tensor):
            self.bytes = max(self.bytes, result.numel() * result.element_size())
        return result


@methods(needs="features")
def test_a_small_episode_takes_little_memory(name):
    """Kernels work in blocks of megabytes, on a GPU of up to a gigabyte, that hold many episodes."""
    method, episodes = build(name), draw(1)
    with LargestResult() as largest:
        method(FEATURES, episodes)
    assert 0 < largest.bytes < 2**16


@pytest.mark.gpu
@methods(needs="features")
def test_logits_stay_on_the_device_of_the_features(name):
    method = build(name)
    there = method(FEATURES.cuda(), draw(3).to("cuda"))
    assert there.device.type == "cuda"
    assert torch.allclose(there.cpu(), logits_of(name, draw(3)), atol=1e-3)


@every_method
def test_padding_changes_nothing(name):
    """Two support items and two queries that are not there."""
    episodes = draw(2)
    padding = torch.zeros(2, 2, dtype=torch.int64)
    mask = torch.ones(2, 8, dtype=torch.bool), torch.ones(2, 14, dtype=torch.bool)
    mask[0][:, 6:], mask[1][:, 12:] = False, False
    support, support_labels, query, query_labels = (
        torch.cat([t, padding], 1)
        for t in (episodes.support, episodes.support_labels, episodes.query, episodes.query_labels)
    )
    padded = EpisodeBatch(support, support_labels, query, query_labels, 3, episodes.classes, *mask)
    assert torch.allclose(logits_of(name, padded)[:, :12], logits_of(name, episodes), atol=1e-5)


@every_method
@pytest.mark.parametrize("n_shot", [1, 5])
def test_separable_clusters_are_told_apart(name, n_shot):
    method, episodes = build(name), draw(20, n_shot)
    accuracy = evaluate(method, pool_of(method), Drawn(episodes), 20).accuracy.mean()
    assert accuracy > 0.9, f"chance is {CHANCE:.2f}"


@every_method
def test_random_categories_give_chance(name):
    """60 episodes, 720 queries: one standard deviation of chance is 0.018; 0.08 allows for their dependence."""
    method, shuffled = build(name), np.random.default_rng(1).permutation(CATEGORIES)
    accuracy = evaluate(method, pool_of(method), Drawn(draw(60, categories=shuffled)), 60).accuracy.mean()
    assert accuracy == pytest.approx(CHANCE, abs=0.08)


class Drawn:
    def __init__(self, episodes: EpisodeBatch) -> None:
        self.episodes = episodes

    def sample(self, start: int, stop: int) -> EpisodeBatch:
        return self.episodes[start:stop]


@methods(without="gradients", needs="features")
def test_gradients_reach_the_encoder_and_every_trained_parameter(name):
    """Trained parameters are the encoder's behind the features, and those of modules among the method's fields."""
    model, method, episodes = encoder(), build(name), draw(2)
    trained = dict(model.named_parameters())
    for field in fields(method):
        if isinstance(module := getattr(method, field.name), nn.Module):
            module.zero_grad()
            trained |= {f"{field.name}.{key}": p for key, p in module.named_parameters()}
    query_loss(method, model(INPUTS), episodes).backward()
    for key, p in trained.items():
        assert p.grad is not None and p.grad.abs().sum() > 0, key


def test_gradients_of_fine_tuning_reach_every_parameter():
    """MAML's have their own tests, of their values."""
    method = build("finetune_all")
    support, labels = torch.arange(0, 48, 6), torch.arange(8) // 2
    before = replace(method, n_adaptation_steps=0).adapt(INPUTS[support], labels, 4)
    after = method.adapt(INPUTS[support], labels, 4)
    for (key, a), b in zip(after.named_parameters(), before.parameters(), strict=True):
        rows = slice(1, None) if "embedding" in key else slice(None)  # token 0 is padding
        assert not torch.equal(a[rows], b[rows]), key
    losses = [F.cross_entropy(c(INPUTS[support]), labels).item() for c in (before, after)]
    assert losses[1] < losses[0]


# Each method against something slow ---------------------------------------------------------------------------------


def uneven() -> EpisodeBatch:
    """3-way, with 3, 1 and 2 shots."""
    episodes = draw(4)
    labels = torch.tensor([0, 2, 0, 1, 2, 0]).expand(4, -1)
    return replace(episodes, support_labels=labels)


def distances(episodes: EpisodeBatch, pool: list[list[float]]) -> torch.Tensor:
    parts = zip(episodes.support.tolist(), episodes.support_labels.tolist(), episodes.query.tolist(), strict=True)
    return torch.tensor(
        [
            squared_distances_by_loops([pool[i] for i in support], labels, [pool[i] for i in query], episodes.n_way)
            for support, labels, query in parts
        ]
    )


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_nearest_centroid_is_the_definition(transform):
    pool = [transformed_by_loops(x, transform, CENTER.tolist()) for x in FEATURES.tolist()]
    logits = METHODS["nearest_centroid"](transform, CENTER)(FEATURES, uneven())
    assert torch.allclose(logits, -distances(uneven(), pool), atol=1e-4)


@pytest.mark.parametrize("transform", ["UN", "L2N", "CL2N"])
def test_partial_distance_is_the_definition(transform):
    blocks, pool, episodes = ((5, 0.6), (3, 0.2)), FEATURES.clone(), uneven()
    pool[::3, :5] = 0.0
    pool[1::6, 5:] = 0.0
    method = METHODS["partial_distance"](transform, CENTER, blocks)
    parts = zip(episodes.support.tolist(), episodes.support_labels.tolist(), episodes.query.tolist(), strict=True)
    rows = pool.tolist()
    expected = [
        partial_distances_by_loops(
            [rows[i] for i in support], labels, [rows[i] for i in query], 3, blocks, transform, CENTER.tolist()
        )
        for support, labels, query in parts
    ]
    assert torch.allclose(method(pool, episodes), -torch.tensor(expected), atol=1e-4)


def test_partial_distance_with_nothing_missing_is_nearest_centroid():
    method = METHODS["partial_distance"]("CL2N", CENTER, ((5, 3.0), (3, 1.0)))
    assert torch.allclose(method(FEATURES, uneven()), build("nearest_centroid")(FEATURES, uneven()), atol=1e-5)


def test_partial_distance_refuses_blocks_that_do_not_fit():
    with pytest.raises(ValueError, match="widths add up to 7, and features have 8"):
        METHODS["partial_distance"]("L2N", blocks=((4, 1.0), (3, 1.0)))(FEATURES, uneven())
    with pytest.raises(ValueError, match="shares must be above 0"):
        METHODS["partial_distance"]("L2N", blocks=((5, 1.0), (3, 0.0)))


def test_prototypical_is_the_definition():
    expected = -0.5 * distances(uneven(), FEATURES.tolist())
    assert torch.allclose(build("prototypical")(FEATURES, uneven()), expected, atol=1e-4)
    normalised = [transformed_by_loops(x, "L2N", None) for x in FEATURES.tolist()]
    logits = METHODS["prototypical"](normalise=True)(FEATURES, uneven())
    assert torch.allclose(logits, -distances(uneven(), normalised), atol=1e-5)


@pytest.mark.parametrize("l2", [0.1, 1.0])
def test_linear_probe_is_logistic_regression(l2):
    episodes = uneven()
    probabilities = build("linear_probe", l2=l2)(FEATURES, episodes).softmax(2)
    x = F.normalize(FEATURES - CENTER).numpy()
    for e in range(4):
        peer = LogisticRegression(C=1 / l2, tol=1e-8, max_iter=2000)
        peer.fit(x[episodes.support[e]], episodes.support_labels[e])
        assert peer.predict_proba(x[episodes.query[e]]) == pytest.approx(probabilities[e].numpy(), abs=1e-3)


def test_linear_probe_is_logistic_regression_on_hundreds_of_products_too():
    generator = torch.Generator().manual_seed(0)
    labels = torch.cat([torch.arange(20).repeat_interleave(20), torch.arange(20, 30).repeat_interleave(5)])
    means = torch.randn(30, 64, generator=generator)
    pool = torch.relu(means[labels] + 1.5 * torch.randn(len(labels), 64, generator=generator))
    rows = torch.arange(len(labels))[None]
    episode = EpisodeBatch(support=rows, support_labels=labels[None], query=rows, query_labels=labels[None], n_way=30)
    probabilities = METHODS["linear_probe"](center=pool.mean(0))(pool, episode)[0].softmax(1)
    peer = LogisticRegression(C=10, tol=1e-8, max_iter=5000).fit(F.normalize(pool - pool.mean(0)).numpy(), labels)
    expected = peer.predict_proba(F.normalize(pool - pool.mean(0)).numpy())
    assert expected == pytest.approx(probabilities.numpy(), abs=1e-3)


def test_finetune_head_is_sgd_on_a_linear_layer():
    episodes, method = uneven(), build("finetune_head", lr=0.02)
    x = F.normalize(FEATURES - CENTER)
    logits = method(FEATURES, episodes)
    for e in range(4):
        support, labels = x[episodes.support[e]], episodes.support_labels[e]
        means = torch.stack([support[labels == k].mean(0) for k in range(3)])
        head = nn.Linear(8, 3)
        head.weight.data, head.bias.data = means, -0.5 * means.square().sum(1)
        sgd = torch.optim.SGD(head.parameters(), lr=0.02, momentum=0.9, weight_decay=0.001)
        for _ in range(30):
            sgd.zero_grad()
            F.cross_entropy(10 * head(support), labels).backward()
            sgd.step()
        assert torch.allclose(10 * head(x[episodes.query[e]]), logits[e], atol=1e-4)


def test_fine_tuning_by_no_steps_is_nearest_centroid():
    start = METHODS["finetune_head"](n_adaptation_steps=0, logit_scale=10.0, center=CENTER)(FEATURES, uneven())
    nearest = build("nearest_centroid")(FEATURES, uneven())
    assert torch.allclose(start.softmax(2), (5 * nearest).softmax(2), atol=1e-5)  # logit_scale 10, halved squares
    cosines = METHODS["finetune_all"](encoder=encoder(), n_adaptation_steps=0, transform="L2N")(INPUTS, draw(4, 1))
    nearest = METHODS["nearest_centroid"]("L2N")(FEATURES, draw(4, 1))  # one shot: the class means have norm 1
    assert torch.allclose(cosines.softmax(2), (5 * nearest).softmax(2), atol=1e-4)


def test_logits_of_fine_tuning_are_cosines_of_features_of_any_length():
    episodes = draw(4, 1)
    logits = METHODS["finetune_all"](encoder=encoder(), n_adaptation_steps=0, transform="UN")(INPUTS, episodes)
    one_a_class = episodes.support.gather(1, episodes.support_labels.argsort(1))
    cosines = F.cosine_similarity(FEATURES[episodes.query][:, :, None], FEATURES[one_a_class][:, None], dim=3)
    assert torch.allclose(logits, 10 * cosines, atol=1e-4)


def test_batches_flips_and_bf16_of_fine_tuning():
    episodes = draw(2, 5)
    plain = build("finetune_all")(INPUTS, episodes)
    for options, atol in (
        ({"batch_size": 4}, 1.0),
        ({"augmentation": "flip"}, 1.0),
        ({"seed": 1, "batch_size": 4}, 1.0),
        ({"precision": "bf16-mixed"}, 0.2),
    ):
        method = build("finetune_all", **options)
        logits = method(INPUTS, episodes)
        assert not torch.equal(logits, plain), options
        assert torch.allclose(logits, plain, atol=atol), options  # logits span -10 to 10
        mixed = replace(episodes, support=episodes.support.flip(1), support_labels=episodes.support_labels.flip(1))
        assert torch.equal(method(INPUTS, mixed), logits), options


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("number", [-1, float("nan"), float("inf")])
def test_no_option_of_a_method_is_below_zero_or_not_a_finite_number(name, number):
    method = build(name)
    numbers = [n for n, value in vars(method).items() if type(value) in (int, float)]
    for option in numbers:
        with pytest.raises(ValueError, match=f"{option} is {number}: "):
            replace(method, **{option: number})
    assert numbers or name in ("nearest_centroid", "partial_distance", "relation")


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_counts_is_whole(name):
    method = build(name)
    for option in (n for n in vars(method) if n.startswith("n_") or n in ("batch_size", "seed")):
        assert getattr(replace(method, **{option: np.int64(2)}), option) == 2
        with pytest.raises(ValueError, match=rf"{option} is 1\.5: it must be (0 or above|above 0) and whole"):
            replace(method, **{option: 1.5})


def test_a_missing_center_and_other_mistakes_are_told():
    for name in ("nearest_centroid", "linear_probe", "finetune_head"):
        with pytest.raises(ValueError, match="CL2N needs center, the mean feature of the base classes"):
            METHODS[name]()
    with pytest.raises(ValueError, match="transform is 'L3N': give 'CL2N', 'L2N' or 'UN'"):
        METHODS["nearest_centroid"]("L3N")
    with pytest.raises(ValueError, match="logit_scale is 0: it must be above 0"):
        METHODS["prototypical"](logit_scale=0)
    with pytest.raises(ValueError, match="l2 is 0: it must be above 0"):
        build("linear_probe", l2=0)
    with pytest.raises(ValueError, match="augmentation is 'crop': give 'none' or 'flip'"):
        build("finetune_all", augmentation="crop")
