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


# Metric and closed-form methods: lists of vectors, one episode at a time ----------------------------------------------


def dot(a, b) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine_by_loops(a, b) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def mean_by_loops(vectors) -> list[float]:
    return [sum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def class_means_by_loops(support, labels, n_way) -> list[list[float]]:
    return [mean_by_loops([x for x, y in zip(support, labels, strict=True) if y == k]) for k in range(n_way)]


def linear_by_loops(weight, bias, x) -> list[float]:
    """A layer's output; ``bias`` may be None."""
    return [dot(row, x) + (bias[i] if bias is not None else 0.0) for i, row in enumerate(weight)]


def layer_norm_by_loops(x, weight, bias, eps=1e-5) -> list[float]:
    mean = sum(x) / len(x)
    deviation = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + eps)
    return [(v - mean) / deviation * w + b for v, w, b in zip(x, weight, bias, strict=True)]


def matching_by_loops(support, labels, query, n_way, scale) -> list[list[float]]:
    """Vinyals et al. 2016, equation 1: probabilities of the classes, for each query."""
    rows = []
    for x in query:
        attention = softmax_by_loops([scale * cosine_by_loops(x, s) for s in support])
        rows.append([sum(a for a, y in zip(attention, labels, strict=True) if y == k) for k in range(n_way)])
    return rows


def meta_baseline_by_loops(support, labels, query, n_way, scale) -> list[list[float]]:
    """Chen et al. 2021, equations 1 and 2."""
    means = class_means_by_loops(support, labels, n_way)
    return [[scale * cosine_by_loops(x, mean) for mean in means] for x in query]


def relation_by_loops(support, labels, query, n_way, weights) -> list[list[float]]:
    """Sung et al. 2018, equation 1 before its sigmoid: a perceptron on (class, query), both layer-normalised."""

    def norm(x):
        return layer_norm_by_loops(x, weights["norm.weight"], weights["norm.bias"])

    def layer(name, x):
        return linear_by_loops(weights[f"{name}.weight"], weights[f"{name}.bias"], x)

    def relu(x):
        return [max(v, 0.0) for v in x]

    rows = []
    for x in query:
        pairs = [norm(mean) + norm(x) for mean in class_means_by_loops(support, labels, n_way)]
        rows.append([layer("score", relu(layer("hidden", relu(layer("pair", pair)))))[0] for pair in pairs])
    return rows


def set_attention_by_loops(members, weights) -> list[list[float]]:
    """Ye et al. 2020, section 4: each member plus what it reads from all, layer-normalised."""
    adapted = []
    for x in members:
        q = linear_by_loops(weights["query.weight"], None, x)
        keys = [linear_by_loops(weights["key.weight"], None, m) for m in members]
        attention = softmax_by_loops([dot(q, k) / math.sqrt(len(x)) for k in keys])
        values = [linear_by_loops(weights["value.weight"], None, m) for m in members]
        read = [sum(a * v[d] for a, v in zip(attention, values, strict=True)) for d in range(len(x))]
        out = linear_by_loops(weights["out.weight"], weights["out.bias"], read)
        total = [a + b for a, b in zip(out, x, strict=True)]
        adapted.append(layer_norm_by_loops(total, weights["norm.weight"], weights["norm.bias"]))
    return adapted


def feat_by_loops(support, labels, query, n_way, weights, scale) -> list[list[float]]:
    """Negative squared distances to the class means after the set attention, times ``scale``."""
    centers = set_attention_by_loops(class_means_by_loops(support, labels, n_way), weights)
    return [[-scale * sum((a - b) ** 2 for a, b in zip(x, c, strict=True)) for c in centers] for x in query]


def feat_contrastive_by_loops(items, labels, n_way, weights, scale) -> float:
    """Ye et al. 2020, section 4.3: mean cross-entropy of all items among the centers of their adapted classes."""
    classes = [[x for x, y in zip(items, labels, strict=True) if y == k] for k in range(n_way)]
    centers = [mean_by_loops(set_attention_by_loops(members, weights)) for members in classes]
    losses = []
    for x, y in zip(items, labels, strict=True):
        logits = [-scale * sum((a - b) ** 2 for a, b in zip(x, c, strict=True)) for c in centers]
        losses.append(-math.log(softmax_by_loops(logits)[y]))
    return sum(losses) / len(losses)


