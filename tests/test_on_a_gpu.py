"""Nothing stays behind when encoders and features are on a GPU.

None is needed: tensors without values know their device, and mixing two devices is an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode

from fewshot_prod import selection
from fewshot_prod.catalog import load_catalog
from fewshot_prod.encoders.fusion import blocks
from fewshot_prod.encoders.heads import attach_head
from fewshot_prod.encoders.product import ProductEncoder, build_encoder
from fewshot_prod.episodes import EpisodeBatch, EpisodeSampler
from fewshot_prod.features import embed, image_part
from fewshot_prod.inputs import ProductInputs
from fewshot_prod.methods import METHODS
from fewshot_prod.methods.am3 import AM3, AdaptiveMixing, fit_mixing
from fewshot_prod.pools import Pools
from fewshot_prod.prepare import Prepared
from fewshot_prod.selection import FewShotValidation
from fewshot_prod.splits import default_split

CATEGORIES = np.repeat(np.arange(4), 6)


def to(module: nn.Module, device: torch.device | None = None, **options: object) -> nn.Module:
    """Module.to, which swaps tensors; those without values do not let it do so."""
    for part in module.modules():
        for name, p in part._parameters.items():
            if p is not None and p.device != device is not None:
                part._parameters[name] = nn.Parameter(p.detach().to(device))
        for name, buffer in part._buffers.items():
            part._buffers[name] = buffer if buffer is None else buffer.to(device)
    return module


@pytest.fixture
def gpu(monkeypatch) -> Iterator[torch.device]:
    """A GPU that is not there. What looks at values cannot run on it, such as the check of episodes."""
    monkeypatch.setattr(nn.Module, "to", to)
    monkeypatch.setattr(EpisodeBatch, "__post_init__", lambda self: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield torch.device("cuda", 0)


def products() -> ProductInputs:
    return ProductInputs(torch.zeros(24, 16, 16, 3, dtype=torch.uint8), torch.ones(24, dtype=torch.bool))


def conv4(head: str | None = None) -> ProductEncoder:
    encoder = build_encoder({"image": {"name": "conv4", "width": 8}})
    if head:
        attach_head(encoder, head)
    return encoder


def test_two_devices_do_not_mix(gpu):
    """Else the tests below test nothing."""
    with pytest.raises(RuntimeError, match="at least two devices"):
        conv4().to(gpu)(products())


@pytest.mark.parametrize("name", ["relation", "feat"])
def test_validation_scores_a_method_whose_module_is_the_encoder_s_head(name, gpu, monkeypatch):
    logits = []

    class Logits(Exception):
        """Accuracies need values."""

    def logits_alone(method, pool, sampler, n_episodes):
        logits.append(method(pool, sampler.sample(0, n_episodes).to(pool.device)))
        raise Logits

    monkeypatch.setattr(selection, "evaluate", logits_alone)
    encoder = conv4(name).to(gpu)
    validation = FewShotValidation(products(), CATEGORIES, np.arange(24), n_way=3, n_query=2, n_episodes=4)
    with pytest.raises(Logits):
        validation.score(encoder, METHODS[name](encoder.head))
    assert logits[0].device == gpu and logits[0].shape == (4, 6, 3)


def test_pools_give_methods_their_features_where_the_encoder_is(gpu, monkeypatch):
    monkeypatch.setattr(Pools, "features", lambda self: torch.zeros(24, 8))
    encoder, catalog = conv4("relation").to(gpu), load_catalog("synthetic", products_per_category=2)
    pools = Pools(Prepared(encoder, {}), catalog, default_split(catalog))
    assert pools.of(METHODS["relation"](encoder.head)).device == gpu


def test_am3_is_fitted_and_used_where_the_features_are(gpu, monkeypatch):
    monkeypatch.setattr(torch.Tensor, "backward", lambda loss: None)  # autograd asks the GPU itself
    features, names = torch.zeros(24, 8, device=gpu), torch.eye(4)
    mixing = fit_mixing(features, CATEGORIES, np.arange(24), names, n_way=3, n_query=2, n_iterations=1)
    assert mixing.to_share[0].weight.device == gpu
    episodes = EpisodeSampler(CATEGORIES, np.arange(24), n_way=3, n_shot=1, n_query=2, seed=0).sample(0, 2).to(gpu)
    for fitted in (mixing, AdaptiveMixing(4, 8)):  # here, and on the CPU
        assert AM3(fitted, names)(features, episodes).device == gpu


def test_attention_reads_a_batch_at_a_time_where_the_encoder_is(gpu, monkeypatch):
    monkeypatch.setattr(blocks, "_refuse_empty", lambda *_: None)  # looks at values
    title = {"vocab_size": 9, "kind": "cnn", "embedding_dim": 8}
    parts = {"image": {"name": "conv4", "width": 8}, "title": title, "fusion": {"kind": "attention", "dim": 8}}
    inputs = replace(products(), tokens=torch.ones(24, 3, dtype=torch.int64), lengths=torch.full((24,), 3))
    found = build_encoder(parts).to(gpu).attention(inputs, batch_size=10)
    assert {name: tuple(t.shape) for name, t in found.items()} == {"tokens": (24, 3), "modalities": (24, 2)}
    assert {t.device.type for t in found.values()} == {"cpu"}


def test_the_image_part_reads_images_where_the_whole_encoder_is(gpu):
    features = embed(image_part(conv4().to(gpu)), products())
    assert features.device.type == "cpu" and features.shape == (24, 8)
