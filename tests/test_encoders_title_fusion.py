from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from reference import (
    additive_attention_by_loops,
    co_attention_by_loops,
    gated_unit_by_loops,
    text_convolution_by_loops,
)
from torch import nn
from torch.func import functional_call, grad, vmap

from fewshot_prod.catalog.titles import TitleTokenizer
from fewshot_prod.encoders.attention import AdditiveAttention
from fewshot_prod.encoders.classifier import CosineHead, ProductClassifier
from fewshot_prod.encoders.fusion import (
    FUSIONS,
    AttentionFusion,
    CoAttentionFusion,
    ConcatFusion,
    GatedFusion,
    LateFusion,
    UnitAttentionFusion,
)
from fewshot_prod.encoders.product import build_encoder
from fewshot_prod.encoders.title import TITLE_ENCODERS, TitleEncoder, title_encoder
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods.inner_loop import Learner

TOKENS = torch.tensor([[5, 9, 2, 7, 3], [4, 4, 8, 0, 0], [6, 0, 0, 0, 0], [0, 0, 0, 0, 0], [1, 2, 3, 4, 0]])
LENGTHS = torch.tensor([5, 3, 1, 0, 4])
CELLS = [("gru", True), ("gru", False), ("lstm", True), ("lstm", False)]


def recurrent(cell="gru", bidirectional=True, recurrence="packed", dtype=torch.float32) -> TitleEncoder:
    torch.manual_seed(0)
    encoder = TitleEncoder(12, embedding_dim=6, hidden_size=5, cell=cell, bidirectional=bidirectional)
    encoder.recurrence = recurrence
    return encoder.to(dtype).eval()


# --- title encoder -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("cell", "bidirectional"), CELLS)
def test_title_encoder_matches_each_title_on_its_own(cell, bidirectional):
    """Without padding or batch: PyTorch's recurrence over the bare title, then attention in loops."""
    encoder = recurrent(cell, bidirectional, dtype=torch.float64)
    features, weights = encoder(TOKENS, LENGTHS), encoder.attention_weights(TOKENS, LENGTHS)
    assert features.shape == (5, encoder.feature_dim) == (5, 10 if bidirectional else 5)
    attention = encoder.attention
    for row, n in enumerate(LENGTHS.tolist()):
        if n == 0:
            assert features[row].abs().max() == 0 and weights[row].abs().max() == 0
            continue
        states, final = encoder.rnn(encoder.embedding(TOKENS[row : row + 1, :n]))
        query = (final[0] if cell == "lstm" else final).flatten()  # last forward state, first backward state
        context, expected = additive_attention_by_loops(
            query.tolist(),
            states[0].tolist(),
            [True] * n,
            attention.query.weight.tolist(),
            attention.query.bias.tolist(),
            attention.key.weight.tolist(),
            attention.score.weight[0].tolist(),
        )
        torch.testing.assert_close(features[row], torch.tensor(context, dtype=torch.float64))
        torch.testing.assert_close(weights[row, :n], torch.tensor(expected, dtype=torch.float64))
        assert weights[row, n:].abs().sum() == 0


