"""Episodes: a pure function of seed and index, free of repeated groups, uniform, and loud when impossible."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from reference import repeated_group

from fewshot_prod.episode_draws import choose_distinct, dirichlet_counts
from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.errors import UsageError

# 8 classes of 20, 22, ... 34 products, in shuffled order, with ids that have gaps
RNG = np.random.default_rng(0)
CATEGORIES = RNG.permutation(np.repeat(10 * np.arange(8) + 3, 20 + 2 * np.arange(8)))
N = len(CATEGORIES)
UNIQUE = np.arange(N)
FIRST = UNIQUE % 2 == 0


def shared_groups() -> np.ndarray:
    groups = UNIQUE.copy()
    for c in np.unique(CATEGORIES):
        rows = np.flatnonzero(c == CATEGORIES)
        groups[rows[1]] = groups[rows[0]]
    groups[RNG.choice(N, 30, replace=False)] = groups[RNG.choice(N, 30, replace=False)]
    return groups


SHARED = shared_groups()

SETTINGS = {
    "5-way": (UNIQUE, {"n_way": 5, "n_shot": 2, "n_query": 4}),
    "all": (UNIQUE, {"n_way": "all", "n_shot": 1, "n_query": 3}),
    "dirichlet": (UNIQUE, {"n_way": 4, "n_shot": 2, "n_query": 6, "query_distribution": "dirichlet:2"}),
    "shared groups": (SHARED, {"n_way": 5, "n_shot": 2, "n_query": 4}),
    "shared groups, dirichlet": (
        SHARED,
        {"n_way": 5, "n_shot": 1, "n_query": 5, "query_distribution": "dirichlet:1"},
    ),
    "two pools": (UNIQUE, {"n_way": 5, "n_shot": 3, "n_query": 4, "support_rows": FIRST, "query_rows": ~FIRST}),
    "overlapping pools": (SHARED, {"n_way": 5, "n_shot": 3, "n_query": 4, "support_rows": np.flatnonzero(FIRST)}),
}


def sampler(setting: str, seed: int = 0) -> EpisodeSampler:
    groups, options = SETTINGS[setting]
    return EpisodeSampler(CATEGORIES, groups, seed=seed, **options)


def tensors(batch: EpisodeBatch) -> list[torch.Tensor]:
    return [v for f in fields(batch) if isinstance(v := getattr(batch, f.name), torch.Tensor)]


@pytest.mark.parametrize("setting", SETTINGS)
def test_an_episode_depends_on_seed_and_index_alone(setting):
    whole = sampler(setting).sample(0, 60)
    again = sampler(setting)
    pieces = [again.sample(i, j) for i, j in ((40, 60), (7, 40), (0, 1), (1, 7))]  # in any order
    order = [pieces[2], pieces[3], pieces[1], pieces[0]]
    for i, tensor in enumerate(tensors(whole)):
        assert torch.equal(tensor, torch.cat([tensors(p)[i] for p in order]))
    assert len({tuple(row) for row in whole.support.tolist()}) > 55, "episodes repeat"
    assert not torch.equal(whole.support, sampler(setting, seed=1).sample(0, 60).support)


def test_internal_blocks_do_not_matter(monkeypatch):
    whole = sampler("5-way").sample(0, 60)
    monkeypatch.setattr("fewshot_prod.episodes.NUMBERS_AT_ONCE", 1000)
    assert torch.equal(sampler("5-way").sample(0, 60).query, whole.query)


@pytest.mark.parametrize("setting", SETTINGS)
def test_labels_are_true_and_groups_appear_once(setting):
    groups, options = SETTINGS[setting]
    drawn = sampler(setting).sample(0, 200)
    assert drawn.n_way == (8 if options["n_way"] == "all" else options["n_way"])
    assert drawn.query.shape[1] == drawn.n_way * options["n_query"]
    categories = torch.from_numpy(CATEGORIES)
    for rows, labels in ((drawn.support, drawn.support_labels), (drawn.query, drawn.query_labels)):
        assert torch.equal(categories[rows], drawn.classes.gather(1, labels))
    assert all(len(set(row)) == drawn.n_way for row in drawn.classes.tolist())
    shots = torch.nn.functional.one_hot(drawn.support_labels, drawn.n_way).sum(1)
    assert (shots == options["n_shot"]).all()
    if "query_distribution" not in options:
        assert (torch.nn.functional.one_hot(drawn.query_labels, drawn.n_way).sum(1) == options["n_query"]).all()
    for rows in torch.cat([drawn.support, drawn.query], 1).tolist():
        assert not repeated_group(rows, groups)
    allowed = np.zeros(N, bool)
    allowed[options.get("support_rows", slice(None))] = True
    assert allowed[drawn.support].all()
    assert options.get("query_rows", np.ones(N, bool))[drawn.query].all()


def test_shared_groups_would_collide_if_nobody_looked():
    """The settings above test something: without the look-out, episodes of these rows repeat groups."""
    blind = sampler("shared groups")
    assert blind._may_collide
    blind._may_collide = False
    rows = torch.cat([(drawn := blind.sample(0, 200)).support, drawn.query], 1).tolist()
    assert sum(repeated_group(r, SHARED) for r in rows) > 20


def test_classes_rows_labels_and_query_order_are_uniform():
    """Each share is within 5 standard deviations of its expectation over 4,000 episodes."""
    n, options = 4000, {"n_way": 3, "n_shot": 1, "n_query": 2}
    drawn = EpisodeSampler(CATEGORIES, UNIQUE, seed=0, **options).sample(0, n)

    def check(observed, trials, p):
        deviation = np.sqrt(trials * p * (1 - p))
        assert np.abs(np.asarray(observed) - trials * p).max() < 5 * deviation

    for label in range(3):
        check(np.unique(drawn.classes[:, label], return_counts=True)[1], n, 1 / 8)
        check([(drawn.query_labels[:, position] == label).sum() for position in range(6)], n, 1 / 3)
    for c in np.unique(CATEGORIES):
        rows = np.flatnonzero(c == CATEGORIES)
        times = int((drawn.classes == c).sum())  # episodes with this class
        for part, per_episode in ((drawn.support, 1), (drawn.query, 2)):
            check(np.bincount(part.flatten(), minlength=N)[rows], times, per_episode / len(rows))


def test_groups_are_drawn_alike_and_then_their_members():
    groups = np.repeat([0, 1, 2, 3], [7, 1, 1, 1])  # class 0: a group of 7 and one of 1
    drawn = EpisodeSampler([0] * 8 + [1] * 2, groups, n_way=2, n_shot=1, n_query=1, seed=0).sample(0, 4000)
    support = drawn.support[drawn.classes.gather(1, drawn.support_labels) == 0]
    counts = np.bincount(support, minlength=8)
    assert abs(counts[7] - 2000) < 5 * np.sqrt(1000)
    assert np.abs(counts[:7] - 2000 / 7).max() < 5 * np.sqrt(2000 / 7)


def test_distinct_choices_come_in_every_order_alike():
    u = np.random.default_rng(0).random((2, 3, 24_000))
    chosen = choose_distinct(u, np.full(24_000, 4))
    _, counts = np.unique(chosen, axis=0, return_counts=True)
    assert len(counts) == 24  # 4 * 3 * 2
    assert np.abs(counts - 1000).max() < 5 * np.sqrt(1000)


def test_dirichlet_counts_have_the_distributions_moments():
    counts = dirichlet_counts(np.random.default_rng(0).random((20_000, 5, 2)), np.full((20_000, 5), 75), 75)
    assert (counts.sum(1) == 75).all()
    shares, drawn = counts / 75, np.random.default_rng(1).dirichlet([2.0] * 5, 20_000)
    assert shares.mean(0) == pytest.approx([0.2] * 5, abs=0.005)
    assert shares.std(0) == pytest.approx(drawn.std(0), rel=0.03)  # 0.12; balanced would have 0


def test_dirichlet_counts_respect_limits():
    limits = np.broadcast_to([3, 4, 60, 10], (500, 4))
    counts = dirichlet_counts(np.random.default_rng(0).random((500, 4, 1)), limits, 40)
    assert (counts <= limits).all()
    assert (counts.sum(1) == 40).all()


def test_small_classes_are_skipped_for_the_setting_alone():
    roomy = EpisodeSampler(CATEGORIES, UNIQUE, n_way=2, n_shot=5, n_query=15, seed=0)
    tight = EpisodeSampler(CATEGORIES, UNIQUE, n_way=2, n_shot=5, n_query=20, seed=0)
    assert roomy.skipped == {}
    assert tight.skipped == {3: 20, 13: 22, 23: 24}
    assert not np.isin(tight.sample(0, 100).classes, [3, 13, 23]).any()
    twins = EpisodeSampler(CATEGORIES, SHARED, n_way="all", n_shot=5, n_query=15, seed=0)
    assert 3 in twins.skipped  # 20 products, two of them in one group
    assert twins.n_way == 8 - len(twins.skipped)


def test_every_group_of_a_class_can_be_needed():
    """Support may come from everywhere, queries from 6 rows of 8 in each class: there is one way to fill an episode."""
    rows = np.arange(32)
    options = {"n_way": 4, "n_shot": 2, "n_query": 6, "query_rows": rows % 8 >= 2}
    drawn = EpisodeSampler(rows // 8, rows, seed=0, **options).sample(0, 10)
    assert drawn.support.sort(1).values.tolist() == [rows[rows % 8 < 2].tolist()] * 10
    assert drawn.query.sort(1).values.tolist() == [rows[rows % 8 >= 2].tolist()] * 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_way": 9}, r"8 of 8 classes have 6 groups \(n_shot=2 \+ n_query=4\) but n_way is 9: lower n_way"),
        ({"n_way": "all", "n_query": 50}, "0 of 8 classes have 52 groups"),
        ({"n_way": "every"}, "n_way is 'every': give a number of at least 2, or 'all'"),
        ({"n_shot": 0}, "n_shot is 0: it must be at least 1"),
        ({"seed": -1}, "seed is -1: it must be at least 0"),
        ({"query_distribution": "dirichlet:0.5"}, "give 'balanced', or 'dirichlet:A' with a whole number"),
        ({"support_rows": np.ones(3, bool)}, f"a row mask of 3 for {N} rows"),
        ({"support_rows": np.ones(0, bool)}, f"a row mask of 0 for {N} rows"),
        ({"support_rows": []}, "0 of 8 classes have 6 groups"),
    ],
)
def test_impossible_settings_say_what_to_change(options, message):
    with pytest.raises(ValueError, match=message):
        EpisodeSampler(CATEGORIES, UNIQUE, **({"n_way": 5, "n_shot": 2, "n_query": 4, "seed": 0} | options))


def test_classes_that_are_one_group_cannot_be_told_apart():
    one = EpisodeSampler([0, 0, 1, 1], [0, 1, 0, 1], n_way=2, n_shot=1, n_query=1, seed=0)
    with pytest.raises(UsageError, match="the classes share too many groups, so lower n_way"):
        one.sample(0, 1)


def batch(support_labels, n_way=3, **options) -> EpisodeBatch:
    labels = torch.tensor([support_labels])
    return EpisodeBatch(
        torch.zeros_like(labels), labels, torch.zeros(1, 1).long(), torch.zeros(1, 1).long(), n_way, **options
    )


def test_labels_with_gaps_are_refused():
    with pytest.raises(ValueError, match="episode 0 has no support for label 1 although n_way is 3"):
        batch([0, 2, 0])
    with pytest.raises(ValueError, match=r"support_labels span 0\.\.7 but n_way is 3"):
        batch([0, 1, 7])
    with pytest.raises(ValueError, match="no support for label 2"):
        batch([0, 1, 2], support_mask=torch.tensor([[True, True, False]]))
    assert len(batch([2, 1, 0])) == 1


def test_slices_and_pieces_keep_everything():
    drawn = sampler("5-way").sample(0, 10)
    for i, tensor in enumerate(tensors(drawn)):
        assert torch.equal(torch.cat([tensors(part)[i] for part in drawn.split(4)]), tensor)
        assert torch.equal(tensors(drawn[3:5])[i], tensor[3:5])