def cosine_classifier_by_loops(support, labels, query, n_way, *, steps, lr, momentum, weight_decay, scale):
    """Chen et al. 2019, Baseline++: SGD on weights that start at the class means; gradients by finite differences."""

    def logits(weights, x):
        return [scale * cosine_by_loops(x, w) for w in weights]

    def loss(weights):
        rows = zip(support, labels, strict=True)
        return -sum(math.log(softmax_by_loops(logits(weights, x))[y]) for x, y in rows) / len(support)

    weights = class_means_by_loops(support, labels, n_way)
    speed, h = [[0.0] * len(weights[0]) for _ in weights], 1e-5
    for _ in range(steps):
        gradient = [[0.0] * len(weights[0]) for _ in weights]
        for k, w in enumerate(weights):
            for d, value in enumerate(w):
                w[d] = value + h
                above = loss(weights)
                w[d] = value - h
                gradient[k][d] = (above - loss(weights)) / (2 * h)
                w[d] = value
        for k, w in enumerate(weights):
            for d in range(len(w)):
                speed[k][d] = momentum * speed[k][d] + gradient[k][d] + weight_decay * w[d]
        for k, w in enumerate(weights):
            weights[k] = [value - lr * v for value, v in zip(w, speed[k], strict=True)]
    return [logits(weights, x) for x in query]


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


# Gradients ------------------------------------------------------------------------------------------------------------


def slope_along(module, direction, loss, h: float = 1e-5) -> float:
    """Central difference of ``loss(module)`` along a direction of the module's parameters, a tensor for each."""
    losses = []
    for step in (h, -h):
        moved = copy.deepcopy(module)
        with torch.no_grad():
            for p, d in zip(moved.parameters(), direction, strict=True):
                p += step * d
        losses.append(float(loss(moved)))
    return (losses[0] - losses[1]) / (2 * h)


# Transductive methods: one episode, as lists of lists ----------------------------------------------------------------


def _dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def _cosine(a, b):
    return _dot(a, b) / math.sqrt(_dot(a, a) * _dot(b, b))


def _squared_distance(a, b):
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def _weighted_mean(rows, weights):
    return [sum(w * x[d] for w, x in zip(weights, rows, strict=True)) / sum(weights) for d in range(len(rows[0]))]


def shifted_by_loops(support, query) -> list[list[float]]:
    """Liu et al. 2020, section 3.2: the queries, moved so that their mean is the support's."""
    every_support, every_query = (_weighted_mean(rows, [1.0] * len(rows)) for rows in (support, query))
    return [[x + s - q for x, s, q in zip(row, every_support, every_query, strict=True)] for row in query]


def rectified_by_loops(support, labels, query, n_way, epsilon, n_confident) -> list[list[float]]:
    """Liu et al. 2020, section 3.2: prototypes of the support and of the surest queries of each class, shifted."""
    means = class_means_by_loops(support, labels, n_way)
    shifted = shifted_by_loops(support, query)
    sure = [softmax_by_loops([epsilon * _cosine(x, mean) for mean in means]) for x in shifted]
    rectified = []
    for k in range(n_way):
        mine = sorted((i for i, p in enumerate(sure) if p.index(max(p)) == k), key=lambda i: -sure[i][k])
        rows = [x for x, label in zip(support, labels, strict=True) if label == k]
        rows += [shifted[i] for i in (mine if n_confident is None else mine[:n_confident])]
        rectified.append(_weighted_mean(rows, [math.exp(epsilon * _cosine(x, means[k])) for x in rows]))
    return rectified


def bd_cspn_by_loops(support, labels, query, n_way, epsilon, n_confident) -> list[list[float]]:
    """Cosines of the shifted queries to the rectified prototypes."""
    prototypes = rectified_by_loops(support, labels, query, n_way, epsilon, n_confident)
    return [[_cosine(x, p) for p in prototypes] for x in shifted_by_loops(support, query)]


def laplacian_shot_by_loops(prototypes, query, weight, n_neighbours, n_iterations) -> list[list[float]]:
    """Ziko et al. 2020, Algorithm 1: soft assignments of the queries."""
    others = [
        sorted((j for j in range(len(query)) if j != i), key=lambda j: _squared_distance(query[i], query[j]))
        for i in range(len(query))
    ]
    unary = [[_squared_distance(x, p) for p in prototypes] for x in query]
    y = [softmax_by_loops([-a for a in row]) for row in unary]
    for _ in range(n_iterations):
        y = [
            softmax_by_loops([-a + weight * sum(y[j][k] for j in others[i][:n_neighbours]) for k, a in enumerate(row)])
            for i, row in enumerate(unary)
        ]
    return y


