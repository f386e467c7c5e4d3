"""Slow versions to compare with: loops straight from the definitions. Nothing here imports the package."""

from __future__ import annotations

import copy
import math
import unicodedata

import torch

# Catalog ------------------------------------------------------------------------------------------------------------


def near_duplicate_groups_by_search(categories, titles, digests, given) -> list[int]:
    """Grow each group from its first product until no product outside it has a duplicate inside."""

    def normal(title):
        return " ".join(unicodedata.normalize("NFKC", title).casefold().split())

    def joined(i, j):
        same_title = titles[i] and titles[j] and normal(titles[i]) == normal(titles[j])
        return (
            (same_title and categories[i] == categories[j])
            or (digests[i] is not None and digests[i] == digests[j])
            or (given[i] is not None and given[i] == given[j])
        )

    group = [-1] * len(categories)
    for first in range(len(categories)):
        if group[first] >= 0:
            continue
        group[first] = number = max(group) + 1
        grown = True
        while grown:
            inside = [i for i in range(len(group)) if group[i] == number]
            outside = [j for j in range(len(group)) if group[j] < 0 and any(joined(i, j) for i in inside)]
            for j in outside:
                group[j] = number
            grown = bool(outside)
    return group


# Titles, fusion and losses ------------------------------------------------------------------------------------------


def additive_attention_by_loops(query, keys, mask, w, bias, u, v) -> tuple[list[float], list[float]]:
    """One query over T keys, all given as lists: e_i = v . tanh(W q + b + U k_i), softmax where ``mask``, average."""

    def times(matrix, vector):
        return [sum(m * x for m, x in zip(row, vector, strict=True)) for row in matrix]

    from_query = [a + b for a, b in zip(times(w, query), bias, strict=True)]
    scores = []
    for key, real in zip(keys, mask, strict=True):
        hidden = [math.tanh(a + b) for a, b in zip(from_query, times(u, key), strict=True)]
        scores.append(math.exp(sum(a * b for a, b in zip(v, hidden, strict=True))) if real else 0.0)
    weights = [score / sum(scores) if sum(scores) else 0.0 for score in scores]
    context = [sum(a * key[d] for a, key in zip(weights, keys, strict=True)) for d in range(len(keys[0]))]
    return context, weights


def softmax_by_loops(logits) -> list[float]:
    exponentials = [math.exp(x - max(logits)) for x in logits]
    return [e / sum(exponentials) for e in exponentials]


def weighted_loss_by_loops(logits, targets, weight, loss_of_probability) -> float:
    """Mean of a function of the target's probability, each row weighted by its class."""
    rows = [(weight[y], loss_of_probability(softmax_by_loops(row)[y])) for row, y in zip(logits, targets, strict=True)]
    return sum(w * loss for w, loss in rows) / sum(w for w, _ in rows)


def supervised_contrastive_by_loops(features, labels, temperature) -> float:
    """Khosla et al. 2020, equation 2, over lists; the mean over the anchors with a positive."""
    unit = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in features]

    def similarity(i, j):
        return math.exp(sum(a * b for a, b in zip(unit[i], unit[j], strict=True)) / temperature)

    losses = []
    for i, label in enumerate(labels):
        others = [a for a in range(len(labels)) if a != i]
        positives = [p for p in others if labels[p] == label]
        if positives:
            everything = sum(similarity(i, a) for a in others)
            losses.append(-sum(math.log(similarity(i, p) / everything) for p in positives) / len(positives))
    return sum(losses) / len(losses)


# Episodes, prototype methods and scores -----------------------------------------------------------------------------


def repeated_group(episode_rows, groups) -> bool:
    """Whether two items of one episode (a list of pool rows) are the same row or share a group."""
    return any(a == b or groups[a] == groups[b] for i, a in enumerate(episode_rows) for b in episode_rows[i + 1 :])


def squared_distances_by_loops(support, labels, query, n_way) -> list[list[float]]:
    """Snell et al. 2017: squared Euclidean distance of each query to the mean of each class; lists of lists."""
    means = []
    for k in range(n_way):
        members = [x for x, label in zip(support, labels, strict=True) if label == k]
        means.append([sum(x[d] for x in members) / len(members) for d in range(len(support[0]))])
    return [[sum((a - b) ** 2 for a, b in zip(q, mean, strict=True)) for mean in means] for q in query]


def transformed_by_loops(x, transform, center) -> list[float]:
    """Wang et al. 2019, section 2.2, for one feature vector."""
    if transform == "CL2N":
        x = [a - c for a, c in zip(x, center, strict=True)]
    if transform == "UN":
        return list(x)
    norm = math.sqrt(sum(a * a for a in x))
    return [a / norm for a in x]


def macro_scores_by_loops(truth, guess) -> tuple[float, float, float]:
    """Means over categories of precision, recall and F1, each by counting; 0 where nothing is to be counted."""
    categories = sorted(set(truth) | set(guess))
    scores = []
    for c in categories:
        hits = sum(t == c and g == c for t, g in zip(truth, guess, strict=True))
        precision = hits / guess.count(c) if c in guess else 0.0
        recall = hits / truth.count(c) if c in truth else 0.0
        scores.append((precision, recall, 2 * precision * recall / (precision + recall) if hits else 0.0))
    return tuple(sum(column) / len(categories) for column in zip(*scores, strict=True))


def interval_by_loops(values) -> tuple[float, float]:
    """Mean and 1.96 standard errors."""
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return mean, 1.96 * math.sqrt(variance / len(values))


# Reptile --------------------------------------------------------------------------------------------------------------


def reptile_by_sgd(encoder, products, labels, *, n_way, lr, n_steps) -> tuple[dict, float]:
    """(start - end) / lr of one pass of torch's SGD over consecutive minibatches, by weight, and their mean loss.

    The head starts at zeros; the encoder runs in eval mode. Minibatches are equal in size up to one, larger ones first.
    """
    model = copy.deepcopy(encoder).eval()
    if hasattr(model, "inner_rates"):
        del model.inner_rates
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    head = torch.nn.Linear(model.feature_dim, n_way, dtype=next(iter(start.values())).dtype)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
    optimiser = torch.optim.SGD([*model.parameters(), *head.parameters()], lr=lr)
    rows, losses = list(range(len(labels))), []
    for left in range(n_steps, 0, -1):
        size = -(-len(rows) // left)
        batch, rows = torch.tensor(rows[:size]), rows[size:]
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(head(model(products[batch])), labels[batch])
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    moved = {name: (start[name] - p.detach()) / lr for name, p in model.named_parameters()}
    return moved, sum(losses) / len(losses)