@pytest.mark.parametrize(("cell", "bidirectional"), CELLS)
def test_masked_recurrence_equals_packed_in_value_and_gradient(cell, bidirectional):
    results = []
    for recurrence in ("packed", "masked"):
        encoder = recurrent(cell, bidirectional, recurrence)
        features = encoder(TOKENS, LENGTHS)
        features.square().sum().backward()
        results.append((features.detach(), {name: p.grad for name, p in encoder.named_parameters()}))
    (packed, packed_gradients), (masked, masked_gradients) = results
    torch.testing.assert_close(packed, masked, rtol=1e-5, atol=1e-5)
    assert packed.abs().max() > 0.05
    for name, gradient in packed_gradients.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, masked_gradients[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("recurrence", ["packed", "masked"])
@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_features_do_not_depend_on_padding_or_batch(cell, recurrence):
    encoder = recurrent(cell, recurrence=recurrence)
    together = encoder(TOKENS, LENGTHS)
    garbage = torch.where(torch.arange(5) < LENGTHS[:, None], TOKENS, 11)
    wider = torch.cat([garbage, torch.full((5, 3), 7)], dim=1)
    torch.testing.assert_close(encoder(wider, LENGTHS), together)
    alone = torch.cat([encoder(TOKENS[i : i + 1], LENGTHS[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(alone, together)
    torch.testing.assert_close(encoder(TOKENS.flip(0), LENGTHS.flip(0)), together.flip(0))


@pytest.mark.parametrize("recurrence", ["packed", "masked"])
def test_missing_titles_give_zero_features_and_finite_gradients(recurrence):
    encoder = recurrent(recurrence=recurrence).train()
    features = encoder(torch.zeros(3, 1, dtype=torch.long), torch.zeros(3, dtype=torch.long))
    features.sum().backward()
    assert features.abs().max() == 0
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in encoder.parameters())


def test_title_attention_depends_on_the_title():
    weights = recurrent().attention_weights(TOKENS, LENGTHS)
    torch.testing.assert_close(weights.sum(1), (LENGTHS > 0).float())
    assert weights[0].max() - weights[0].min() > 0.01
    swapped = TOKENS.clone()
    swapped[0, 4] = 8  # another last word moves the query, and with it the weight of the first word
    assert (recurrent().attention_weights(swapped, LENGTHS)[0, 0] - weights[0, 0]).abs() > 1e-4


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_masked_recurrence_under_func_transforms(cell):
    encoder = recurrent(cell, recurrence="masked")
    parameters = dict(encoder.named_parameters())

    def loss(parameters, tokens, lengths):
        return functional_call(encoder, parameters, (tokens[None], lengths[None])).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0, 0))(parameters, TOKENS, LENGTHS)
    encoder(TOKENS, LENGTHS).square().sum().backward()
    for name, p in encoder.named_parameters():
        torch.testing.assert_close(each[name].sum(0), p.grad, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_masked_recurrence_has_a_right_double_backward(cell):
    encoder = recurrent(cell, recurrence="masked", dtype=torch.float64)
    names = ["rnn.weight_hh_l0", "attention.key.weight", "embedding.weight"]
    values = [encoder.get_parameter(name).detach().clone().requires_grad_() for name in names]

    def features(*values):
        return functional_call(
            encoder, dict(zip(names, values, strict=True)), (TOKENS[:3, :3], LENGTHS[:3].clamp(max=3))
        )

    assert torch.autograd.gradgradcheck(features, values, fast_mode=True)


def test_title_encoder_under_bfloat16_autocast():
    for recurrence in ("packed", "masked"):
        encoder = recurrent(recurrence=recurrence)
        with torch.autocast("cpu", torch.bfloat16):
            low = encoder(TOKENS, LENGTHS)
        torch.testing.assert_close(low.float(), encoder(TOKENS, LENGTHS), rtol=0.05, atol=0.02)


def test_title_encoder_refuses_an_unknown_cell():
    with pytest.raises(ValueError, match=r"cell is 'rnn'; choose one of \['gru', 'lstm'\]"):
        TitleEncoder(10, cell="rnn")


def test_additive_attention_without_any_key():
    attend = AdditiveAttention(2, 3, 4)
    keys = torch.randn(2, 5, 3, requires_grad=True)
    context, weights = attend(torch.randn(2, 2), keys, torch.tensor([[True] * 5, [False] * 5]))
    context.sum().backward()
    assert context[1].abs().max() == 0 and weights[1].abs().max() == 0
    assert keys.grad.isfinite().all() and keys.grad[1].abs().max() == 0 < keys.grad[0].abs().max()


# --- every kind of title encoder ---------------------------------------------------------------------------------

SMALL = {
    "recurrent": {"embedding_dim": 6, "hidden_size": 4},
    "bag": {"embedding_dim": 6},
    "cnn": {"embedding_dim": 6, "channels": 4},
    "transformer": {"dim": 8, "n_heads": 2},
    "recurrent_bag": {"embedding_dim": 6, "hidden_size": 4, "bag_dim": 5},
}
every_title = pytest.mark.parametrize("kind", TITLE_ENCODERS)


def titles(kind: str, dtype=torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return title_encoder(12, kind=kind, **SMALL[kind]).to(dtype).eval()


def test_each_kind_has_its_place_in_these_tests():
    assert len(TITLE_ENCODERS) == 5 and list(TITLE_ENCODERS) == list(SMALL)


@every_title
def test_title_features_do_not_depend_on_padding_or_batch(kind):
    encoder = titles(kind)
    together = encoder(TOKENS, LENGTHS)
    assert together.shape == (5, encoder.feature_dim) and together[3].abs().max() == 0 < together[2].abs().max()
    garbage = torch.where(torch.arange(5) < LENGTHS[:, None], TOKENS, 11)
    wider = torch.cat([garbage, torch.full((5, 3), 7)], dim=1)
    torch.testing.assert_close(encoder(wider, LENGTHS), together)
    alone = torch.cat([encoder(TOKENS[i : i + 1, : max(n, 1)], LENGTHS[i : i + 1]) for i, n in enumerate(LENGTHS)])
    torch.testing.assert_close(alone, together)
    (states, mask), (wide_states, wide_mask) = encoder.elements(TOKENS, LENGTHS), encoder.elements(wider, LENGTHS)
    assert torch.equal(mask, torch.arange(5) < LENGTHS[:, None]) and torch.equal(wide_mask[:, :5], mask)
    torch.testing.assert_close(wide_states[:, :5][mask], states[mask])


@every_title
def test_title_weights_are_a_share_of_the_tokens_that_exist(kind):
    weights = titles(kind).attention_weights(TOKENS, LENGTHS)
    assert weights.shape == TOKENS.shape and weights.min() >= 0
    torch.testing.assert_close(weights.sum(1), (LENGTHS > 0).float())
    assert weights[torch.arange(5) >= LENGTHS[:, None]].abs().sum() == 0


@every_title
def test_the_order_of_tokens_counts_except_in_a_bag(kind):
    encoder = titles(kind)
    turned = encoder(TOKENS[:1].flip(1), LENGTHS[:1])
    assert torch.allclose(turned, encoder(TOKENS[:1], LENGTHS[:1]), atol=1e-4) == (kind == "bag")


@every_title
def test_title_gradients_of_both_orders(kind):
    """Against finite differences in float64, in every parameter, and under vmap."""
    encoder = titles(kind, torch.float64)
    for part in encoder.modules():
        if isinstance(part, TitleEncoder):
            part.recurrence = "masked"
    names = [name for name, _ in encoder.named_parameters()]
    values = [p.detach().clone().requires_grad_() for p in encoder.parameters()]
    tokens, lengths = TOKENS[[1, 3, 4], :4], LENGTHS[[1, 3, 4]]

    def features(*values):
        return functional_call(encoder, dict(zip(names, values, strict=True)), (tokens, lengths))

    assert torch.autograd.gradcheck(features, values, fast_mode=True)
    assert torch.autograd.gradgradcheck(features, values, fast_mode=True)

    def loss(parameters, tokens, lengths):
        return functional_call(encoder, parameters, (tokens[None], lengths[None])).square().sum()

    each = vmap(grad(loss), in_dims=(None, 0, 0))(dict(encoder.named_parameters()), tokens, lengths)
    encoder(tokens, lengths).square().sum().backward()
    for name, p in encoder.named_parameters():
        torch.testing.assert_close(each[name].sum(0), p.grad)
        assert p.grad.abs().max() > 0, name


@every_title
def test_title_encoders_learn_what_a_title_says(kind):
    """Four classes by which of four tokens occurs among noise; chance is 25 %."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (64,), generator=generator)
    tokens = torch.randint(5, 12, (64, 6), generator=generator)
    tokens.scatter_(1, torch.randint(3, (64, 1), generator=generator), labels[:, None] + 1)
    lengths = torch.randint(3, 7, (64,), generator=generator)
    torch.manual_seed(0)
    encoder = titles(kind)
    head = nn.Linear(encoder.feature_dim, 4)
    optimizer = torch.optim.Adam([*encoder.parameters(), *head.parameters()], lr=0.02)
    for _ in range(60):
        loss = nn.functional.cross_entropy(head(encoder(tokens, lengths)), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert (head(encoder(tokens, lengths)).argmax(1) == labels).float().mean() > 0.9


def test_bag_and_convolutions_match_loops():
    bag, cnn = titles("bag"), titles("cnn")
    for row, n in enumerate(LENGTHS.tolist()):
        if n == 0:
            continue
        words = bag.embedding.weight[TOKENS[row, :n]]
        torch.testing.assert_close(bag(TOKENS, LENGTHS)[row], words.mean(0))
        maps = text_convolution_by_loops(
            cnn.embedding.weight[TOKENS[row, :n]].tolist(),
            [(layer.weight.tolist(), layer.bias.tolist()) for layer in cnn.convolutions],
        )
        torch.testing.assert_close(cnn(TOKENS, LENGTHS)[row], torch.tensor(maps))


def test_a_recurrent_bag_is_both_parts_side_by_side():
    both = titles("recurrent_bag")
    features, (states, _) = both(TOKENS, LENGTHS), both.elements(TOKENS, LENGTHS)
    for part, own in ((both.recurrent, slice(0, 8)), (both.bag, slice(8, 13))):
        assert torch.equal(features[:, own], part(TOKENS, LENGTHS))
        assert torch.equal(states[..., own], part.elements(TOKENS, LENGTHS)[0])


def test_transformer_block_matches_pytorchs_layer():
    """The same weights in PyTorch's own layer, title by title, without padding."""
    block = titles("transformer").blocks[0]
    peer = nn.TransformerEncoderLayer(8, 2, 32, 0.0, "gelu", batch_first=True, norm_first=True).eval()
    peer.self_attn.in_proj_weight, peer.self_attn.in_proj_bias = block.projections.weight, block.projections.bias
    peer.self_attn.out_proj, peer.norm1, peer.norm2 = block.out, block.norm1, block.norm2
    peer.linear1, peer.linear2 = block.network[0], block.network[2]
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(block(x, torch.ones(3, 5, dtype=torch.bool)), peer(x))
    mask = torch.arange(5) < torch.tensor([[5], [2], [3]])
    torch.testing.assert_close(block(x, mask)[mask], peer(x, src_key_padding_mask=~mask)[mask])


def test_title_encoders_refuse():
    with pytest.raises(
        ValueError, match="title encoder is 'lstm'; choose one of recurrent, bag, cnn, transformer, recurrent_bag"
    ):
        build_encoder({"title": {"vocab_size": 12, "kind": "lstm"}})
    with pytest.raises(ValueError, match=r"widths are \(2, 3\): give odd ones"):
        title_encoder(12, kind="cnn", widths=(2, 3))
    with pytest.raises(ValueError, match="dim=10 is no multiple of n_heads=4"):
        title_encoder(12, kind="transformer", dim=10)
    with pytest.raises(ValueError, match="a title has 5 tokens and max_length is 4: raise it"):
        title_encoder(12, kind="transformer", dim=8, max_length=4)(TOKENS, LENGTHS)


@pytest.mark.parametrize("kind", ["bag", "cnn", "transformer", "recurrent_bag"])
def test_every_title_encoder_is_fused_with_an_image(kind):
    for fusion_kind in FUSIONS:
        fused = {"kind": fusion_kind, "dim": 12}
        title = {"vocab_size": 12, "kind": kind, **SMALL[kind]}
        encoder = build_encoder({"image": {"name": "conv4", "width": 8}, "title": title, "fusion": fused}).eval()
        images = torch.randint(256, (5, 16, 16, 3), dtype=torch.uint8)
        features = encoder(ProductInputs(images, None, TOKENS, LENGTHS))
        assert features.shape == (5, 12) and features.isfinite().all() and encoder.modality == "image+title"


# --- fusion ------------------------------------------------------------------------------------------------------

DIMS = {"image": 6, "title": 4, "price": 3}
PRESENT = {
    "image": torch.tensor([True, True, False, True]),
    "title": torch.tensor([True, False, True, True]),
    "price": torch.tensor([True, False, False, True]),
}


ELEMENTS = {"image": 4, "title": 3, "price": 2}  # of a product's modality, for fusions that read elements
every_kind = pytest.mark.parametrize("kind", FUSIONS.values(), ids=FUSIONS)


def features(kind=AttentionFusion, n: int = 4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = {name: (n, ELEMENTS[name]) if kind.reads_elements else (n,) for name in DIMS}
    return {name: torch.randn(*shapes[name], size, generator=generator) for name, size in DIMS.items()}


def masks(kind, present=PRESENT) -> dict[str, torch.Tensor]:
    """Of elements, the last one of every second product is missing too."""
    if not kind.reads_elements:
        return present
    last = {name: (torch.arange(4) % 2 == 0)[:, None] & (torch.arange(p) == p - 1) for name, p in ELEMENTS.items()}
    return {name: mask[:, None] & ~last[name] for name, mask in present.items()}


def fusion(kind=AttentionFusion, dims=DIMS, dim=8) -> nn.Module:
    torch.manual_seed(0)
    return kind(dims, dim).eval()


def test_weights_differ_and_depend_on_the_content():
    """The usual mistake is a softmax over a dimension of size one: every weight is then 1 (checked by making it)."""
    model, everything = fusion(), {name: torch.ones(4, dtype=torch.bool) for name in DIMS}
    weights = model.weights(features(), everything)
    assert weights.shape == (4, 3)
    torch.testing.assert_close(weights.sum(1), torch.ones(4))
    assert (weights.max(1).values - weights.min(1).values).min() > 0.01  # the modalities of each product
    assert weights.std(0).min() > 0.005  # the products
    assert weights.max() < 0.999


def test_weights_match_attention_in_loops():
    model = fusion()
    given = features()
    weights, output = model.weights(given, PRESENT), model(given, PRESENT)
    zero = [0.0] * model.query.weight.shape[0]
    identity = torch.eye(len(zero)).tolist()
    for row in range(4):
        x = {name: model.norms[name](given[name][row]) for name in DIMS}
        keys = [model.keys[name](x[name]).tolist() for name in DIMS]
        mask = [bool(PRESENT[name][row]) for name in DIMS]
        there = [key for key, real in zip(keys, mask, strict=True) if real]
        query = [sum(column) / len(there) for column in zip(*there, strict=True)]
        _, expected = additive_attention_by_loops(
            query, keys, mask, model.query.weight.tolist(), zero, identity, model.score.weight[0].tolist()
        )
        torch.testing.assert_close(weights[row], torch.tensor(expected))
        blocks = [
            (1 + sum(mask) * weight) / 2 * real * model.blocks[name](x[name])
            for weight, real, name in zip(expected, mask, DIMS, strict=True)
        ]
        torch.testing.assert_close(output[row], torch.cat(blocks))


@every_kind
@pytest.mark.parametrize("stand_in", [0.0, 1e6, float("nan")])
def test_features_of_a_missing_modality_change_neither_value_nor_gradient(kind, stand_in):
    def run(given):
        model = fusion(kind)
        output = model(given, masks(kind))
        output.square().sum().backward()
        return output, [p.grad for p in model.parameters()]

    there = masks(kind)
    garbage = {name: torch.where(there[name].unsqueeze(-1), x, stand_in) for name, x in features(kind).items()}
    (output, gradients), (expected, expected_gradients) = run(garbage), run(features(kind))
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(gradients, expected_gradients)
    assert output.isfinite().all()


@every_kind
def test_what_is_missing_or_zero_leaves_second_derivatives_finite(kind):
    """Before training too, when unit attention's running means are zero like a picture that left every ReLU at zero."""
    model = fusion(kind, dim=None if kind is UnitAttentionFusion else 8)
    given, scale = features(kind), torch.ones((), requires_grad=True)
    given["image"][0] = 0
    output = model({name: scale * x for name, x in given.items()}, masks(kind))
    parameters = [scale, *model.parameters()]
    gradients = torch.autograd.grad(output.pow(3).sum(), parameters, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(sum(g.square().sum() for g in gradients), parameters, materialize_grads=True)
    assert all(g.isfinite().all() for g in (*gradients, *second))
    assert any(g.any() for g in second)


@every_kind
def test_a_modality_left_out_is_missing_from_every_product(kind):
    model, given = fusion(kind), features(kind)
    everywhere = {name: torch.ones(x.shape[:-1], dtype=torch.bool) for name, x in given.items()}
    without = model(given, everywhere | {"price": ~everywhere["price"]})
    torch.testing.assert_close(model({"image": given["image"], "title": given["title"]}, {}), without)
    assert (without - model(given, everywhere)).abs().max() > 0.1


@every_kind
def test_every_modality_and_every_parameter_takes_part(kind):
    model, given = fusion(kind), {name: x.requires_grad_() for name, x in features(kind).items()}
    there = masks(kind)
    output = model(given, there)
    assert output.shape == (4, 8) and model.feature_dim == 8
    (output * torch.randn(4, 8, generator=torch.Generator().manual_seed(3))).sum().backward()
    assert all(x.grad[there[name]].abs().sum(1).min() > 0 for name, x in given.items())
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_concatenation_is_attention_with_equal_weights():
    attention, concat = fusion(), fusion(ConcatFusion)
    concat.load_state_dict(attention.state_dict(), strict=False)
    everywhere = {name: torch.ones(4, dtype=torch.bool) for name in DIMS}
    assert (attention(features(), everywhere) - concat(features(), everywhere)).abs().max() > 0.01
    nn.init.zeros_(attention.score.weight)
    torch.testing.assert_close(attention(features(), everywhere), concat(features(), everywhere))


def test_one_modality_alone_has_weight_one():
    model = fusion(dims={"image": 6})
    weights = model.weights({"image": features()["image"]}, {})
    assert weights.tolist() == [[1.0]] * 4


@every_kind
def test_fusion_in_a_batch_equals_fusion_one_by_one(kind):
    model, given, there = fusion(kind), features(kind), masks(kind)
    together = model(given, there)
    for i in range(4):
        one = model({n: x[i : i + 1] for n, x in given.items()}, {n: p[i : i + 1] for n, p in there.items()})
        torch.testing.assert_close(one[0], together[i])
    mapped = vmap(lambda x, p: model({n: v[None] for n, v in x.items()}, {n: v[None] for n, v in p.items()})[0])(
        given, there
    )
    torch.testing.assert_close(mapped, together)


@every_kind
def test_products_without_any_modality_are_refused(kind):
    nothing = {name: torch.tensor([True, True, False, True]) for name in DIMS}
    with pytest.raises(ValueError, match=r"1 of 4 products have none of .*first at position 2 of the batch; leave"):
        fusion(kind)(features(kind), masks(kind, nothing))
    with pytest.raises(ValueError, match=r"features of \['sound'\]; this fusion knows \['image', 'title', 'price'\]"):
        fusion(kind)({"sound": torch.zeros(4, 6)}, {})
    with pytest.raises(ValueError, match="features of no modality"):
        fusion(kind)({}, {})
    with pytest.raises(ValueError, match="at least one modality and one output dimension each"):
        kind(DIMS, 2)


@every_kind
def test_fusion_learns_what_only_both_modalities_tell(kind):
    """The image tells one half of the answer and the title the other: chance is 25 %, either alone gives 50 %."""
    generator = torch.Generator().manual_seed(0)
    classes = torch.randint(4, (64,), generator=generator)
    noise = torch.randn(64, 10, generator=generator)
    image, title = noise[:, :6].clone(), noise[:, 6:].clone()
    image[:, 0] += 4.0 * (classes // 2) - 2
    title[:, 0] += 4.0 * (classes % 2) - 2
    given = {"image": image, "title": title}
    if kind.reads_elements:  # beside an element of noise
        given = {name: torch.stack([torch.randn(x.shape, generator=generator), x], 1) for name, x in given.items()}
    torch.manual_seed(0)
    model = nn.ModuleDict({"fusion": kind({"image": 6, "title": 4}, 8), "head": nn.Linear(8, 4)})
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(80):
        optimizer.zero_grad()
        logits = model["head"](model["fusion"](given, {}))
        nn.functional.cross_entropy(logits, classes).backward()
        optimizer.step()
    assert (logits.argmax(1) == classes).float().mean() > 0.9


def test_gated_fusion_matches_loops():
    model, given = fusion(GatedFusion), features(GatedFusion)
    output = model(given, PRESENT)
    for row in range(4):
        x = {n: (model.norms[n](given[n][row]) if PRESENT[n][row] else torch.zeros(DIMS[n])).tolist() for n in DIMS}
        expected = gated_unit_by_loops(
            list(x.values()),
            [bool(PRESENT[n][row]) for n in DIMS],
            [(model.values[n].weight.tolist(), model.values[n].bias.tolist()) for n in DIMS],
            [(model.gates[n].weight.tolist(), model.gates[n].bias.tolist()) for n in DIMS],
        )
        torch.testing.assert_close(output[row], torch.tensor(expected))


def test_a_linear_head_on_late_fusion_averages_the_modalities_logits():
    model, given = fusion(LateFusion), features()
    head = nn.Linear(8, 5, bias=False)
    fused = head(model(given, PRESENT))
    own = {}
    for name, x in given.items():  # the logits of each modality as if it were alone
        one = {n: torch.full((4,), n == name) for n in DIMS}
        own[name] = head(model({name: x}, {name: one[name]}))
    for row in range(4):
        there = [own[name][row] for name in DIMS if PRESENT[name][row]]
        torch.testing.assert_close(fused[row], torch.stack(there).mean(0))
    norms = model({"image": given["image"]}, {}).norm(dim=1)
    torch.testing.assert_close(norms, torch.ones(4))


def test_co_attention_matches_loops():
    model, given, there = fusion(CoAttentionFusion), features(CoAttentionFusion), masks(CoAttentionFusion)
    weights = model.weights(given, there)
    for row in range(4):
        x = [model.norms[n](given[n][row]).tolist() for n in DIMS]
        expected = co_attention_by_loops(
            x,
            [there[n][row].tolist() for n in DIMS],
            [(model.keys[n].weight.tolist(), model.keys[n].bias.tolist()) for n in DIMS],
            [model.guides[n].weight.tolist() for n in DIMS],
            [model.scores[n].weight[0].tolist() for n in DIMS],
        )
        for name, one in zip(DIMS, expected, strict=True):
            torch.testing.assert_close(weights[name][row], torch.tensor(one))
            assert weights[name][row][~there[name][row]].abs().sum() == 0


def test_co_attention_to_the_picture_depends_on_the_title():
    model, given, there = fusion(CoAttentionFusion), features(CoAttentionFusion), masks(CoAttentionFusion)
    before = model.weights(given, there)["image"]
    other = model.weights(given | {"title": given["title"] + torch.randn(4, 3, 4)}, there)["image"]
    changed = (before - other).abs().amax(1)
    assert changed[PRESENT["title"] & PRESENT["image"]].min() > 1e-4  # a missing title guides nothing
    assert changed[~PRESENT["title"]].max() == 0


def three_modalities(n: int = 4) -> ProductInputs:
    """Pictures, titles and two attributes; product 1 has attributes alone, and of product 2 only the first is known."""
    generator = torch.Generator().manual_seed(0)
    attributes = torch.tensor([[1, 2], [3, 1], [2, 0], [3, 2]])
    return ProductInputs(
        images=torch.randint(256, (n, 32, 32, 3), dtype=torch.uint8, generator=generator),
        has_image=torch.tensor([True, False, True, True]),
        tokens=TOKENS[[0, 3, 1, 3]],
        lengths=LENGTHS[[0, 3, 1, 3]],
        attributes=attributes,
    )


@pytest.mark.parametrize("kind", FUSIONS)
def test_a_third_modality_joins_image_and_title(kind):
    """Colour and gender as categorical embeddings: only the config names them, no other part of the encoder changes."""
    config = {
        "image": {"name": "conv4", "width": 8},
        "title": {"vocab_size": 12, "embedding_dim": 4, "hidden_size": 4},
        "attributes": {"sizes": [3, 2], "dim": 6},
        "fusion": {"kind": kind, "dim": 12},
    }
    torch.manual_seed(0)
    encoder, inputs = build_encoder(config).eval(), three_modalities()
    before = encoder(inputs)
    assert before.shape == (4, 12) and encoder.modality == "image+title+attributes"
    other = replace(inputs, attributes=torch.tensor([[2, 2], [3, 1], [2, 0], [3, 2]]))
    changed = (encoder(other) - before).abs().amax(1)
    assert changed[0] > 1e-3 and changed[1:].max() < 1e-6
    encoder(inputs).square().sum().backward()
    assert all(table.weight.grad[1:].abs().sum() > 0 for table in encoder.attributes.values)
    unknown = replace(inputs, attributes=torch.zeros_like(inputs.attributes))
    with pytest.raises(ValueError, match=r"1 of 4 products have none of the modalities .*first at position 1 of"):
        encoder(unknown)


def test_encoders_refuse_fusions_that_do_not_fit():
    image, title = {"name": "conv4", "width": 8}, {"vocab_size": 12}
    with pytest.raises(ValueError, match="fusion is 'sum'; choose one of attention, unit_attention, concat"):
        build_encoder({"image": image, "title": title, "fusion": {"kind": "sum", "dim": 8}})
    with pytest.raises(ValueError, match=r"several modalities; here are \['image'\]"):
        build_encoder({"image": image, "fusion": {"kind": "concat", "dim": 8}})
    with pytest.raises(ValueError, match="which torchvision's 'shufflenet_v2_x0_5' does not give: choose conv4"):
        fused = {"kind": "co_attention", "dim": 8}
        build_encoder({"image": {"name": "shufflenet_v2_x0_5"}, "title": title, "fusion": fused})


# --- the full classifier -----------------------------------------------------------------------------------------


def test_cosine_head():
    head = CosineHead(4, 3, logit_scale=10.0)
    x = torch.randn(5, 4)
    cosines = nn.functional.cosine_similarity(x[:, None], head.weight[None], dim=-1)
    torch.testing.assert_close(head(x), 10 * cosines)
    torch.testing.assert_close(head(100 * x), head(x))
    sharper = copy.deepcopy(head)
    sharper.logit_scale.data *= 2  # it multiplies: more is sharper
    assert (sharper(x).softmax(1).max(1).values > head(x).softmax(1).max(1).values).all()
    head(x).sum().backward()
    assert head.logit_scale.grad.abs() > 0


@pytest.mark.parametrize("head", ["linear", "cosine"])
def test_full_classifier_learns_products_that_lack_a_modality(head):
    """Eight products, some without image, some without title, one class each: chance is 12.5 %."""
    titles = ["red shoe", "blue shoe", "红色 鞋", None, "蓝色 鞋", "🎁", None, "red bag"]
    tokenizer = TitleTokenizer.train(titles * 2, vocab_size=300)
    tokens, lengths = tokenizer.encode(titles)
    images = torch.randint(256, (8, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    has_image = torch.tensor([True, False, True, True, False, False, True, True])
    inputs = ProductInputs(images, has_image, tokens, lengths)
    torch.manual_seed(0)
    encoder = build_encoder(
        {
            "image": {"name": "conv4", "width": 8, "norm": "group"},
            "title": {"vocab_size": tokenizer.vocab_size, "embedding_dim": 8, "hidden_size": 8},
            "fusion": {"kind": "attention", "dim": 16},
        }
    )
    model = ProductClassifier(encoder, 8, head=head)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(60):
        optimizer.zero_grad()
        logits = model(inputs)
        nn.functional.cross_entropy(logits, torch.arange(8)).backward()
        optimizer.step()
    assert logits.shape == (8, 8)
    assert (model.eval()(inputs).argmax(1) == torch.arange(8)).all()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_an_unknown_head_is_refused():
    encoder = build_encoder({"image": {"name": "conv4", "width": 8, "norm": "group"}})
    with pytest.raises(ValueError, match=r"head is 'mlp'; choose one of \['linear', 'cosine'\]"):
        ProductClassifier(encoder, 3, head="mlp")


# --- attention over centred blocks of unit length ------------------------------------------------------------------


def unit_fusion(**options) -> UnitAttentionFusion:
    torch.manual_seed(0)
    model = UnitAttentionFusion(DIMS, **options)
    with torch.no_grad():
        for centre in model.centres.values():
            centre.running_mean.normal_()
    return model.eval()


def test_unit_attention_matches_its_equations_in_loops():
    model, given = unit_fusion(shares={"title": 0.5}, spread=0.3), features()
    output, weights = model(given, PRESENT), model.weights(given, PRESENT)
    assert output.shape == (4, 13) and model.feature_dim == 13
    for row in range(4):
        there = [name for name in DIMS if PRESENT[name][row]]
        unit = {}
        for name in there:
            x = given[name][row] - model.centres[name].running_mean
            unit[name] = x / x.pow(2).sum().sqrt()
        keys = {name: model.keys[name](10 * unit[name]) for name in there}
        query = model.query(sum(keys.values()) / len(there))
        p = torch.tensor([0.5 if name == "title" else 1.0 for name in there])
        scores = torch.stack([model.score(torch.tanh(query + keys[name]))[0] for name in there])
        a = 0.7 * p / p.sum() + 0.3 * (p * scores.exp()) / (p * scores.exp()).sum()
        weight = dict(zip(there, a, strict=True))
        torch.testing.assert_close(weights[row], torch.stack([weight.get(n, torch.tensor(0.0)) for n in DIMS]))
        blocks = [10 * weight[n].sqrt() * unit[n] if n in unit else torch.zeros(size) for n, size in DIMS.items()]
        torch.testing.assert_close(output[row], torch.cat(blocks))


def test_without_attention_similarity_is_the_weighted_mean_of_cosines():
    """And a product without a title is to every complete one as its image is, up to one factor."""
    model, given = unit_fusion(shares={"title": 0.5}, spread=0.0), features()
    everywhere = {name: torch.ones(4, dtype=torch.bool) for name in DIMS}
    whole = model(given, everywhere) / 10
    cosines = {}
    for name in DIMS:
        unit = nn.functional.normalize(given[name] - model.centres[name].running_mean, dim=1)
        cosines[name] = unit @ unit.T
    torch.testing.assert_close(whole @ whole.T, (cosines["image"] + 0.5 * cosines["title"] + cosines["price"]) / 2.5)
    image = model(given, {n: there & (n == "image") for n, there in everywhere.items()}) / 10
    torch.testing.assert_close(image @ whole.T, cosines["image"] * (1 / 2.5) ** 0.5)


def test_centres_are_means_over_the_products_that_have_the_modality():
    torch.manual_seed(0)
    model = UnitAttentionFusion({"image": 3, "title": 2}).train()
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        image, title = (torch.randn(32, size, generator=generator) + 5 for size in (3, 2))
        has_title = torch.rand(32, generator=generator) < 0.5
        title[~has_title] = 1e3
        model({"image": image, "title": title}, {"title": has_title})
    for centre in model.centres.values():
        torch.testing.assert_close(centre.running_mean, torch.full_like(centre.running_mean, 5.0), atol=0.2, rtol=0)
    one = {"title": torch.tensor([True, False])}  # one row has no batch statistics
    assert model({"image": torch.randn(2, 3), "title": torch.randn(2, 2)}, one).isfinite().all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shares": {"titel": 0.5}}, "shares has 'titel': 0.5; give numbers above 0 for modalities of"),
        ({"shares": {"title": 0.0}}, "shares has 'title': 0.0; give numbers above 0"),  # a lone title would be lost
        ({"spread": 1.5}, "spread is 1.5"),
    ],
)
def test_unit_attention_refuses_shares_that_it_could_not_keep(options, message):
    with pytest.raises(ValueError, match=message):
        UnitAttentionFusion(DIMS, **options)


@pytest.mark.parametrize("norm", ["batch", "support"])
def test_unit_attention_is_adapted_with_its_running_means(norm):
    config = {"image": {"name": "conv4", "width": 8}, "title": {"vocab_size": 12}, "fusion": {"kind": "unit_attention"}}
    with pytest.raises(ValueError, match=f"norm='{norm}' takes away the means .*: use 'frozen'"):
        Learner(build_encoder(config), 3, norm=norm)