def pt_map_by_loops(support, labels, query, n_way, *, n_steps, step_size, cost_scale, power, centering):
    """Hu et al. 2021, Algorithm 1, features being positive or negative: the plan of the last prototypes."""

    def unit(row):
        return [x / math.sqrt(_dot(row, row)) for x in row]

    def prepared(rows):
        rows = [unit([math.copysign((abs(x) + 1e-6) ** power, x) for x in row]) for row in rows]
        if not centering:
            return rows
        mean = _weighted_mean(rows, [1.0] * len(rows))
        return [unit([x - m for x, m in zip(row, mean, strict=True)]) for row in rows]

    support, query = prepared(support), prepared(query)
    prototypes = class_means_by_loops(support, labels, n_way)
    for step in range(n_steps + 1):
        plan = [[math.exp(-cost_scale * _squared_distance(x, p)) for p in prototypes] for x in query]
        for _ in range(4000):
            plan = [[x / sum(row) for x in row] for row in plan]
            totals = [sum(row[k] for row in plan) for k in range(n_way)]
            plan = [[x * len(query) / n_way / t for x, t in zip(row, totals, strict=True)] for row in plan]
        if step == n_steps:
            return plan
        for k in range(n_way):
            weights = [float(label == k) for label in labels] + [row[k] for row in plan]
            mean = _weighted_mean(support + query, weights)
            prototypes[k] = [p + step_size * (m - p) for p, m in zip(prototypes[k], mean, strict=True)]


def prototype_logits_by_loops(weights, x, scale, linear):
    """Of one product, as torch scalars: inner products with the prototypes, or half negative squared distances."""
    return [scale * ((w * x).sum() if linear else -0.5 * (w - x).square().sum()) for w in weights]


def information_loss_by_loops(
    weights, support, labels, query, *, scale, alpha, support_weight, marginal, conditional, linear
):
    """Boudiaf et al. 2020, equation 3, and Veilleux et al. 2021 for alpha other than 1, as a torch scalar.

    Cross-entropy of the support minus the entropy of the mean prediction (times ``marginal``) plus the mean entropy
    (times ``conditional``).
    """

    def probabilities(x):
        exponentials = [logit.exp() for logit in prototype_logits_by_loops(weights, x, scale, linear)]
        return [e / sum(exponentials) for e in exponentials]

    def entropy(p):
        if alpha == 1:
            return -sum(x * x.log() for x in p)
        return (1 - sum(x**alpha for x in p)) / (alpha - 1)

    cross_entropy = -sum(probabilities(x)[y].log() for x, y in zip(support, labels, strict=True)) / len(support)
    predictions = [probabilities(x) for x in query]
    mean = [sum(p[k] for p in predictions) / len(query) for k in range(len(weights))]
    mean_entropy = sum(entropy(p) for p in predictions) / len(query)
    return support_weight * cross_entropy - marginal * entropy(mean) + conditional * mean_entropy


# Fusion of modalities ------------------------------------------------------------------------------------------------


def _affine(weight, bias, x) -> list[float]:
    return [sum(w * a for w, a in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def _softmax_where(scores, mask) -> list[float]:
    exps = [math.exp(s) if real else 0.0 for s, real in zip(scores, mask, strict=True)]
    return [e / sum(exps) if any(mask) else 0.0 for e in exps]


def gated_unit_by_loops(x, mask, values, gates) -> list[float]:
    """Arevalo et al. 2017, gated unit of one product: x[m] is zero where mask[m] is False; (weight, bias) a layer."""
    hidden = [[math.tanh(h) for h in _affine(*layer, one)] for layer, one in zip(values, x, strict=True)]
    everything = [a for one in x for a in one]
    scores = [_affine(*layer, everything) for layer in gates]
    output = []
    for d in range(len(hidden[0])):
        gate = _softmax_where([s[d] for s in scores], mask)
        output.append(sum(z * h[d] for z, h in zip(gate, hidden, strict=True)))
    return output


def co_attention_by_loops(x, mask, keys, guides, scores) -> list[list[float]]:
    """Lu et al. 2016, parallel co-attention of one product, as CoAttentionFusion writes it: weights a modality.

    x[m][p] is an element, keys[m] a (weight, bias), guides[m] a weight, scores[m] a vector.
    """
    key = [[_affine(*layer, element) for element in one] for layer, one in zip(keys, x, strict=True)]
    weights = []
    for m in range(len(x)):
        raw = []
        for own in key[m]:
            guided = list(own)
            for j in range(len(x)):
                there = [r for r, real in enumerate(mask[j]) if real]
                for r in there if j != m else []:
                    dot = sum(a * b for a, b in zip(own, key[j][r], strict=True))
                    affinity = math.tanh(dot / math.sqrt(len(own)))
                    guide = _affine(guides[j], [0.0] * len(own), x[j][r])
                    guided = [h + affinity * g / len(there) for h, g in zip(guided, guide, strict=True)]
            raw.append(sum(v * math.tanh(h) for v, h in zip(scores[m], guided, strict=True)))
        weights.append(_softmax_where(raw, mask[m]))
    return weights


def mixed_logits_by_loops(support, labels, query, embeddings, g, h, scale) -> list[list[float]]:
    """Xing et al. 2019 for one episode: embeddings[k] of label k; g and h are two (weight, bias) layers with a ReLU."""

    def network(layers, x):
        (first, last) = layers
        return _affine(*last, [max(a, 0.0) for a in _affine(*first, x)])

    prototypes = []
    for k, embedding in enumerate(embeddings):
        members = [x for x, label in zip(support, labels, strict=True) if label == k]
        mean = [sum(column) / len(members) for column in zip(*members, strict=True)]
        word = network(g, embedding)
        share = 1 / (1 + math.exp(-network(h, word)[0]))
        prototypes.append([share * m + (1 - share) * w for m, w in zip(mean, word, strict=True)])
    return [[-scale * sum((a - b) ** 2 for a, b in zip(q, p, strict=True)) for p in prototypes] for q in query]


def text_convolution_by_loops(words, layers) -> list[float]:
    """Kim 2014: for each (weight (channels, D, width), bias), the largest ReLU of a window around each word."""
    features = []
    for weight, bias in layers:
        for kernel, b in zip(weight, bias, strict=True):
            width, best = len(kernel[0]), 0.0
            for middle in range(len(words)):
                total = b
                for offset in range(width):
                    at = middle + offset - width // 2
                    if 0 <= at < len(words):
                        total += sum(k[offset] * a for k, a in zip(kernel, words[at], strict=True))
                best = max(best, total)
            features.append(best)
    return features


# Missing modalities -------------------------------------------------------------------------------------------------


def partial_distances_by_loops(support, labels, queries, n_way, blocks, transform, center) -> list[list[float]]:
    """Squared distances of each query to each class, summed over the blocks, (width, share) each, that it has.

    A block is missing if it is zero all over. Products are lists of floats, or None for padding.
    """

    def blocks_of(x):
        found, at, total = [], 0, sum(share for _, share in blocks)
        for width, share in blocks:
            block = list(x[at : at + width])
            if any(v != 0 for v in block):
                if transform == "CL2N":
                    block = [v - c for v, c in zip(block, center[at : at + width], strict=True)]
                found.append((block, share / total))
            else:
                found.append(None)
            at += width
        if transform != "UN":
            norm = math.sqrt(sum(v * v for b in found if b for v in b[0]))
            length = math.sqrt(sum(b[1] for b in found if b))
            found = [b and ([v * length / norm for v in b[0]], b[1]) for b in found]
        return [b and b[0] for b in found]

    products = [blocks_of(x) for x in support]
    result = []
    for query in map(blocks_of, queries):
        row = []
        for k in range(n_way):
            distance = 0.0
            for m, block in enumerate(query):
                if block is None:
                    continue
                mine = [p[m] for p, label in zip(products, labels, strict=True) if label == k and p[m] is not None]
                mean = [sum(v) / len(mine) for v in zip(*mine, strict=True)] if mine else [0.0] * len(block)
                distance += sum((a - b) ** 2 for a, b in zip(block, mean, strict=True))
            row.append(distance)
        result.append(row)
    return result


def base_and_novel_accuracy(logits, labels, n_base, penalty=0.0) -> tuple[float, float, float]:
    """Accuracy on base queries, on novel queries, and their harmonic mean, base logits lowered by ``penalty``."""
    right, asked = [0, 0], [0, 0]
    for row, label in zip(logits, labels, strict=True):
        lowered = [value - penalty if k < n_base else value for k, value in enumerate(row)]
        side = int(label >= n_base)
        asked[side] += 1
        right[side] += lowered.index(max(lowered)) == label
    base, novel = right[0] / asked[0], right[1] / asked[1]
    return base, novel, 0.0 if base + novel == 0 else 2 * base * novel / (base + novel)
